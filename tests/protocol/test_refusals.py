"""Why a message may not go: what both dialects say alike, and the oVirt session's gate."""

from collections.abc import Callable

import pytest

from sidecar.errors import MessageNotAllowedError, Refusal, RefusalCode
from sidecar.protocol.ovirt_host import HostSession
from sidecar.protocol.ovirt_messages import HOST_TO_GUEST
from sidecar.protocol.ovirt_states import Step
from sidecar.protocol.refusals import refuse_unagreed
from sidecar.protocol.states import ChannelView, Port, Reason, State
from tests.protocol.host_sessions import GOOD, agreed, connected, heartbeat, new_session, sent

NEGOTIATION = ["api-version", "refresh"]
BASE = ["lock-screen", "log-off", "login", "shutdown", "hibernate", "echo"]
GATED = {"set-number-of-cpus": 1, "lifecycle-event": 3}


def test_the_three_kinds_are_the_whole_table() -> None:
    assert {*NEGOTIATION, *BASE, *GATED} == set(HOST_TO_GUEST)


# What both dialects say alike.


@pytest.mark.parametrize(
    ("state", "reason", "why"),
    [
        (State.WAITING, Reason.NOT_HEARD, "the channel is waiting (not-heard)"),
        (State.LOST, Reason.PORT_CLOSED, "the channel is lost (port-closed)"),
        (State.ABSENT, Reason.NOT_OPENED, "the channel is absent (not-opened)"),
        (State.WAITING, Reason.FLAPPING, "the channel is waiting (flapping)"),
        (State.WAITING, None, "the channel is waiting"),
    ],
)
def test_a_channel_without_an_agreement_says_what_it_is(state: State, reason: Reason | None, why: str) -> None:
    refusal = refuse_unagreed("echo", ChannelView(state, 0, None, 4, reason))
    assert refusal == Refusal(RefusalCode.NOT_AGREED, "echo", why, None, "0", reason)
    assert str(refusal) == f"echo: {why}"


def test_who_is_frozen_is_told_how_to_thaw() -> None:
    refusal = refuse_unagreed("guest-exec", ChannelView(State.WAITING, "0", None, "10.0", Reason.GUEST_FROZEN))
    assert refusal.why == "the channel is waiting (guest-frozen); thaw it with virsh domfsthaw"


def test_a_name_that_somebody_else_chose_is_one_line_of_ascii() -> None:
    text = str(refuse_unagreed("x\n\x1b\u00fc\ud800", ChannelView(State.WAITING, 0, None, 4, Reason.NOT_HEARD)))
    assert text.isascii()
    assert text.isprintable()


# The oVirt session's gate.


def cut(session: HostSession) -> HostSession:
    session.disconnect(2.0)
    return session


def closed(session: HostSession) -> HostSession:
    session.port_closed(2.0)
    return session


def silent(session: HostSession) -> HostSession:
    session.tick(500.0)
    return session


def after(session: HostSession, *offers: int | None) -> HostSession:
    for now, offer in enumerate(offers, 2):
        session.receive_data(heartbeat(offer), float(now))
    sent(session)
    return session


def reopened(session: HostSession) -> HostSession:
    session.port_opened(3.0)
    return session


def reconnected(session: HostSession) -> HostSession:
    session.connect(3.0)
    return session


def speaking(session: HostSession) -> HostSession:
    session.receive_data(GOOD, 3.0)
    return session


def stood_by(session: HostSession) -> HostSession:
    session.disconnect(1.0)
    session.stand_by(2.0)
    return session


def unreachable() -> HostSession:
    session = new_session()
    session.disconnect(1.0, Step.UNREACHABLE)
    return session


NOT_AGREED: dict[str, tuple[Callable[[], HostSession], str]] = {
    "new": (new_session, "not-heard"),
    "connected": (connected, "not-heard"),
    "spoke-but-no-heartbeat": (lambda: speaking(connected()), "not-heard"),
    "connected-anew": (lambda: reconnected(cut(agreed(3))), "not-heard"),
    "connected-over-the-old-one": (lambda: reconnected(agreed(3)), "not-heard"),
    "opened-anew": (lambda: reopened(closed(agreed(3))), "not-heard"),
    "opened-while-open": (lambda: reopened(agreed(3)), "not-heard"),
    "closed": (lambda: closed(agreed(3)), "port-closed"),
    "closed-unversioned": (lambda: closed(after(connected(), None)), "port-closed"),
    "silent": (lambda: silent(agreed(3)), "agent-silent"),
    "silent-from-the-start": (lambda: silent(connected()), "agent-silent"),
    "cut": (lambda: cut(agreed(3)), "disconnected"),
    "absent": (lambda: silent(connected(port=Port.CLOSED)), "not-opened"),
    "unreachable": (unreachable, "socket-unreachable"),
    "stood-by": (lambda: stood_by(connected()), "other-channel"),
    "flapping": (lambda: after(connected(), *[3, 2] * 4), "flapping"),
}
HEARD: dict[str, tuple[Callable[[], HostSession], int, str | None]] = {
    "agreed": (lambda: agreed(3), 3, None),
    "agreed-on-1": (lambda: agreed(1), 1, None),
    "no-version": (lambda: after(connected(), None), 0, "no-version"),
    "lone-zero": (lambda: after(connected(), 0), 0, "agent-restarted"),
    "lone-zero-after-3": (lambda: after(agreed(3), 0), 0, "agent-restarted"),
    "two-zeros": (lambda: after(connected(), 0, 0), 0, "stays-at-zero"),
    "capped": (lambda: after(connected(0), 3), 0, "host-capped"),
    "flapped": (lambda: after(agreed(3), *[2, 3] * 3, *[None] * 60, 3), 3, "flapping"),
}


