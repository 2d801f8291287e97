"""The life of one QGA session: when the agent is asked, whose answer counts, and what its port and time bring."""

from collections.abc import Callable

import pytest

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


# The start.


@pytest.mark.parametrize("port", [Port.OPEN, Port.HEARD])
def test_an_open_end_is_asked_at_once(port: Port) -> None:
    session = new_session(port)
    assert session.view == WAITING
    assert session.port_open
    assert (session.ask_due, due_at(session)) == (True, 0.0)


@pytest.mark.parametrize("port", [Port.CLOSED, Port.UNKNOWN])
def test_nobody_is_asked_before_the_end_opens(port: Port) -> None:
    session = new_session(port)
    session.tick(100.0)
    session.doubt(100.0)
    assert session.view == WAITING
    assert (session.port_open, session.ask_due, due_at(session)) == (False, False, 120.0)
    session.port_opened(101.0)
    assert (session.ask_due, due_at(session)) == (True, 101.0)
    answer(session, HEALTHY, 101.0)
    assert session.view == AGREED


def test_while_it_is_asked_it_is_not_asked_again() -> None:
    session = new_session()
    session.begin_round()
    session.tick(1000.0)
    assert (session.ask_due, due_at(session)) == (False, NEVER)


@pytest.mark.parametrize(
    ("version", "maximum", "view"),
    [
        ("7.2.22", "10.0", AGREED),
        ("7.2.22", "5.2", ChannelView(State.AGREED, "5.2", "7.2.22", "5.2", None)),
        ("1.9.0", "1.10", ChannelView(State.AGREED, "1.9", "1.9.0", "1.10", None)),
        ("11.2.0", "10.0", ChannelView(State.AGREED, "10.0", "11.2.0", "10.0", None)),
        ("102.10.0", "9.1", ChannelView(State.AGREED, "9.1", "102.10.0", "9.1", Reason.INFERRED)),
        ("", "10.0", ChannelView(State.AGREED, "10.0", None, "10.0", Reason.INFERRED)),
        ("7.2.22", "0", ChannelView(State.UNVERSIONED, "0", "7.2.22", "0", Reason.HOST_CAPPED)),
    ],
)
def test_the_lower_of_both_is_agreed(version: str, maximum: str, view: ChannelView[str]) -> None:
    session = new_session(maximum=Release.parse(maximum))
    answer(session, report(version), 0.0)
    assert session.view == view
    assert due_at(session) == NEVER


# Whose answer counts.


def close_and_open(session: QgaSession) -> None:
    session.port_closed(1.0)
    session.port_opened(1.0)


def lose_and_find(session: QgaSession) -> None:
    session.lose_track()
    session.port_seen(True, 1.0)


def cut_and_connect(session: QgaSession) -> None:
    session.disconnect(1.0, Step.DISCONNECTED)
    session.connect(1.0)


MET_ANEW: list[Callable[[QgaSession], None]] = [
    close_and_open,
    lose_and_find,
    cut_and_connect,
    lambda s: s.port_opened(1.0),
    lambda s: s.connect(1.0),
]


@pytest.mark.parametrize("meet", MET_ANEW)
def test_another_agent_is_asked_anew_and_the_answer_of_the_first_dropped(meet: Callable[[QgaSession], None]) -> None:
    session = new_session()
    stale = session.begin_round()
    meet(session)
    assert session.ask_due
    number = session.begin_round()
    session.receive_report(stale, HEALTHY, 2.0)
    session.fail(stale, Step.SILENCE, 2.0)
    assert (session.view, due_at(session)) == (WAITING, NEVER)
    session.receive_report(number, report("8.2.0"), 3.0)
    assert session.view.version == "8.2"
    session.receive_report(stale, FROZEN, 4.0)
    assert session.view == ChannelView(State.AGREED, "8.2", "8.2.0", "10.0", None)


@pytest.mark.parametrize("meet", MET_ANEW)
def test_nothing_is_agreed_with_another_agent(meet: Callable[[QgaSession], None]) -> None:
    session = agreed()
    meet(session)
    assert (session.view, session.ask_due) == (WAITING, True)


