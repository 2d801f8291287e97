"""What the daemon asks, with a talk and a caller that do as they are told."""

import math
import threading
from collections.abc import Callable, Collection, Mapping
from queue import Queue
from typing import Any

import pytest

from sidecar.api.link import Word, render_line
from sidecar.api.problems import ProblemCode, ProblemError
from sidecar.bus.asks import ASKS_LIMIT, Asks
from sidecar.errors import BusDownError, ConfigurationError, HostSilentError, HostUnknownError

LIMIT_S = 20.0


class Bus:
    """Talk and caller in one."""

    def __init__(self) -> None:
        self.connected, self.was_heard = True, True
        self.probes: list[str] = []
        self.calls: list[Any] = []
        self.act: Callable[[], Any] = lambda: "result"
        self.connects_within_s: list[float] = []
        self.connect_fault: Exception | None = None

    def begin_probe(self) -> str:
        self.probes.append("p")
        return "p"

    def end_probe(self, number: str) -> bool:
        self.probes.remove(number)  # whatever happens, it is ended
        return self.was_heard

    def forget(self, hostname: str, timeout_s: float) -> None:
        self.calls.append(("forget", hostname, timeout_s))
        self.act()

    def collect(self, expected: Collection[str], timeout_s: float) -> list[Any]:
        self.calls.append(("collect", expected, timeout_s))
        return [self.act()]

    def connect(self, within_s: float) -> None:
        self.connects_within_s.append(within_s)
        if self.connect_fault is not None:
            raise self.connect_fault

    def call(self, hostname: str, version: str, operation: str, arguments: Mapping[str, Any], timeout_s: float) -> Any:
        self.calls.append((hostname, version, operation, arguments, timeout_s))
        return self.act()


class Desk:
    """Asks one thing after the other."""

    def __init__(self, bus: Bus, find_caller: Callable[[], Bus] | None = None) -> None:
        self.done: Queue[dict[str, Any]] = Queue()
        self.asks = Asks(bus, find_caller or (lambda: bus), self._tell)

    def ask(self, **values: Any) -> dict[str, Any]:
        self.asks.receive({"id": 7, "timeout_s": 5.0, **values})
        return self.done.get(timeout=LIMIT_S)

    def call(self) -> dict[str, Any]:
        return self.ask(what="call", host="beta", operation="preflight", arguments={"domain": "vm1"})

    def _tell(self, word: Word, **values: Any) -> None:
        assert word is Word.DONE
        render_line(word, **values)
        self.done.put(values)


def fail_with(error: Exception) -> Callable[[], Any]:
    def act() -> Any:
        raise error

    return act


@pytest.fixture
def bus() -> Bus:
    return Bus()


def test_calls_with_the_version_that_the_operation_needs(bus: Bus) -> None:
    assert Desk(bus).call() == {"id": 7, "result": "result"}
    ((*values, timeout_s),) = bus.calls
    assert values == ["beta", "1.2", "preflight", {"domain": "vm1"}]
    assert 0.0 < timeout_s <= 5.0
    assert bus.probes == []


def test_nothing_is_sent_while_there_is_no_way_to_the_broker(bus: Bus) -> None:
    bus.connect_fault = BusDownError("no answer within 2 s")
    problem = Desk(bus).ask(what="call", host="beta", operation="host", arguments={}, timeout_s=2.0)["problem"]
    assert problem["code"] == ProblemCode.BUS_UNAVAILABLE
    assert "no answer within 2 s" in problem["detail"]
    assert bus.connects_within_s == [2.0]
    assert (bus.calls, bus.probes) == ([], [])


def test_collects_and_has_forgotten(bus: Bus) -> None:
    desk = Desk(bus)
    assert desk.ask(what="collect", expected=["beta"]) == {"id": 7, "result": ["result"]}
    assert desk.ask(what="forget", hostname="gamma") == {"id": 7, "result": None}
    assert bus.calls == [("collect", ["beta"], 5.0), ("forget", "gamma", 5.0)]


