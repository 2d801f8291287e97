"""The operations as oslo.messaging's endpoints: one for reading, one for what changes something.

An endpoint is not told in which version it is called. But oslo.messaging takes the first whose version is not below the
message's: with one for each minor that is served, from the lowest on, each knows which its callers declared.

Source: docs/bus.md; ``api.operations`` for the table.
"""

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from threading import BoundedSemaphore
from typing import Any

from sidecar.api.operations import OPERATIONS, SECONDS_LIMIT, Operation
from sidecar.api.problems import Problem, ProblemCode, ProblemError
from sidecar.api.versions import ApiVersion
from sidecar.bus import oslo

# isort: split
# After ``oslo``, which says how it is imported.
import oslo_messaging
from oslo_messaging.rpc.dispatcher import ExpectedException

logger = logging.getLogger(__name__)

# A call to libvirt may take half a minute.
ANSWER_S = 40.0
# Operations that wait for something, at a time: the rest of the threads is for those that do not.
WAITING_LIMIT = oslo.POOL_SIZE // 2

# Operation, arguments, declared version, and for how long to wait; as ``LinkEnd.call``, which raises the same.
Call = Callable[[str, Mapping[str, Any], str, float], Any]


class Endpoint:
    """What is served to callers that declare one version; oslo.messaging finds the operations as its attributes."""

    def __init__(self, topic: str, version: ApiVersion, methods: Mapping[str, Callable[..., Any]]) -> None:
        self.target = oslo.make_target(topic, version=str(version))
        for name, method in methods.items():
            setattr(self, name, method)


def make_endpoints(topic: str, served: ApiVersion, call: Call, *, changes: bool) -> list[Endpoint]:
    """The endpoints of a topic: the operations that came with ``served`` or before, and change something or do not."""
    rows = [row for row in OPERATIONS.values() if row.changes is changes and served.serves(row.since)]
    gate = BoundedSemaphore(WAITING_LIMIT)
    versions = [ApiVersion(served.major, minor) for minor in range(served.minor + 1)]
    return [Endpoint(topic, each, _make_methods(rows, str(each), call, gate)) for each in versions]


def make_fleet_endpoint(
    topic: str, version: ApiVersion, receive: Callable[[str, Mapping[str, Any]], None], names: Iterable[str]
) -> Endpoint:
    """Where other hosts' messages come in; ``receive`` gets each with its name, which is one of ``names``."""
    return Endpoint(topic, version, {name: _make_receiver(name, receive) for name in names})


def _make_receiver(name: str, receive: Callable[[str, Mapping[str, Any]], None]) -> Callable[..., None]:
    def method(_context: object, /, **values: Any) -> None:
        try:
            receive(name, values)
        except MemoryError:
            logger.debug("%s: no memory left", name)
        except Exception:
            logger.exception("%s: a fault of ours", name)

    exposed: Callable[..., None] = oslo_messaging.expose(method)
    return exposed


def _make_methods(
    rows: Iterable[Operation], version: str, call: Call, gate: BoundedSemaphore
) -> dict[str, Callable[..., Any]]:
    return {row.name: _make_method(row, version, call, gate) for row in rows}


def _make_method(row: Operation, version: str, call: Call, gate: BoundedSemaphore) -> Callable[..., Any]:
    def method(_context: object, /, **arguments: Any) -> Any:
        try:
            return _call_gated(row, arguments, version, call, gate)
        except ProblemError as error:
            problem = error.problem
        except MemoryError:
            # A flood: not one more line of it, in the log neither.
            problem = Problem(ProblemCode.TOO_MANY_CONNECTIONS, "there is no memory left for calls")
        except Exception:
            logger.exception("%s: a fault of ours", row.name)
            problem = Problem(ProblemCode.INTERNAL, f"{row.name}: a fault of the daemon's own; its log tells more")
        raise _pack(problem)

    exposed: Callable[..., Any] = oslo_messaging.expose(method)
    return exposed


def _call_gated(row: Operation, arguments: Mapping[str, Any], version: str, call: Call, gate: BoundedSemaphore) -> Any:
    waits = row.argument("timeout") is not None
    if waits and not gate.acquire(blocking=False):
        raise ProblemError(ProblemCode.TOO_MANY_CONNECTIONS, f"{WAITING_LIMIT} calls wait already, try again later")
    try:
        return call(row.name, arguments, version, _read_patience_s(row, arguments))
    except TimeoutError as error:
        code = ProblemCode.OUTCOME_UNKNOWN if row.changes else ProblemCode.HOST_UNREACHABLE
        raise ProblemError(code, str(error)) from error
    finally:
        if waits:
            gate.release()


def _read_patience_s(row: Operation, arguments: Mapping[str, Any]) -> float:
    """For how long to wait for the daemon, which itself refuses what is no time."""
    argument = row.argument("timeout")
    if argument is None:
        return ANSWER_S
    given = arguments.get("timeout")
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        given = argument.default
    return ANSWER_S + min(max(given, 0.0), SECONDS_LIMIT)


def _pack(problem: Problem) -> Exception:
    """The problem so that oslo.messaging sends and does not log it; without a traceback, which is nobody's business."""
    error = ProblemError(problem.code, problem.detail, **problem.extra)
    expected: Exception = ExpectedException()
    expected.exc_info = (ProblemError, error, None)  # type: ignore[attr-defined]
    return expected
