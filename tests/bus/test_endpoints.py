"""The endpoints, found and called by oslo.messaging's own dispatcher."""

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from sidecar.api.operations import OPERATIONS, SECONDS_LIMIT
from sidecar.api.problems import ProblemCode, ProblemError
from sidecar.api.versions import API_VERSION, ApiVersion
from sidecar.bus import endpoints, oslo
from sidecar.bus.endpoints import (
    ANSWER_S,
    CHANGING_LIMIT,
    FOLLOWING_LIMIT,
    SKEW_S,
    WAIT_LIMIT_S,
    WAITING_LIMIT,
    Endpoint,
    make_endpoints,
    make_fleet_endpoint,
)

# isort: split
import oslo_messaging
from oslo_messaging._drivers.common import deserialize_remote_exception, serialize_remote_exception
from oslo_messaging.rpc.dispatcher import ExpectedException, RPCDispatcher

LIMIT_S = 20.0


def dispatch(
    made: list[Endpoint], method: Any, version: Any = "1.0", arguments: Any = None, context: Any = None
) -> Any:
    """As a server of oslo.messaging's does with a message."""
    message = {"method": method, "version": version, "args": {} if arguments is None else arguments}
    dispatcher = RPCDispatcher(made, None, oslo_messaging.ExplicitRPCAccessPolicy)
    return dispatcher.dispatch(SimpleNamespace(message=message, ctxt=context or {}, client_timeout=None))


def echo(*call: Any) -> Any:
    """What ``LinkEnd.call`` was called with."""
    return call


def never(*call: Any) -> Any:
    """For what must not be called."""
    pytest.fail(f"called: {call}")


def make(served: ApiVersion = API_VERSION, call: endpoints.Call = echo, *, changes: bool = False) -> list[Endpoint]:
    return make_endpoints(oslo.READING, served, call, changes=changes)


def receive_error(error: ExpectedException) -> Any:
    """What the other end makes of it."""
    return deserialize_remote_exception(serialize_remote_exception(error.exc_info), oslo.REMOTE_ERRORS)


@pytest.mark.parametrize("changes", [False, True])
@pytest.mark.parametrize("served", [ApiVersion(1, minor) for minor in range(API_VERSION.minor + 1)])
def test_serves_exactly_the_operations_of_its_version_and_door(served: ApiVersion, changes: bool) -> None:
    made = make(served, changes=changes)
    for row in OPERATIONS.values():
        if served.serves(row.since) and row.changes is changes:
            operation, given, version, _ = dispatch(made, row.name, str(served), {"timeout": 1})
            assert (operation, given, version) == (row.name, {"timeout": 1}, str(served))
        else:
            with pytest.raises(oslo_messaging.NoSuchMethod):
                dispatch(made, row.name, str(served))


@pytest.mark.parametrize("declared", ["1.0", "1.1", "1.2", "1.3"])
def test_tells_what_version_the_caller_declares(declared: str) -> None:
    # Also of an operation that came later: it is the bridge that refuses it.
    assert dispatch(make(), "summary", declared)[2] == declared


@pytest.mark.parametrize("version", ["1.4", "1.10", "2.0", "0.9", "1.3.1"])
def test_versions_that_are_not_served(version: str) -> None:
    with pytest.raises(oslo_messaging.UnsupportedVersion):
        dispatch(make(), "host", version)


@pytest.mark.parametrize(
    "method",
    ["target", "__init__", "__class__", "__dict__", "_make", "send", "nothing", "", "oslo_rpc_server_ping", "host "],
)
def test_nothing_else_is_reached(method: str) -> None:
    with pytest.raises(oslo_messaging.NoSuchMethod):
        dispatch(make(), method)


@pytest.mark.parametrize(
    ("method", "version", "arguments"),
    [(None, "1.0", {}), (5, "1.0", {}), ("host", 1.0, {}), ("host", "x.y", {}), ("host", "1.0", [1])],
)
def test_rubbish_only_raises(method: Any, version: Any, arguments: Any) -> None:
    with pytest.raises((TypeError, AttributeError, ValueError)):
        dispatch(make(), method, version, arguments)


def test_arguments_are_handed_on_whatever_they_are_called() -> None:
    arguments = {"_context": 1, "self": 2, "ctxt": 3, "for": "agreed", "timeout": "soon", "row": None}
    assert dispatch(make(), "wait", "1.1", arguments)[1] == arguments


@pytest.mark.parametrize(
    ("operation", "given", "expected_s"),
    [
        ("host", {}, 0),
        ("host", {"timeout": 100}, 0),
        ("wait", {}, WAIT_LIMIT_S),
        ("fleet", {}, 5),
        ("wait", {"timeout": 7.5}, 7.5),
        ("wait", {"timeout": SECONDS_LIMIT}, WAIT_LIMIT_S),
        ("wait", {"timeout": 1e9}, SECONDS_LIMIT),  # for the daemon to refuse
        ("wait", {"timeout": -1}, 0),
        ("fleet", {"timeout": float("nan")}, 5),
        ("fleet", {"timeout": "x"}, 5),
        ("fleet", {"timeout": True}, 5),
    ],
)
def test_waits_for_the_daemon_as_long_as_the_operation_may_take(
    operation: str, given: Mapping[str, Any], expected_s: float
) -> None:
    assert dispatch(make(), operation, "1.3", given)[3] == ANSWER_S + expected_s