def test_the_answer_of_somebody_who_has_gone_is_dropped() -> None:
    session = new_session()
    number = session.begin_round()
    session.port_closed(1.0)
    session.receive_report(number, HEALTHY, 2.0)
    session.fail(number, Step.SILENCE, 2.0)
    assert state_of(session) == (State.LOST, Reason.PORT_CLOSED)
    assert due_at(session) == NEVER


def test_the_report_of_an_opening_that_is_known_already_changes_nothing() -> None:
    session = new_session(Port.HEARD)
    number = session.begin_round()
    session.port_opened(0.1)
    assert not session.ask_due
    session.receive_report(number, HEALTHY, 2.0)
    assert session.view == AGREED
    session.port_opened(3.0)  # the second one is another agent's: a closing between them was swallowed
    assert (session.view, session.ask_due) == (WAITING, True)


def test_what_the_xml_shows() -> None:
    session = agreed()
    session.port_seen(True, 1.0)
    assert (session.view, session.ask_due) == (AGREED, False)
    session.port_seen(False, 2.0)
    assert session.view == ChannelView(State.LOST, "0", "7.2.22", "10.0", Reason.PORT_CLOSED)
    session.port_seen(False, 3.0)
    session.port_seen(True, 4.0)
    assert (session.view, session.ask_due) == (WAITING, True)
    answer(session, HEALTHY, 4.0)
    session.port_opened(4.1)  # the report of what the XML showed
    assert (session.view, session.ask_due) == (AGREED, False)


def test_a_report_long_after_the_xml_is_of_another_agent() -> None:
    session = new_session(Port.HEARD)
    answer(session, HEALTHY, 0.0)
    session.port_opened(0.5)
    assert (session.view, session.ask_due) == (WAITING, True)


def resumed(offer: str, version: str) -> QgaSession:
    agreed = Release.parse(version)
    return QgaSession(maximum=TEN, absent_s=120.0, now=0.0, port=Port.HEARD, offer=offer, agreed=agreed)


def test_frozen_when_we_come_back_keeps_what_the_same_agent_had_agreed() -> None:
    session = resumed("7.2.22", "7.2")
    answer(session, FROZEN, 0.0)
    assert session.view == ChannelView(State.AGREED, "7.2", "7.2.22", "10.0", Reason.GUEST_FROZEN)
    other = resumed("5.2.0", "5.2")
    answer(other, FROZEN, 0.0)
    assert state_of(other) == (State.WAITING, Reason.GUEST_FROZEN)


def test_frozen_after_its_end_opened_anew_keeps_nothing() -> None:
    session = resumed("7.2.22", "7.2")
    session.port_closed(1.0)
    session.port_opened(2.0)
    answer(session, FROZEN, 2.0)
    assert state_of(session) == (State.WAITING, Reason.GUEST_FROZEN)


def test_frozen_while_libvirt_was_away_keeps_what_was_agreed() -> None:
    session = agreed()
    session.lose_track()
    session.port_seen(True, 1.0)
    answer(session, FROZEN, 1.0)
    assert session.view == ChannelView(State.AGREED, "7.2", "7.2.22", "10.0", Reason.GUEST_FROZEN)


def test_who_is_seen_once_after_reports_were_lost_is_known_again() -> None:
    session = agreed()
    lose_and_find(session)
    answer(session, HEALTHY, 1.0)
    session.port_seen(True, 2.0)
    assert (session.view, session.ask_due) == (AGREED, False)


def test_a_connection_that_broke() -> None:
    session = agreed()
    session.disconnect(1.0, Step.DISCONNECTED)
    assert session.view == ChannelView(State.LOST, "0", "7.2.22", "10.0", Reason.DISCONNECTED)
    assert due_at(session) == NEVER
    session.connect(2.0)
    answer(session, HEALTHY, 2.0)
    assert session.view == AGREED


# Time.