@pytest.mark.parametrize(
    "values", [{"what": "collect", "expected": []}, {"what": "forget", "hostname": "x"}, {"what": "call"}]
)
def test_nothing_is_tried_without_a_connection(bus: Bus, values: dict[str, Any]) -> None:
    bus.connected = False
    assert Desk(bus).ask(**values)["problem"]["code"] == ProblemCode.BUS_UNAVAILABLE
    assert bus.calls == []


@pytest.mark.parametrize(
    ("values", "error", "code"),
    [
        ({"what": "collect", "expected": []}, TimeoutError("hangs"), ProblemCode.BUS_UNAVAILABLE),
        ({"what": "collect", "expected": []}, BusDownError("full"), ProblemCode.BUS_UNAVAILABLE),
        ({"what": "forget", "hostname": "x"}, TimeoutError("hangs"), ProblemCode.OUTCOME_UNKNOWN),
        ({"what": "forget", "hostname": "x"}, BusDownError("full"), ProblemCode.BUS_UNAVAILABLE),
    ],
)
def test_a_broker_that_hangs(bus: Bus, values: dict[str, Any], error: Exception, code: ProblemCode) -> None:
    bus.act = fail_with(error)
    assert Desk(bus).ask(**values)["problem"]["code"] == code


@pytest.mark.parametrize(
    ("error", "was_heard", "code"),
    [
        (HostUnknownError("nobody"), True, ProblemCode.HOST_UNREACHABLE),
        (HostUnknownError("nobody"), False, ProblemCode.HOST_UNREACHABLE),
        (HostSilentError("late"), True, ProblemCode.HOST_UNREACHABLE),
        (HostSilentError("late"), False, ProblemCode.BUS_UNAVAILABLE),
        (ProblemError(ProblemCode.DOMAIN_NOT_FOUND, "no"), True, ProblemCode.DOMAIN_NOT_FOUND),
        (ProblemError(ProblemCode.UNKNOWN_OPERATION, "older"), True, ProblemCode.UNSUPPORTED_VERSION),
        (ProblemError(ProblemCode.UNSUPPORTED_VERSION, "older"), True, ProblemCode.UNSUPPORTED_VERSION),
        (ProblemError("of-the-future", "what"), True, "of-the-future"),
        (BusDownError("gone"), True, ProblemCode.BUS_UNAVAILABLE),
        (ValueError("ours"), True, ProblemCode.INTERNAL),
    ],
)
def test_how_a_call_ends(bus: Bus, error: Exception, was_heard: bool, code: str) -> None:
    bus.act, bus.was_heard = fail_with(error), was_heard
    assert Desk(bus).call()["problem"]["code"] == code
    assert bus.probes == []


def test_a_wrong_url(bus: Bus) -> None:
    desk = Desk(bus, fail_with(ConfigurationError("wrong")))
    assert desk.call()["problem"]["code"] == ProblemCode.BUS_UNAVAILABLE


def test_another_hosts_problem_holds_texts_only(bus: Bus) -> None:
    hostile: Any = {"a": {"b": 1}, "c": None}
    bus.act = fail_with(ProblemError(ProblemCode.JOB_HELD, {"x": float("nan")}, **hostile))  # type: ignore[arg-type]
    assert Desk(bus).call()["problem"] == {
        "code": "job-held",
        "detail": "{'x': nan}",
        "extra": {"a": "{'b': 1}", "c": "None"},
    }


def test_another_hosts_answer_that_the_link_does_not_carry(bus: Bus) -> None:
    bus.act = lambda: {"a": math.nan}
    assert Desk(bus).call()["problem"]["code"] == ProblemCode.HOST_UNREACHABLE


def test_asks_are_bounded_and_answered_all_the_same(bus: Bus) -> None:
    gate = threading.Event()

    def wait() -> Any:
        assert gate.wait(LIMIT_S)

    bus.act = wait
    desk = Desk(bus)
    for number in range(ASKS_LIMIT):
        desk.asks.receive({"id": number, "what": "forget", "hostname": "x", "timeout_s": 5.0})
    refused = desk.ask(what="forget", hostname="x")
    assert (refused["id"], refused["problem"]["code"]) == (7, ProblemCode.TOO_MANY_CONNECTIONS)
    gate.set()
    assert sorted(desk.done.get(timeout=LIMIT_S)["id"] for _ in range(ASKS_LIMIT)) == list(range(ASKS_LIMIT))
