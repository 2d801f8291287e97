"""Which ``guest-tools`` a session gives out: what has grown, from a peer that it still knows."""

import json
from collections.abc import Callable

import pytest

from sidecar.protocol.ovirt_host import HostSession
from sidecar.protocol.ovirt_reader import MessageReceived
from sidecar.protocol.ovirt_tools import Applications, GuestTools
from sidecar.protocol.states import Port
from tests.protocol.host_sessions import GOOD, agreed, connected, heartbeat, new_session, sent


def guest_tools(updated: int, minor: int = 4) -> bytes:
    told = {"major": 1, "minor": minor, "installed": True, "notUpgradable": False, "updated": updated}
    return json.dumps({"__name__": "guest-tools", **told}).encode() + b"\n"


def heard(session: HostSession, data: bytes, now: float = 2.0) -> list[int]:
    """The ``updated`` of all that was given out."""
    return [event.updated for event in session.receive_data(data, now) if isinstance(event, GuestTools)]


def test_what_has_not_grown_is_not_given_out() -> None:
    session = agreed(4)
    assert heard(session, b"".join(map(guest_tools, (5, 5, 4, 6, 6, 0, 9)))) == [5, 6, 9]
    assert heard(session, guest_tools(9, minor=99) + guest_tools(10)) == [10]


def test_the_rest_of_the_lines_is_given_out_in_order() -> None:
    events = agreed(4).receive_data(GOOD + guest_tools(1) + guest_tools(1) + GOOD, 2.0)
    assert [type(event) for event in events] == [MessageReceived, GuestTools, MessageReceived]


def reconnect(session: HostSession) -> None:
    session.disconnect(3.0)
    session.connect(3.0)


def reopen(session: HostSession) -> None:
    session.port_closed(3.0)
    session.port_opened(4.0)


def open_again(session: HostSession) -> None:
    session.port_opened(4.0)  # and the closing before it was swallowed


def close_and_speak(session: HostSession) -> None:
    session.port_closed(3.0)


def restart_agent(session: HostSession) -> None:
    session.receive_data(heartbeat(0), 3.0)


def fall_silent(session: HostSession) -> None:
    session.tick(1000.0)


@pytest.mark.parametrize("happen", [reconnect, reopen, open_again, close_and_speak, restart_agent, fall_silent])
def test_another_peer_is_looked_at_whatever_its_clock_says(happen: Callable[[HostSession], None]) -> None:
    session = agreed(4)
    assert heard(session, guest_tools(1_800_000_000)) == [1_800_000_000]
    happen(session)
    assert heard(session, guest_tools(3) + guest_tools(3), 2000.0) == [3]


def test_what_the_same_peer_says_meanwhile_changes_nothing() -> None:
    session = agreed(4)
    heard(session, guest_tools(5))
    for data in (heartbeat(4), heartbeat(3), heartbeat(None), GOOD, b"bad\n"):
        assert heard(session, data + guest_tools(5)) == []


def test_an_agent_restarts_and_tells_in_one_piece() -> None:
    session = agreed(4)
    assert heard(session, guest_tools(5) + heartbeat(0) + guest_tools(2) + guest_tools(2)) == [5, 2]


@pytest.mark.parametrize("maximum", range(5))
def test_a_host_that_is_capped_below_it_does_not_know_the_message(maximum: int) -> None:
    session = connected(maximum)
    assert heard(session, guest_tools(1) + heartbeat(4)) == ([1] if maximum == 4 else [])
    assert session.bad_input == {}
    events = session.receive_data(b'{"__name__": "applications", "applications": []}\n', 3.0)
    assert events == [Applications(None)]


def test_a_cap_that_is_lifted_lets_through_what_was_held_back() -> None:
    session = connected(3)
    session.receive_data(heartbeat(4), 1.0)
    assert heard(session, guest_tools(5)) == []
    session.set_maximum(4, 2.0)
    assert heard(session, guest_tools(5)) == [5]


@pytest.mark.parametrize("port", Port)
def test_an_agent_that_tells_before_the_versions_are_agreed_is_heard(port: Port) -> None:
    session = new_session(port=port)
    session.connect(0.0)
    sent(session)
    assert heard(session, guest_tools(5) + heartbeat(4), 0.1) == [5]
    assert heard(session, guest_tools(5), 0.2) == []  # it is not looked at again, nor does it have to be
    assert session.view.version == 4
