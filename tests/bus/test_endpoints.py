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
from sidecar.bus.endpoints import ANSWER_S, WAITING_LIMIT, Endpoint, make_endpoints, make_fleet_endpoint

# isort: split
import oslo_messaging
from oslo_messaging._drivers.common import deserialize_remote_exception, serialize_remote_exception
from oslo_messaging.rpc.dispatcher import ExpectedException, RPCDispatcher

LIMIT_S = 20.0


def dispatch(made: list[Endpoint], method: Any, version: Any = "1.0", arguments: Any = None) -> Any:
    """As a server of oslo.messaging's does with a message."""
    message = {"method": method, "version": version, "args": {} if arguments is None else arguments}
    dispatcher = RPCDispatcher(made, None, oslo_messaging.ExplicitRPCAccessPolicy)
    return dispatcher.dispatch(SimpleNamespace(message=message, ctxt={}, client_timeout=None))


def echo(*call: Any) -> Any:
    """What ``LinkEnd.call`` was called with."""
    return call


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
            assert dispatch(made, row.name, str(served))[:3] == (row.name, {}, str(served))
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
        ("wait", {}, 60),
        ("wait", {"timeout": 7.5}, 7.5),
        ("wait", {"timeout": 1e9}, SECONDS_LIMIT),
        ("wait", {"timeout": -1}, 0),
        ("wait", {"timeout": float("nan")}, 60),
        ("wait", {"timeout": "x"}, 60),
        ("wait", {"timeout": True}, 60),
    ],
)
def test_waits_for_the_daemon_as_long_as_the_operation_may_take(
    operation: str, given: Mapping[str, Any], expected_s: float
) -> None:
    assert dispatch(make(), operation, "1.3", given)[3] == ANSWER_S + expected_s


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


def test_those_that_wait_leave_room_for_those_that_do_not() -> None:
    gate = threading.Event()
    entered = threading.Semaphore(0)

    def call(operation: str, *_: Any) -> Any:
        if operation == "wait":
            entered.release()
            assert gate.wait(LIMIT_S)
        return operation

    made = make(call=call)
    with ThreadPoolExecutor(WAITING_LIMIT) as pool:
        # In whatever version: the door has one room.
        waiting = [pool.submit(dispatch, made, "wait", f"1.{1 + i % 3}") for i in range(WAITING_LIMIT)]
        assert all(entered.acquire(timeout=LIMIT_S) for _ in waiting)
        with pytest.raises(ExpectedException) as caught:
            dispatch(made, "events", "1.1")
        assert receive_error(caught.value).problem.code == ProblemCode.TOO_MANY_CONNECTIONS
        assert dispatch(made, "host") == "host"
        gate.set()
        assert [each.result(LIMIT_S) for each in waiting] == ["wait"] * WAITING_LIMIT
    assert dispatch(made, "events", "1.1") == "events"


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
