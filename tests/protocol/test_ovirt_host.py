import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.errors import MessageNotAllowedError
from sidecar.protocol.ovirt_host import ChannelView, MessageReceived, Port
from sidecar.protocol.ovirt_messages import HOST_TO_GUEST
from sidecar.protocol.states import Reason, State, Step
from tests.protocol.host_sessions import (
    GOOD,
    NEVER,
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
    assert session.receive_data(heartbeat(3), 4.0) == [MessageReceived("heartbeat")]


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
    session.require_sendable("lifecycle-event")
    session.receive_data(heartbeat(3), 5.0)
    session.receive_data(heartbeat(0), 10.0)
    assert sent(session) == []
    assert session.view == ChannelView(State.WAITING, 0, 0, 4, Reason.AGENT_RESTARTED)
    with pytest.raises(MessageNotAllowedError):
        session.require_sendable("lifecycle-event")
    session.receive_data(heartbeat(3), 15.0)
    assert sent(session) == [api_version(3)]
    session.require_sendable("lifecycle-event")


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


@pytest.mark.parametrize("name", HOST_TO_GUEST)
def test_gating_follows_the_live_version(name: str) -> None:
    session = connected()
    for now, offer in enumerate([None, 1, 3, 0, 3]):
        session.receive_data(heartbeat(offer), float(now))
        if HOST_TO_GUEST[name].since <= (offer or 0):
            session.require_sendable(name)
        else:
            with pytest.raises(MessageNotAllowedError):
                session.require_sendable(name)


# The guest's end.


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


# Time.


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
    with pytest.raises(MessageNotAllowedError):
        session.require_sendable("lifecycle-event")


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


# The cap changes.


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


# Whatever happens.

CALLS = st.sampled_from(
    [
        "connect",
        "cut",
        "busy",
        "unreachable",
        "foreign",
        "stand_by",
        "open",
        "close",
        "seen_open",
        "seen_closed",
        "tick",
    ]
) | st.sampled_from([heartbeat(None), heartbeat(0), heartbeat(1), heartbeat(3), heartbeat(9), GOOD, b"bad\n"])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(CALLS | st.integers(0, 4), st.sampled_from([0.0, 0.5, 7.0, 61.0, 130.0])), max_size=40),
    st.sampled_from(Port),
)
def test_whatever_happens(calls: list[tuple[str | bytes | int, float]], port: Port) -> None:
    session, now, online = new_session(port=port), 0.0, False
    for call, pause in calls:
        now += pause
        match call:
            case int():
                session.set_maximum(call, now)
            case bytes():
                if online:
                    session.receive_data(call, now)
            case "connect":
                session.connect(now)
                online = True
            case "cut" | "busy" if online:
                # The engine gives way only to a channel that never answered.
                session.disconnect(now, Step.BUSY if call == "busy" and not session.heard else Step.DISCONNECTED)
                online = False
            case "unreachable" if not online:
                session.disconnect(now, Step.UNREACHABLE)
            case "foreign" if not online:
                session.disconnect(now, Step.FOREIGN)
            case "stand_by" if not session.heard:
                session.stand_by(now)
                online = False
            case "open":
                session.port_opened(now)
            case "close":
                session.port_closed(now)
            case "seen_open" | "seen_closed":
                session.port_seen(call == "seen_open", now)
        view = session.view
        assert (view.state is State.AGREED) == (view.version >= 1)
        assert view.version <= view.host
        assert view.reason is not None or view.state is State.AGREED
        if not online:
            assert session.data_to_send() == b""
            assert view.version == 0
        for message in sent(session):
            assert message["__name__"] in ("refresh", "api-version")
            assert message.get("apiVersion", view.host or 1) != 0
        # A deadline that has been kept is over: otherwise the engine's timer would spin.
        session.tick(now)
        assert session.deadline > now