@pytest.mark.parametrize(
    ("operation", "given", "expected"),
    [
        ("wait", {"timeout": 3600.0, "domain": "vm1"}, {"timeout": WAIT_LIMIT_S, "domain": "vm1"}),
        ("wait", {"domain": "vm1"}, {"timeout": WAIT_LIMIT_S, "domain": "vm1"}),
        ("events", {"timeout": SECONDS_LIMIT}, {"timeout": WAIT_LIMIT_S}),
        ("wait", {"timeout": None}, {"timeout": WAIT_LIMIT_S}),
        ("events", {}, {}),
        ("host", {"timeout": 60}, {"timeout": 60}),
        ("wait", {"timeout": WAIT_LIMIT_S}, {"timeout": WAIT_LIMIT_S}),
        ("wait", {"timeout": 7}, {"timeout": 7}),
        ("wait", {"timeout": "x"}, {"timeout": "x"}),
        ("wait", {"timeout": 10**400}, {"timeout": 10**400}),  # the daemon refuses these
        ("wait", {"timeout": -1}, {"timeout": -1}),
        ("wait", {"timeout": 3601}, {"timeout": 3601}),
    ],
)
def test_what_reads_waits_only_so_long_at_a_time(
    operation: str, given: Mapping[str, Any], expected: Mapping[str, Any]
) -> None:
    assert dispatch(make(), operation, "1.3", given)[1] == expected


def test_what_changes_something_has_the_time_that_it_was_given() -> None:
    _, given, _, patience_s = dispatch(make(changes=True), "send", arguments={"timeout": 1e9})
    assert (given, patience_s) == ({"timeout": 1e9}, ANSWER_S + SECONDS_LIMIT)


class TestGivenUp:
    """What a caller does not wait for any more is not begun."""

    @pytest.fixture(autouse=True)
    def _clock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sidecar.bus.endpoints.time.time", lambda: 1_000_000.0)

    @pytest.mark.parametrize("late_s", [SKEW_S + 0.1, 3600.0])
    def test_it_is_refused_with_both_clocks(self, late_s: float) -> None:
        context = {"expires": 1_000_000.0 - late_s}
        with pytest.raises(ExpectedException) as caught:
            dispatch(make(changes=True, call=never), "send", context=context)
        problem = receive_error(caught.value).problem
        assert problem.code == ProblemCode.TOO_SLOW
        assert "nothing was done" in problem.detail
        assert f"{context['expires']:.1f}" in problem.detail
        assert "1000000.0" in problem.detail

    @pytest.mark.parametrize(("left_s", "expected_s"), [(7.0, 7.0 + SKEW_S), (-SKEW_S, 0.0), (1e6, ANSWER_S + 10.0)])
    def test_the_daemon_has_the_time_that_is_left(self, left_s: float, expected_s: float) -> None:
        context = {"expires": 1_000_000.0 + left_s}
        assert dispatch(make(changes=True), "send", context=context)[3] == pytest.approx(expected_s)

    def test_reading_is_none_the_worse_for_it(self) -> None:
        assert dispatch(make(), "host", context={"expires": 0.0})[3] == ANSWER_S

    @pytest.mark.parametrize("context", [{}, {"user": "x"}, {"expires": None}])
    def test_who_does_not_say_is_served(self, context: Mapping[str, Any]) -> None:
        assert dispatch(make(changes=True), "send", context=context)[3] == ANSWER_S + 10.0

    @pytest.mark.parametrize("expires", ["soon", [], True, float("nan"), float("inf"), 10**400])
    def test_who_says_nonsense_is_not(self, expires: Any) -> None:
        with pytest.raises(ExpectedException) as caught:
            dispatch(make(changes=True, call=never), "send", context={"expires": expires})
        assert receive_error(caught.value).problem.code == ProblemCode.BAD_REQUEST


def test_a_problem_is_the_same_at_the_other_end() -> None:
    def refuse(*_: Any) -> Any:
        raise ProblemError(ProblemCode.DOMAIN_NOT_FOUND, "no domain 'x'", reason="none")

    with pytest.raises(ExpectedException) as caught:
        dispatch(make(call=refuse), "show")
    received = receive_error(caught.value)
    assert isinstance(received, ProblemError)
    assert received.problem.code == ProblemCode.DOMAIN_NOT_FOUND
    assert received.problem.detail == "no domain 'x'"
    assert received.problem.extra == {"reason": "none"}
    assert "Traceback" not in serialize_remote_exception(caught.value.exc_info)


def test_a_fault_of_ours_tells_nothing_of_itself(caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: Any) -> Any:
        raise KeyError("secret")

    with pytest.raises(ExpectedException) as caught:
        dispatch(make(call=fail), "show")
    received = receive_error(caught.value)
    assert received.problem.code == ProblemCode.INTERNAL
    assert "secret" not in str(received)
    assert "secret" in caplog.text