@pytest.mark.parametrize("port", [Port.CLOSED, Port.UNKNOWN])
def test_absent_after_absent_seconds(port: Port) -> None:
    session = new_session(port)
    session.tick(119.999)
    assert session.view == WAITING
    session.tick(120.0)
    assert state_of(session) == (State.ABSENT, Reason.NOT_OPENED)
    assert due_at(session) == NEVER
    session.connect(121.0)  # dialling again opens nothing
    assert state_of(session) == (State.ABSENT, Reason.NOT_OPENED)
    session.port_opened(130.0)
    assert (session.view, session.ask_due) == (WAITING, True)


def test_who_was_there_is_never_absent() -> None:
    session = agreed()
    session.port_closed(1.0)
    session.tick(1000.0)
    assert state_of(session) == (State.LOST, Reason.PORT_CLOSED)


@pytest.mark.parametrize("stage", [Stage.CLOSED, Stage.NOT_OPENED])
def test_what_was_lost_or_absent_stays_so_until_the_end_opens(stage: Stage) -> None:
    session = new_session(Port.CLOSED, stage=stage)
    session.tick(1000.0)
    assert (state_of(session), due_at(session)) == ((stage.state, stage.reason), NEVER)
    session.port_opened(1001.0)
    answer(session, HEALTHY, 1001.0)
    assert session.view == AGREED


# Asking again.


@pytest.mark.parametrize(
    ("what", "view"),
    [
        (FROZEN, ChannelView(State.WAITING, "0", "7.2.22", "10.0", Reason.GUEST_FROZEN)),
        (Step.SILENCE, ChannelView(State.LOST, "0", None, "10.0", Reason.AGENT_SILENT)),
        (Step.POISONED, ChannelView(State.LOST, "0", None, "10.0", Reason.AGENT_POISONED)),
        (Step.BAD_REPLY, ChannelView(State.LOST, "0", None, "10.0", Reason.BAD_REPLY)),
        (Step.JOB_HELD, ChannelView(State.WAITING, "0", None, "10.0", Reason.AGENT_JOB_HELD)),
        (None, WAITING),
    ],
)
def test_who_cannot_be_judged_is_asked_again_up_to_once_a_minute(
    what: Report | Step | None, view: ChannelView[str]
) -> None:
    session = new_session()
    now, pauses = 0.0, []
    for _ in range(9):
        answer(session, what, now)
        assert session.view == view
        session.tick(due_at(session) - 0.001)
        assert not session.ask_due
        pauses.append(due_at(session) - now)
        now = due_at(session)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    answer(session, HEALTHY, now)
    assert (session.view, due_at(session)) == (AGREED, NEVER)
    session.doubt(now)
    answer(session, what, now)
    assert due_at(session) == now + 1  # whoever was healthy is asked again soon


@pytest.mark.parametrize("what", [HEALTHY, report("102.10.0"), Step.BLOCKED])
def test_who_is_healthy_or_has_guest_info_blocked_is_never_asked_again(what: Report | Step) -> None:
    session = new_session()
    answer(session, what, 0.0)
    session.tick(1e9)
    assert (session.ask_due, due_at(session)) == (False, NEVER)


def test_who_has_guest_info_blocked_is_unversioned_until_another_agent_comes() -> None:
    session = new_session()
    answer(session, Step.BLOCKED, 0.0)
    assert session.view == ChannelView(State.UNVERSIONED, "0", None, "10.0", Reason.GUEST_INFO_BLOCKED)
    close_and_open(session)
    answer(session, HEALTHY, 1.0)
    assert session.view == AGREED


def test_an_agent_that_comes_anew_does_not_wait_for_the_pause_of_the_last() -> None:
    session = new_session()
    for now in (0.0, 1.0, 3.0, 7.0):
        answer(session, Step.SILENCE, now)
    session.port_closed(8.0)
    assert due_at(session) == NEVER
    session.port_opened(9.0)
    answer(session, Step.SILENCE, 9.0)
    assert due_at(session) == 10.0


@pytest.mark.parametrize("step", [None, Step.JOB_HELD])
def test_what_shows_nothing_of_the_agent_leaves_what_is_known(step: Step | None) -> None:
    session = agreed()
    session.doubt(5.0)
    answer(session, step, 5.0)
    assert (session.view, due_at(session)) == (AGREED, 6.0)


# Doubt and silence.


