import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.protocol.ovirt_messages import HOST_TO_GUEST
from sidecar.protocol.ovirt_reader import Heartbeat, MessageReceived
from sidecar.protocol.states import ChannelView, Port, Reason, State
from tests.protocol.host_sessions import (
    GOOD,
    REFRESH,
    WAITING,
    agreed,
    api_version,
    connected,
    heartbeat,
    new_session,
    sent,
    state_of,
)

# Connecting and refresh.


@pytest.mark.parametrize("maximum", range(5))
def test_refresh_carries_the_maximum_and_a_capped_host_no_key(maximum: int) -> None:
    session = new_session(maximum)
    assert sent(session) == []
    session.connect(0.0)
    key = {"apiVersion": maximum} if maximum else {}
    assert sent(session) == [{"__name__": "refresh", **key}]


def test_bytes_are_given_out_once() -> None:
    session = new_session()
    session.connect(0.0)
    assert session.data_to_send() == b'{"__name__": "refresh", "apiVersion": 4}\n'
    assert session.data_to_send() == b""


@pytest.mark.parametrize("port", Port)
def test_nothing_is_known_at_first(port: Port) -> None:
    session = new_session(port=port)
    assert session.view == WAITING
    assert not session.heard
    session.connect(0.0)
    assert session.view == WAITING


def test_refresh_waits_in_the_port_that_opens_later() -> None:
    session = connected(port=Port.CLOSED)
    session.port_opened(5.0)
    assert sent(session) == []


def test_refresh_goes_out_again_for_every_opening() -> None:
    session = connected()
    for now in (10.0, 20.0):
        session.port_closed(now)
        assert sent(session) == []
        session.port_opened(now + 1)
        assert sent(session) == [REFRESH]


def test_refresh_goes_out_again_for_every_connection_of_ours() -> None:
    session = agreed(3)
    session.disconnect(2.0)
    assert sent(session) == []
    session.connect(3.0)
    assert sent(session) == [REFRESH]
    session.receive_data(heartbeat(3), 4.0)
    assert sent(session) == [api_version(3)]


def test_what_was_not_written_when_the_connection_broke_is_never_sent() -> None:
    session = new_session()
    session.connect(0.0)
    session.receive_data(heartbeat(3), 1.0)
    session.disconnect(2.0)
    assert session.data_to_send() == b""


def test_half_a_line_of_an_earlier_connection_is_forgotten() -> None:
    session = connected()
    session.receive_data(b'{"__name__": "heart', 1.0)
    session.disconnect(2.0)
    session.connect(3.0)
    assert session.receive_data(heartbeat(3), 4.0) == [Heartbeat(3)]


@pytest.mark.parametrize("name", ["session-startup", "session-shutdown", "host-name", "uninstalled", "echo"])
def test_no_message_is_answered(name: str) -> None:
    session = agreed(3)
    line = json.dumps({"__name__": name}).encode() + b"\n"
    assert session.receive_data(line * 50, 2.0) == [MessageReceived(name)] * 50
    assert sent(session) == []
    assert session.view.version == 3


# The decision.


@pytest.mark.parametrize("maximum", range(1, 5))
@pytest.mark.parametrize("offer", [1, 2, 3, 4, 99, 2**31 - 1])
def test_the_first_offer_is_answered_with_the_common_version(offer: int, maximum: int) -> None:
    session = connected(maximum)
    common = min(offer, maximum)
    session.receive_data(heartbeat(offer), 1.0)
    assert sent(session) == [api_version(common)]
    assert session.view == ChannelView(State.AGREED, common, offer, maximum, None)
    assert session.heard


def test_equal_heartbeats_are_answered_once_a_change_again() -> None:
    session = connected()
    answers = []
    for now, offer in enumerate([3, 3, 3, 2, 2, 3, 3]):
        session.receive_data(heartbeat(offer), float(now))
        answers.append([message["apiVersion"] for message in sent(session)])
    assert answers == [[3], [], [], [2], [], [3], []]


def test_a_changed_offer_with_the_same_common_version_is_no_change() -> None:
    session = agreed(3, maximum=2)
    session.receive_data(heartbeat(4), 2.0)
    assert sent(session) == []
    assert session.view == ChannelView(State.AGREED, 2, 4, 2, None)


def test_without_the_key_it_is_unversioned_at_once_and_nothing_is_sent() -> None:
    session = connected()
    session.receive_data(heartbeat(None), 1.0)
    assert session.view == ChannelView(State.UNVERSIONED, 0, None, 4, Reason.NO_VERSION)
    assert sent(session) == []
    session.receive_data(heartbeat(3), 2.0)
    assert sent(session) == [api_version(3)]


