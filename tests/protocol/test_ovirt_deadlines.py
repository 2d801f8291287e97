"""What time alone brings."""

import pytest

from sidecar.protocol.states import ChannelView, Port, Reason, State
from tests.protocol.host_sessions import (
    GOOD,
    NEVER,
    agreed,
    api_version,
    connected,
    heartbeat,
    new_session,
    sent,
    state_of,
)


def test_silent_after_responsive_seconds_without_a_heartbeat() -> None:
    session = agreed(3)
    assert session.deadline == 121.0
    session.receive_data(GOOD, 100.0)  # only heartbeats count
    assert session.deadline == 121.0
    session.tick(120.999)
    assert session.view.state is State.AGREED
    session.tick(121.0)
    assert session.view == ChannelView(State.LOST, 0, 3, 4, Reason.AGENT_SILENT)
    assert session.deadline == NEVER
    for name in ("lifecycle-event", "echo"):
        refusal = session.refuse(name)
        assert refusal is not None
        assert (refusal.code, refusal.reason) == ("not-agreed", "agent-silent")


def test_who_was_silent_is_told_again() -> None:
    session = agreed(2)
    session.tick(200.0)
    session.receive_data(heartbeat(2), 201.0)
    assert sent(session) == [api_version(2)]
    assert session.view.version == 2


@pytest.mark.parametrize("port", [Port.OPEN, Port.HEARD])
def test_an_open_port_that_never_speaks_is_lost(port: Port) -> None:
    session = connected(port=port)
    assert session.deadline == 120.0
    session.tick(120.0)
    assert state_of(session) == (State.LOST, Reason.AGENT_SILENT)


@pytest.mark.parametrize("port", [Port.UNKNOWN, Port.CLOSED])
def test_absent_after_absent_seconds(port: Port) -> None:
    session = new_session(port=port, now=1000.0, absent_s=7.0)
    session.connect(1000.0)
    assert session.deadline == 1007.0
    session.tick(1006.999)
    assert session.view.state is State.WAITING
    session.tick(1007.0)
    assert state_of(session) == (State.ABSENT, Reason.NOT_OPENED)
    assert session.deadline == NEVER
    session.disconnect(1008.0)
    session.connect(1009.0)
    assert state_of(session) == (State.ABSENT, Reason.NOT_OPENED)  # dialling again opens nothing
    session.port_opened(1010.0)
    assert state_of(session) == (State.WAITING, Reason.NOT_HEARD)
    session.receive_data(heartbeat(3), 1011.0)
    assert session.view == ChannelView(State.AGREED, 3, 3, 4, None)


def test_the_opening_starts_the_clock_of_silence() -> None:
    session = connected(port=Port.CLOSED)
    session.port_opened(100.0)
    assert session.deadline == 220.0


def test_nobody_was_silent_while_nobody_listened() -> None:
    session = agreed(3)
    session.disconnect(2.0)
    session.connect(500.0)
    assert session.deadline == 620.0
    session.tick(500.0)
    assert state_of(session) == (State.WAITING, Reason.NOT_HEARD)


def test_heartbeats_put_the_deadline_off() -> None:
    session = agreed(3)
    for now in (50.0, 100.0, 150.0, 200.0):
        session.receive_data(heartbeat(3), now)
        assert session.deadline == now + 120.0