@pytest.mark.parametrize("name", [*BASE, *GATED])
@pytest.mark.parametrize("state", NOT_AGREED)
def test_nothing_goes_to_somebody_who_has_not_spoken(state: str, name: str) -> None:
    make, reason = NOT_AGREED[state]
    refusal = make().refuse(name)
    assert refusal is not None
    assert (refusal.code, refusal.message, refusal.required) == ("not-agreed", name, None)
    assert (refusal.agreed, refusal.reason) == ("0", reason)
    assert reason in refusal.why


@pytest.mark.parametrize("state", HEARD)
def test_base_messages_go_to_whoever_speaks_and_the_others_by_version(state: str) -> None:
    make, version, reason = HEARD[state]
    session = make()
    for name in BASE:
        assert session.refuse(name) is None
    for name, since in GATED.items():
        refusal = session.refuse(name)
        if since <= version:
            assert refusal is None
        else:
            why = f"needs oVirt API version {since}, in force is {version}"
            assert refusal == Refusal(RefusalCode.VERSION_TOO_LOW, name, why, str(since), str(version), reason)


@pytest.mark.parametrize("name", NEGOTIATION)
@pytest.mark.parametrize("state", [*NOT_AGREED, *HEARD])
def test_the_negotiations_own_messages_are_refused_to_callers_in_every_state(state: str, name: str) -> None:
    session = (NOT_AGREED[state] if state in NOT_AGREED else HEARD[state])[0]()
    refusal = session.refuse(name)
    assert refusal is not None
    assert (refusal.code, refusal.message) == ("negotiation-only", name)


@pytest.mark.parametrize("name", ["", "heartbeat", "Echo", "self-destruct", "x\n\ud800"])
@pytest.mark.parametrize("state", [*NOT_AGREED, *HEARD])
def test_what_the_table_lacks_is_refused_in_every_state(state: str, name: str) -> None:
    session = (NOT_AGREED[state] if state in NOT_AGREED else HEARD[state])[0]()
    refusal = session.refuse(name)
    assert refusal is not None
    assert (refusal.code, refusal.message) == ("not-in-table", name)


# Sending.


def test_send_queues_one_line_and_it_is_given_out_once() -> None:
    session = agreed(3)
    session.send("lifecycle-event", {"type": "before_migration", "reply_id": "a-1"})
    line = b'{"__name__": "lifecycle-event", "type": "before_migration", "reply_id": "a-1"}\n'
    assert session.data_to_send() == line
    assert session.data_to_send() == b""
    session.send("echo", {})
    session.send("lock-screen", {})
    assert sent(session) == [{"__name__": "echo"}, {"__name__": "lock-screen"}]


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("lifecycle-event", {"type": "before_migration"}, "version-too-low"),
        ("refresh", {}, "negotiation-only"),
        ("api-version", {"apiVersion": 4}, "negotiation-only"),
        ("heartbeat", {}, "not-in-table"),
        ("login", {"password": object()}, "bad-arguments"),
        ("login", {"password": "xsecret" * 10_000}, "bad-arguments"),
        ("echo", {"__name__": "refresh"}, "bad-arguments"),
    ],
)
def test_what_is_refused_leaves_nothing_queued(name: str, arguments: dict[str, object], code: str) -> None:
    session = agreed(2)
    with pytest.raises(MessageNotAllowedError) as caught:
        session.send(name, arguments)
    assert caught.value.refusal.code == code
    assert "xsecret" not in str(caught.value)
    assert session.data_to_send() == b""


def test_what_was_queued_for_somebody_who_went_is_not_sent_to_the_next() -> None:
    session = agreed(3)
    session.send("login", {"username": "a"})
    session.disconnect(2.0)
    session.connect(3.0)
    assert [message["__name__"] for message in sent(session)] == ["refresh"]


def test_after_a_refusal_the_session_goes_on() -> None:
    session = agreed(2)
    with pytest.raises(MessageNotAllowedError):
        session.send("lifecycle-event", {})
    session.send("set-number-of-cpus", {"count": 2})
    assert sent(session) == [{"__name__": "set-number-of-cpus", "count": 2}]
