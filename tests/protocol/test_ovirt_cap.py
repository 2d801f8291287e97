"""This host's maximum changes while a guest is here."""

import pytest

from sidecar.protocol.ovirt_states import Step
from sidecar.protocol.states import ChannelView, Port, Reason, State
from tests.protocol.host_sessions import REFRESH, agreed, api_version, connected, heartbeat, sent, state_of


def test_a_lower_cap_is_told_at_once() -> None:
    session = agreed(3)
    session.set_maximum(2, 2.0)
    assert sent(session) == [api_version(2)]
    assert session.view == ChannelView(State.AGREED, 2, 3, 2, None)


def test_a_higher_cap_is_told_at_once() -> None:
    session = agreed(4, maximum=2)
    session.set_maximum(4, 2.0)
    assert sent(session) == [api_version(4)]
    assert session.view == ChannelView(State.AGREED, 4, 4, 4, None)


def test_a_cap_that_leaves_the_common_version_is_not_told() -> None:
    session = agreed(2, maximum=4)
    session.set_maximum(3, 2.0)
    assert sent(session) == []
    assert session.view == ChannelView(State.AGREED, 2, 2, 3, None)


def test_the_same_cap_is_no_news() -> None:
    session = agreed(3)
    session.set_maximum(4, 2.0)
    assert sent(session) == []


def test_a_cap_of_zero_is_a_refresh_without_key_and_back_a_negotiation() -> None:
    session = agreed(3)
    session.set_maximum(0, 2.0)
    assert sent(session) == [{"__name__": "refresh"}]
    assert session.view == ChannelView(State.UNVERSIONED, 0, 3, 0, Reason.HOST_CAPPED)
    session.set_maximum(4, 3.0)
    assert sent(session) == [REFRESH, api_version(3)]
    assert session.view == ChannelView(State.AGREED, 3, 3, 4, None)


def test_a_cap_that_was_lifted_before_any_heartbeat() -> None:
    session = agreed(3)
    session.set_maximum(0, 2.0)
    session.disconnect(3.0)
    session.set_maximum(4, 4.0)
    assert sent(session) == []
    session.connect(5.0)
    session.receive_data(heartbeat(3), 6.0)
    assert sent(session) == [REFRESH, api_version(3)]


def test_a_cap_does_not_turn_one_zero_into_two_nor_two_into_one() -> None:
    session = connected()
    session.receive_data(heartbeat(0), 1.0)
    session.set_maximum(3, 2.0)
    assert state_of(session) == (State.WAITING, Reason.AGENT_RESTARTED)
    session.receive_data(heartbeat(0), 3.0)
    session.set_maximum(2, 4.0)
    assert state_of(session) == (State.UNVERSIONED, Reason.STAYS_AT_ZERO)
    assert sent(session) == []


@pytest.mark.parametrize("step", [Step.BUSY, Step.UNREACHABLE, Step.FOREIGN, Step.STOOD_BY])
def test_a_cap_says_nothing_about_a_channel_that_is_not_connected(step: Step) -> None:
    session = connected(port=Port.CLOSED)
    session.disconnect(1.0, step)
    before = state_of(session)
    for maximum in (0, 4, 2):
        session.set_maximum(maximum, 2.0)
        assert state_of(session) == before
        assert sent(session) == []


@pytest.mark.parametrize("maximum", [0, 2])
def test_a_cap_does_not_wake_the_silent(maximum: int) -> None:
    session = agreed(3)
    session.tick(200.0)
    session.set_maximum(maximum, 201.0)
    assert state_of(session) == (State.LOST, Reason.AGENT_SILENT)


def test_a_refresh_that_an_agent_took_with_it_is_said_again() -> None:
    session = connected(0, Port.UNKNOWN)
    session.port_closed(1.0)  # it had been open, and whoever was there may have read what we said
    session.port_opened(2.0)
    assert sent(session) == [{"__name__": "refresh"}]
