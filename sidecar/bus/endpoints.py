"""The operations as oslo.messaging's endpoints: one for reading, one for what changes something.

An endpoint is not told in which version it is called. But oslo.messaging takes the first whose version is not below the
message's: with one for each minor that is served, from the lowest on, each knows which its callers declared.

Source: docs/bus.md; ``api.operations`` for the table.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
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
# At a time, for each kind, so that some of the threads are always free: for the quick ones, and to refuse the others at
# once. A call that waited for a thread instead might be done when nobody waits for it any more.
CHANGING_LIMIT = oslo.POOL_SIZE - 4
WAITING_LIMIT = FOLLOWING_LIMIT = oslo.POOL_SIZE // 2 - 2
# For what reads, whoever wants more asks again: an abandoned call is over soon.
WAIT_LIMIT_S = 30.0
# By so much a caller's clock may be behind this host's.
SKEW_S = 1.0

_NUMBER_LIMIT = 1e12

# Operation, arguments, declared version, and for how long to wait; as ``LinkEnd.call``, which raises the same.
Call = Callable[[str, Mapping[str, Any], str, float], Any]


class Endpoint:
    """What is served to callers that declare one version; oslo.messaging finds the operations as its attributes."""

    def __init__(self, topic: str, version: ApiVersion, methods: Mapping[str, Callable[..., Any]]) -> None:
        self.target = oslo.make_target(topic, version=str(version))
        for name, method in methods.items():
            setattr(self, name, method)


class Gates:
    """How many calls may be under way at a door, by what they are; for any thread."""

    def __init__(self) -> None:
        self._changing = BoundedSemaphore(CHANGING_LIMIT)
        self._following = BoundedSemaphore(FOLLOWING_LIMIT)
        self._waiting = BoundedSemaphore(WAITING_LIMIT)

    @contextmanager
    def passing(self, row: Operation, wait_s: float) -> Iterator[None]:
        """While it is under way. Raises ``ProblemError``: there are too many."""
        gate = self._choose(row, wait_s)
        if gate is not None and not gate.acquire(blocking=False):
            told = "too many calls are under way here, nothing was done; try again later"
            raise ProblemError(ProblemCode.TOO_MANY_CONNECTIONS, f"{row.name}: {told}")
        try:
            yield
        finally:
            if gate is not None:
                gate.release()

    def _choose(self, row: Operation, wait_s: float) -> BoundedSemaphore | None:
        if row.changes:
            return self._changing
        if not wait_s:
            return None
        return self._following if row.streams else self._waiting


def make_endpoints(topic: str, served: ApiVersion, call: Call, *, changes: bool) -> list[Endpoint]:
    """The endpoints of a topic: the operations that came with ``served`` or before, and change something or do not."""
    rows = [row for row in OPERATIONS.values() if row.changes is changes and served.serves(row.since)]
    gates = Gates()
    versions = [ApiVersion(served.major, minor) for minor in range(served.minor + 1)]
    return [Endpoint(topic, each, _make_methods(rows, str(each), call, gates)) for each in versions]


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


def _make_methods(rows: Iterable[Operation], version: str, call: Call, gates: Gates) -> dict[str, Callable[..., Any]]:
    return {row.name: _make_method(row, version, call, gates) for row in rows}


def _make_method(row: Operation, version: str, call: Call, gates: Gates) -> Callable[..., Any]:
    def method(context: Any, /, **arguments: Any) -> Any:
        try:
            return _call_in_time(row, arguments, version, call, gates, context)
        except ProblemError as error:
            problem = error.problem
        except Exception as error:
            problem = _judge_fault(row, error)
        raise _pack(problem)

    exposed: Callable[..., Any] = oslo_messaging.expose(method)
    return exposed


def _judge_fault(row: Operation, error: Exception) -> Problem:
    """What it means that a call failed here, perhaps after the daemon had it."""
    if isinstance(error, MemoryError):
        # A flood: not one more line of it, in the log neither.
        problem = Problem(ProblemCode.TOO_MANY_CONNECTIONS, "there is no memory left for calls")
    elif isinstance(error, TimeoutError):
        problem = Problem(ProblemCode.HOST_UNREACHABLE, str(error))
    else:
        logger.error("%s: a fault of ours", row.name, exc_info=error)
        problem = Problem(ProblemCode.INTERNAL, f"{row.name}: a fault of the daemon's own; its log tells more")
    if row.changes:
        return Problem(ProblemCode.OUTCOME_UNKNOWN, f"nobody knows whether it happened: {problem.detail}")
    return problem


def _call_in_time(
    row: Operation, arguments: Mapping[str, Any], version: str, call: Call, gates: Gates, context: Any
) -> Any:
    given = arguments if row.changes else _shorten(row, arguments)
    wait_s = _read_wait_s(row, given)
    patience_s = ANSWER_S + wait_s
    with gates.passing(row, wait_s):
        if row.changes:
            patience_s = min(patience_s, _measure_left_s(row, context))
        return call(row.name, given, version, patience_s)


def _measure_left_s(row: Operation, context: Any) -> float:
    """Until the caller gives up. Raises ``ProblemError``: he has, and must not find out that it was done later."""
    expires = context.get(oslo.EXPIRES) if isinstance(context, Mapping) else None
    if expires is None:
        return math.inf
    if not _is_number(expires):
        raise ProblemError(ProblemCode.BAD_REQUEST, f"{oslo.EXPIRES} in the context: expected unix time, in seconds")
    now = time.time()
    if now > expires + SKEW_S:
        told = f"the caller waited until {expires:.1f} by its clock, and it is {now:.1f} by this host's (unix time)"
        raise ProblemError(ProblemCode.TOO_SLOW, f"{row.name}: it came too late, and nothing was done: {told}")
    return float(expires) + SKEW_S - now


def _shorten(row: Operation, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments, with no longer time to wait than is granted over the bus; what is no time the daemon refuses."""
    argument, given = row.argument("timeout"), arguments.get("timeout")
    if argument is None:
        return arguments
    if given is None:
        given = argument.default
    if _is_number(given) and WAIT_LIMIT_S < given <= SECONDS_LIMIT:
        return {**arguments, "timeout": WAIT_LIMIT_S}
    return arguments


def _read_wait_s(row: Operation, arguments: Mapping[str, Any]) -> float:
    """For how long the operation itself may wait."""
    argument = row.argument("timeout")
    if argument is None:
        return 0.0
    given = arguments.get("timeout")
    wait_s: float = given if _is_number(given) else argument.default  # type: ignore[assignment]
    return min(max(wait_s, 0.0), SECONDS_LIMIT)


def _is_number(value: Any) -> bool:
    """A number that is a time; one that is not finite is none, nor one that has a thousand digits."""
    return not isinstance(value, bool) and isinstance(value, int | float) and abs(value) <= _NUMBER_LIMIT


def _pack(problem: Problem) -> Exception:
    """The problem so that oslo.messaging sends and does not log it; without a traceback, which is nobody's business."""
    error = ProblemError(problem.code, problem.detail, **problem.extra)
    expected: Exception = ExpectedException()
    expected.exc_info = (ProblemError, error, None)  # type: ignore[attr-defined]
    return expected