def test_a_doubt_asks_at_once_and_what_is_known_stands_meanwhile() -> None:
    session = agreed()
    session.doubt(5.0)
    assert (session.view, session.ask_due, due_at(session)) == (AGREED, True, 5.0)
    answer(session, report("8.2.0"), 5.0)
    assert (session.view.version, due_at(session)) == ("8.2", NEVER)


def test_a_doubt_does_not_wait_for_the_next_time_nor_put_it_off() -> None:
    session = new_session()
    answer(session, Step.SILENCE, 0.0)
    session.doubt(0.5)
    assert due_at(session) == 0.5
    session.doubt(0.7)
    assert due_at(session) == 0.5


def test_a_call_that_is_not_answered_ends_the_agreement_and_the_agent_is_asked_again() -> None:
    session = agreed()
    assert not session.suspect
    session.doubt(5.0)
    answer(session, Step.SILENCE, 5.0)
    assert session.view == ChannelView(State.LOST, "0", "7.2.22", "10.0", Reason.AGENT_SILENT)
    assert (session.suspect, due_at(session)) == (True, 6.0)
    answer(session, Step.SILENCE, 6.0)
    assert due_at(session) == 8.0
    answer(session, HEALTHY, 8.0)
    assert session.view == AGREED


def test_who_kept_us_waiting_is_not_cleared_of_it_by_reopening_nor_by_one_answer() -> None:
    session = agreed()
    session.doubt(5.0)
    answer(session, Step.SILENCE, 5.0)
    session.port_closed(6.0)
    session.port_opened(7.0)
    answer(session, HEALTHY, 7.0)
    assert session.suspect
    session.tick(76.0)
    assert not session.suspect


def test_an_agent_that_answers_after_all_is_not_asked_once_more() -> None:
    session = new_session()
    number = session.begin_round()
    session.doubt(1.0)  # somebody else's call
    session.receive_report(number, HEALTHY, 1.5)
    assert (session.view, due_at(session)) == (AGREED, NEVER)


def test_who_has_gone_is_not_silent() -> None:
    session = agreed()
    session.port_closed(1.0)
    session.doubt(2.0)
    assert state_of(session) == (State.LOST, Reason.PORT_CLOSED)
    assert due_at(session) == NEVER


# Flapping.


def test_the_opening_that_is_one_too_many_waits() -> None:
    session = new_session(Port.CLOSED)
    for now in range(6):
        session.port_opened(float(now))
        answer(session, HEALTHY, float(now))
        session.port_closed(float(now))
    session.port_opened(6.0)
    assert session.view == ChannelView(State.WAITING, "0", None, "10.0", Reason.FLAPPING)
    assert (session.ask_due, due_at(session)) == (False, 60.0)
    answer(session, HEALTHY, 60.0)
    assert session.view == ChannelView(State.AGREED, "7.2", "7.2.22", "10.0", Reason.FLAPPING)
    assert due_at(session) == 66.0
    session.tick(66.0)
    assert (session.view, due_at(session)) == (AGREED, NEVER)


def test_a_guest_that_closes_its_end_is_lost_even_while_it_flaps() -> None:
    session = new_session()
    for now in range(10):
        session.port_opened(float(now))
    assert state_of(session) == (State.WAITING, Reason.FLAPPING)
    session.port_closed(10.0)
    assert state_of(session) == (State.LOST, Reason.PORT_CLOSED)


@pytest.mark.parametrize("port", [Port.OPEN, Port.CLOSED])
def test_a_flapping_end_is_asked_six_times_a_minute_and_recovers(port: Port) -> None:
    session = new_session(port)
    asked: list[float] = []
    for step in range(400):
        now = step * 0.5
        session.port_closed(now)
        session.port_opened(now)
        session.tick(now)
        if session.ask_due:
            answer(session, HEALTHY, now)
            asked.append(now)
    assert max(sum(start <= now < start + 60.0 for now in asked) for start in asked) <= 6
    while due_at(session) != NEVER:
        now = due_at(session)
        session.tick(now)
        if session.ask_due:
            answer(session, HEALTHY, now)
    assert session.view == AGREED
