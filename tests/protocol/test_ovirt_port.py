"""The guest's end of the channel opens and closes, and so does ours."""

import pytest

from sidecar.protocol.ovirt_states import Step
from sidecar.protocol.states import ChannelView, Port, Reason, State
from tests.protocol.host_sessions import (
    GOOD,
    NEVER,
    REFRESH,
    WAITING,
    agreed,
    api_version,
    connected,
    heartbeat,
    sent,
    state_of,
)


def test_closing_is_lost_at_once_and_opening_waits() -> None:
    session = agreed(3)
    session.port_closed(2.0)
    assert session.view == ChannelView(State.LOST, 0, 3, 4, Reason.PORT_CLOSED)
    assert not session.port_open
    assert session.deadline == NEVER
    session.port_opened(3.0)
    assert session.view == WAITING
    assert session.port_open


def test_an_agent_that_restarts_is_told_again_though_it_offers_the_same() -> None:
    session = agreed(2)
    session.port_closed(2.0)
    session.port_opened(3.0)
    session.receive_data(heartbeat(2), 4.0)
    assert sent(session) == [REFRESH, api_version(2)]


def test_open_after_open_means_that_a_close_was_swallowed() -> None:
    session = agreed(2)
    session.port_opened(1.5)  # the port was OPEN
    assert session.view == WAITING
    assert sent(session) == [REFRESH]
    session.receive_data(heartbeat(2), 4.0)
    assert sent(session) == [api_version(2)]


@pytest.mark.parametrize("known", [Port.HEARD, Port.UNKNOWN])
def test_the_late_report_of_an_opening_that_was_heard_changes_nothing(known: Port) -> None:
    session = connected(port=known)
    session.receive_data(heartbeat(3), 1.0)
    assert sent(session) == [api_version(3)]
    before = session.view
    session.port_opened(2.0)
    assert session.view == before
    assert sent(session) == []
    session.port_opened(3.0)  # but the next one is news
    assert session.view == WAITING


def test_words_from_a_closed_port_are_an_opening() -> None:
    session = agreed(3)
    session.port_closed(2.0)
    session.receive_data(heartbeat(3), 3.0)
    assert sent(session) == [REFRESH, api_version(3)]
    session.port_opened(3.5)
    assert sent(session) == []
    assert session.view.version == 3


def test_any_word_from_a_closed_port_ends_the_loss() -> None:
    session = agreed(3)
    session.port_closed(2.0)
    session.receive_data(GOOD, 3.0)
    assert session.view == WAITING
    assert sent(session) == [REFRESH]


def test_closed_twice_is_closed_once() -> None:
    session = agreed(3)
    session.port_closed(2.0)
    before = session.view
    session.port_closed(3.0)
    assert session.view == before
    session.port_opened(4.0)
    assert sent(session) == [REFRESH]


def test_a_port_reported_closed_that_never_was_open_is_still_waited_for() -> None:
    session = connected(port=Port.UNKNOWN)
    session.port_closed(1.0)
    assert session.view == WAITING
    assert session.deadline == 120.0


@pytest.mark.parametrize("known", [Port.UNKNOWN, Port.CLOSED])
def test_an_opening_that_the_xml_shows(known: Port) -> None:
    session = connected(port=known)
    session.port_seen(True, 50.0)
    assert session.view == WAITING
    assert session.deadline == 170.0
    assert sent(session) == []  # it waited in the port
    session.receive_data(heartbeat(3), 51.0)
    assert sent(session) == [api_version(3)]
    session.port_opened(52.0)  # the report that follows is no news
    assert session.view.version == 3
    assert sent(session) == []


def test_a_closing_that_the_xml_shows() -> None:
    session = agreed(3)
    session.port_seen(False, 2.0)
    assert state_of(session) == (State.LOST, Reason.PORT_CLOSED)
    session.port_seen(True, 3.0)
    assert session.view == WAITING
    assert sent(session) == [REFRESH]


@pytest.mark.parametrize("port", Port)
def test_what_the_xml_shows_and_we_know_is_no_news(port: Port) -> None:
    session = connected(port=port)
    if session.port_open:
        session.receive_data(heartbeat(3), 1.0)
    sent(session)
    before = session.view, session.deadline
    session.port_seen(session.port_open, 2.0)
    assert (session.view, session.deadline) == before
    assert sent(session) == []


def test_our_reconnecting_opens_nothing_in_the_guest() -> None:
    session = agreed(3)
    session.port_closed(2.0)
    session.disconnect(3.0)
    session.connect(4.0)
    assert state_of(session) == (State.LOST, Reason.PORT_CLOSED)
    assert sent(session) == [REFRESH]
    session.port_opened(5.0)
    assert session.view == WAITING
    assert sent(session) == []  # it waited in the port


def test_a_port_that_closes_while_we_are_disconnected_is_lost_not_absent() -> None:
    session = agreed(3)
    session.disconnect(2.0)
    session.port_closed(3.0)
    session.connect(200.0)
    session.tick(400.0)
    assert state_of(session) == (State.LOST, Reason.PORT_CLOSED)


def test_a_broken_connection_is_lost_until_we_are_back() -> None:
    session = agreed(3)
    session.disconnect(2.0)
    assert session.view == ChannelView(State.LOST, 0, 3, 4, Reason.DISCONNECTED)
    assert not session.heard
    session.connect(3.0)
    assert session.view == WAITING


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (Step.BUSY, Reason.SOCKET_BUSY),
        (Step.UNREACHABLE, Reason.SOCKET_UNREACHABLE),
        (Step.FOREIGN, Reason.SOCKET_FOREIGN),
    ],
)
@pytest.mark.parametrize("port", Port)
def test_a_socket_at_fault_stays_the_reason_until_we_are_connected(step: Step, reason: Reason, port: Port) -> None:
    session = connected(port=port)
    session.disconnect(3.0, step)
    session.port_closed(4.0)
    session.port_opened(5.0)
    session.tick(500.0)
    assert state_of(session) == (State.WAITING, reason)
    assert session.deadline == NEVER
    assert sent(session) == []
    session.connect(600.0)
    assert state_of(session) == (State.WAITING, Reason.NOT_HEARD)


def test_standing_by_for_the_other_channel() -> None:
    session = connected(port=Port.CLOSED)
    session.stand_by(1.0)
    assert state_of(session) == (State.WAITING, Reason.OTHER_CHANNEL)
    session.tick(120.0)
    assert state_of(session) == (State.ABSENT, Reason.NOT_OPENED)