def test_a_downgraded_agent_that_loses_the_key() -> None:
    session = agreed(3)
    session.receive_data(heartbeat(None), 2.0)
    assert session.view == ChannelView(State.UNVERSIONED, 0, None, 4, Reason.NO_VERSION)
    assert sent(session) == []


def test_an_agent_that_lost_the_key_and_has_it_again_is_told_again() -> None:
    session = agreed(3)
    session.receive_data(heartbeat(None) + heartbeat(3), 2.0)
    assert sent(session) == [api_version(3)]


def test_the_first_zero_is_waiting_the_second_a_verdict() -> None:
    session = connected()
    session.receive_data(heartbeat(0), 1.0)
    assert session.view == ChannelView(State.WAITING, 0, 0, 4, Reason.AGENT_RESTARTED)
    session.receive_data(heartbeat(0), 2.0)
    assert session.view == ChannelView(State.UNVERSIONED, 0, 0, 4, Reason.STAYS_AT_ZERO)
    session.receive_data(heartbeat(0), 3.0)
    assert session.view.reason is Reason.STAYS_AT_ZERO
    assert sent(session) == []
    session.receive_data(heartbeat(3), 4.0)
    assert sent(session) == [api_version(3)]


def test_a_zero_between_offers_lowers_the_guard_at_once_and_is_negotiated_anew() -> None:
    session = agreed(3)
    assert session.refuse("lifecycle-event") is None
    session.receive_data(heartbeat(3), 5.0)
    session.receive_data(heartbeat(0), 10.0)
    assert sent(session) == []
    assert session.view == ChannelView(State.WAITING, 0, 0, 4, Reason.AGENT_RESTARTED)
    refusal = session.refuse("lifecycle-event")
    assert refusal is not None
    assert (refusal.code, refusal.reason) == ("version-too-low", "agent-restarted")
    session.receive_data(heartbeat(3), 15.0)
    assert sent(session) == [api_version(3)]
    assert session.refuse("lifecycle-event") is None


def test_zero_and_offer_in_the_same_read() -> None:
    session = agreed(3)
    session.receive_data(heartbeat(0) + heartbeat(3), 5.0)
    assert sent(session) == [api_version(3)]


def test_heard_is_whoever_sends_heartbeats_here() -> None:
    session = connected()
    session.receive_data(GOOD, 1.0)
    assert not session.heard
    for offer in (0, 0, None, 3, 0):  # a restarted agent still speaks on this channel
        session.receive_data(heartbeat(offer), 2.0)
        assert session.heard
    session.port_closed(3.0)
    assert not session.heard


def test_zeros_that_are_not_in_a_row_are_no_verdict() -> None:
    session = connected()
    for now, offer in enumerate([0, None, 0, 3, 0]):
        session.receive_data(heartbeat(offer), float(now))
    assert state_of(session) == (State.WAITING, Reason.AGENT_RESTARTED)


@pytest.mark.parametrize("offers", [[0], [3], [None], [0, 3, 99, None]])
def test_a_host_capped_to_zero_is_unversioned_and_keeps_the_offer(offers: list[int | None]) -> None:
    session = connected(0)
    for offer in offers:
        session.receive_data(heartbeat(offer), 1.0)
        assert session.view == ChannelView(State.UNVERSIONED, 0, offer, 0, Reason.HOST_CAPPED)
    assert sent(session) == []


def test_a_host_capped_to_zero_keeps_the_offer_of_an_agent_that_greets_anew() -> None:
    session = connected(0)
    kept = []
    for now, offer in enumerate([4, 0, 4, 0, 0, 0, 3, None, 0]):
        session.receive_data(heartbeat(offer), float(now))
        kept.append(session.view.guest)
    assert kept == [4, 4, 4, 4, 0, 0, 3, None, 0]
    assert sent(session) == []


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 4),
    st.lists(st.integers(-(2**40), 2**40) | st.integers(-2, 6) | st.none(), max_size=20),
)
def test_api_version_is_from_one_to_what_both_know(maximum: int, offers: list[int | None]) -> None:
    session = connected(maximum)
    for now, offer in enumerate(offers):
        session.receive_data(heartbeat(offer), now * 15.0)
        for message in sent(session):
            assert offer is not None
            assert message == api_version(min(offer, maximum))
            assert min(offer, maximum) >= 1
        view = session.view
        assert (view.state is State.AGREED) == (view.version >= 1)
        assert (view.reason is None) <= (view.state is State.AGREED)


@pytest.mark.parametrize("name", sorted(HOST_TO_GUEST.keys() - {"api-version", "refresh"}))
def test_gating_follows_the_live_version(name: str) -> None:
    session = connected()
    for now, offer in enumerate([None, 1, 3, 0, 3]):
        session.receive_data(heartbeat(offer), float(now))
        assert (session.refuse(name) is None) == (HOST_TO_GUEST[name].since <= (offer or 0))
