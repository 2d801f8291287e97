"""QGA sessions as tests need them, agents' reports, and what happens to their port."""

from sidecar.protocol.qga_commands import FROZEN_COMMANDS, QGA_COMMANDS
from sidecar.protocol.qga_host import QgaSession
from sidecar.protocol.qga_report import Report, judge_report
from sidecar.protocol.qga_states import Stage, Step
from sidecar.protocol.releases import Release
from sidecar.protocol.states import ChannelView, Port, Reason, State

NEVER = float("inf")
TEN = Release(10, 0)
WAITING = ChannelView(State.WAITING, "0", None, "10.0", Reason.NOT_HEARD)
AGREED = ChannelView(State.AGREED, "7.2", "7.2.22", "10.0", None)


def report(version: str = "7.2.22", *, frozen: bool = False) -> Report:
    return judge_report(version, [(name, not frozen or name in FROZEN_COMMANDS) for name in QGA_COMMANDS])


HEALTHY, FROZEN = report(), report(frozen=True)


def new_session(port: Port = Port.OPEN, maximum: Release = TEN, stage: Stage = Stage.UNHEARD) -> QgaSession:
    return QgaSession(maximum=maximum, absent_s=120.0, now=0.0, port=port, stage=stage)


def answer(session: QgaSession, what: Report | Step | None, now: float) -> None:
    """Let the time come, ask, and have the agent answer so, or not."""
    session.tick(now)
    assert session.ask_due
    number = session.begin_round()
    if isinstance(what, Report):
        session.receive_report(number, what, now)
    else:
        session.fail(number, what, now)


def agreed(port: Port = Port.OPEN) -> QgaSession:
    session = new_session(port)
    answer(session, HEALTHY, 0.0)
    return session


def state_of(session: QgaSession) -> tuple[State, Reason | None]:
    return session.view.state, session.view.reason


def due_at(session: QgaSession) -> float:
    """When its owner has to do something: tell it the time, or ask the agent."""
    return min(session.deadline, session.ask_at)


def close_and_open(session: QgaSession) -> None:
    session.port_closed(1.0)
    session.port_opened(1.0)


def lose_and_find(session: QgaSession) -> None:
    session.lose_track()
    session.port_seen(True, 1.0)
