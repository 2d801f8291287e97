"""What each end of a call means, and that nobody waits longer than said; without a broker."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import oslo_messaging
import pytest
from oslo_messaging.rpc.client import RemoteError

from sidecar.api.problems import ProblemError
from sidecar.bus import caller
from sidecar.bus.caller import Caller
from sidecar.errors import BusDownError, HostSilentError, HostUnknownError, SidecarError

REFUSED = "Exchange.declare: (403) ACCESS_REFUSED - access to exchange 'x' in vhost 'v' refused for user 'u'"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """``act``: what oslo.messaging does; ``made``: how often it was asked."""
    state: dict[str, Any] = {"made": 0, "act": lambda: None}

    def call(self: Caller, *arguments: Any, **more: Any) -> Any:
        state["made"] += 1
        return state["act"]()

    monkeypatch.setattr(Caller, "_call", call)
    yield state
    state["act"] = lambda: None


@pytest.fixture
def one() -> Caller:
    return Caller("sidecar", "fake://", {})


def raise_(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def call(one: Caller, timeout_s: float = 5.0) -> Any:
    return one.call("beta", "1.0", "host", {}, timeout_s)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (oslo_messaging.MessageUndeliverable("e", "x", "k", "m"), HostUnknownError, "nobody of this name"),
        (oslo_messaging.MessagingTimeout("Timed out waiting"), HostSilentError, "no answer within 5 s"),
        (TimeoutError(), HostSilentError, "no answer within 5 s"),
        (
            oslo_messaging.MessageDeliveryFailure(f"Unable to connect to x after 0 tries: {REFUSED}"),
            HostSilentError,
            REFUSED,
        ),
        (OSError("oops\nand more"), HostSilentError, "the message broker failed: oops"),
        (RemoteError("ValueError", "geheim", "Traceback"), ProblemError, "host: a fault of the daemon's own"),
        (RemoteError("NoSuchMethod", "Endpoint does not\nTraceback", ""), ProblemError, "host: Endpoint does not"),
        (ProblemError("not-sent", "why not"), ProblemError, "why not"),
    ],
)
def test_what_a_calls_end_means(
    one: Caller, calls: dict[str, Any], error: Exception, kind: type[SidecarError], words: str
) -> None:
    calls["act"] = raise_(error)
    with pytest.raises(kind) as caught:
        call(one)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "geheim" not in str(caught.value)
    assert calls["made"] == 1


@pytest.mark.parametrize(
    ("type_", "code"),
    [("UnsupportedVersion", "unsupported-version"), ("NoSuchMethod", "unknown-operation"), ("KeyError", "internal")],
)
def test_what_the_other_end_raised_has_a_code(one: Caller, calls: dict[str, Any], type_: str, code: str) -> None:
    calls["act"] = raise_(RemoteError(type_, "why", []))
    with pytest.raises(ProblemError) as caught:
        call(one)
    assert caught.value.problem.code == code


def test_a_fault_of_another_kind_leaves_a_change_open(one: Caller, calls: dict[str, Any]) -> None:
    calls["act"] = raise_(RemoteError("MemoryError", "", []))
    for operation, code in (("host", "internal"), ("send", "outcome-unknown")):
        with pytest.raises(ProblemError) as caught:
            one.call("beta", "1.0", operation, {}, 5.0)
        assert caught.value.problem.code == code


def test_a_call_that_hangs_is_given_up(one: Caller, calls: dict[str, Any]) -> None:
    ended = threading.Event()
    calls["act"] = ended.wait
    begun = time.monotonic()
    with pytest.raises(HostSilentError, match=r"no answer within 0\.1 s"):
        call(one, 0.1)
    assert time.monotonic() - begun < 5.0
    ended.set()


class TestConnect:
    def test_nobody_can_be_called(self, one: Caller, calls: dict[str, Any]) -> None:
        calls["act"] = raise_(oslo_messaging.MessageUndeliverable("e", "x", "k", "m"))
        one.connect()
        one.connect()
        assert calls["made"] == 2

    @pytest.mark.parametrize(
        ("error", "words"),
        [
            (
                oslo_messaging.MessageDeliveryFailure(
                    f"Unable to connect to AMQP server on h:1 after 1 tries: {REFUSED}"
                ),
                f"the message broker refuses this user: {REFUSED}",
            ),
            (
                OSError("(0, 0): (403) ACCESS_REFUSED - Login was refused"),
                "the message broker refuses this user: (403) ACCESS_REFUSED - Login was refused",
            ),
            (
                OSError("Connection.open: (530) NOT_ALLOWED - vhost x not found"),
                "the message broker refuses this user: Connection.open: (530) NOT_ALLOWED - vhost x not found",
            ),
            (OSError("[SSL] oops\nmore"), "no connection to the message broker: [SSL] oops"),
            (OSError(), "no connection to the message broker: "),
        ],
    )
    def test_a_refusal_is_told(self, one: Caller, calls: dict[str, Any], error: Exception, words: str) -> None:
        calls["act"] = raise_(error)
        with pytest.raises(BusDownError) as caught:
            one.connect()
        assert str(caught.value) == words

    def test_one_attempt_serves_all_who_come_meanwhile(
        self, one: Caller, calls: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(caller, "CONNECT_S", 0.1)
        ended = threading.Event()
        calls["act"] = ended.wait
        for _ in range(3):
            with pytest.raises(BusDownError, match=r"no connection to the message broker: no answer within 0\.1 s"):
                one.connect()
        assert calls["made"] == 1
        with pytest.raises(BusDownError, match=r"no answer within 0\.05 s"):
            one.connect(0.05)
        monkeypatch.setattr(caller, "CONNECT_S", 5.0)
        ended.set()
        one.connect()
        one.connect()
        assert calls["made"] >= 2

    @pytest.mark.parametrize(
        ("said", "words"),
        [
            (
                "Connection failed: [Errno 111] Connection refused (retrying in 3.0 seconds)",
                "[Errno 111] Connection refused",
            ),
            ("[1-2] AMQP server on h:1 is unreachable: timed out. Trying again in 1 seconds.", "timed out"),
            ("something else", "something else"),
        ],
    )
    @pytest.mark.usefixtures("oslo_is_heard")
    def test_what_oslo_says_meanwhile_is_the_reason(
        self, one: Caller, calls: dict[str, Any], monkeypatch: pytest.MonkeyPatch, said: str, words: str
    ) -> None:
        monkeypatch.setattr(caller, "CONNECT_S", 0.1)
        ended = threading.Event()

        def act() -> None:
            logging.getLogger("oslo.messaging._drivers.impl_rabbit").error(said)
            ended.wait()

        calls["act"] = act
        with pytest.raises(BusDownError) as caught:
            one.connect()
        assert str(caught.value) == f"no connection to the message broker: {words}"
        ended.set()


def test_each_way_is_there_once() -> None:
    found = caller.find_caller("sidecar", "fake://", ())
    assert caller.find_caller("sidecar", "fake://", ()) is found
    assert caller.find_caller("sidecar-admin", "fake://", ()) is not found
    caller.find_caller.cache_clear()