def test_a_flood_is_no_flood_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: Any) -> Any:
        raise MemoryError

    with pytest.raises(ExpectedException) as caught:
        dispatch(make(call=fail), "show")
    assert receive_error(caught.value).problem.code == ProblemCode.TOO_MANY_CONNECTIONS
    dispatch([make_fleet_endpoint(oslo.FLEET, ApiVersion(1, 0), fail, ["ping"])], "ping")
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("operation", "changes", "code"),
    [("host", False, ProblemCode.HOST_UNREACHABLE), ("send", True, ProblemCode.OUTCOME_UNKNOWN)],
)
def test_a_daemon_that_does_not_answer(operation: str, changes: bool, code: ProblemCode) -> None:
    def keep_silent(*_: Any) -> Any:
        raise TimeoutError

    with pytest.raises(ExpectedException) as caught:
        dispatch(make(call=keep_silent, changes=changes), operation)
    assert receive_error(caught.value).problem.code == code


@pytest.mark.parametrize("fault", [MemoryError, KeyError, OSError])
def test_whatever_fails_while_something_is_changed_leaves_it_open(fault: type[Exception]) -> None:
    def fail(*_: Any) -> Any:
        raise fault

    with pytest.raises(ExpectedException) as caught:
        dispatch(make(call=fail, changes=True), "send")
    assert receive_error(caught.value).problem.code == ProblemCode.OUTCOME_UNKNOWN


class Crowd:
    """Calls that last until ``end``, and those that were refused."""

    def __init__(self, *, changes: bool) -> None:
        self.made = make(call=self._call, changes=changes)
        self.entered = threading.Semaphore(0)
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(3 * oslo.POOL_SIZE)

    def _call(self, operation: str, arguments: Mapping[str, Any], *_: Any) -> Any:
        if arguments.get("domain") == "long":
            self.entered.release()
            assert self._over.wait(LIMIT_S)
        return operation

    def begin(self, operation: str, count: int) -> list[Any]:
        """So many more, all of which are under way."""
        arguments = {"domain": "long", "timeout": 5}
        # In whatever version: the door has one room.
        calls = [self._pool.submit(dispatch, self.made, operation, f"1.{1 + i % 3}", arguments) for i in range(count)]
        assert all(self.entered.acquire(timeout=LIMIT_S) for _ in calls)
        return calls

    def is_refused(self, operation: str, **arguments: Any) -> bool:
        """At once, since who waited would wait for ever."""
        try:
            dispatch(self.made, operation, "1.3", arguments)
        except ExpectedException as error:
            return bool(receive_error(error).problem.code == ProblemCode.TOO_MANY_CONNECTIONS)
        return False

    def end(self) -> None:
        self._over.set()
        self._pool.shutdown()


def test_of_those_that_change_something_too_many_are_refused_at_once() -> None:
    crowd = Crowd(changes=True)
    try:
        calls = crowd.begin("send", CHANGING_LIMIT)
        # oslo.messaging's pool has room for these: none of them waits until its caller is gone.
        refused = [crowd.is_refused("send", domain="long") for _ in range(oslo.POOL_SIZE + 1 - CHANGING_LIMIT)]
        assert all(refused)
        assert crowd.is_refused("renegotiate")
        assert crowd.is_refused("send", timeout=0)
    finally:
        crowd.end()
    assert [call.result(LIMIT_S) for call in calls] == ["send"] * CHANGING_LIMIT
    assert not crowd.is_refused("send")


def test_those_that_wait_leave_room_for_those_that_do_not() -> None:
    crowd = Crowd(changes=False)
    try:
        waiting = crowd.begin("wait", WAITING_LIMIT)
        assert crowd.is_refused("wait")
        assert crowd.is_refused("fleet")
        assert not crowd.is_refused("wait", timeout=0)
        assert not crowd.is_refused("events", timeout=5)
        following = crowd.begin("events", FOLLOWING_LIMIT)
        assert crowd.is_refused("events", timeout=5)
        assert not crowd.is_refused("events")
        assert not crowd.is_refused("host")
    finally:
        crowd.end()
    assert [call.result(LIMIT_S) for call in waiting + following] == ["wait"] * len(waiting) + ["events"] * len(
        following
    )
    assert not crowd.is_refused("wait")
    assert not crowd.is_refused("events", timeout=5)


def test_some_threads_are_always_free() -> None:
    assert CHANGING_LIMIT < oslo.POOL_SIZE
    assert WAITING_LIMIT + FOLLOWING_LIMIT < oslo.POOL_SIZE


def test_what_hosts_say_is_received_by_name_and_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    came: list[Any] = []

    def receive(name: str, values: Mapping[str, Any]) -> None:
        came.append((name, dict(values)))
        raise RuntimeError("unforeseen")

    made = [make_fleet_endpoint(oslo.FLEET, ApiVersion(1, 0), receive, ["ping"])]
    assert dispatch(made, "ping", arguments={"token": 1, "name": 2}) is None
    assert came == [("ping", {"token": 1, "name": 2})]
    assert "ping: a fault of ours" in caplog.text
    with pytest.raises(oslo_messaging.NoSuchMethod):
        dispatch(made, "announce")
