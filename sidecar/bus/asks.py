"""What the daemon asks of the bus, each ask in a thread of its own, and answered in time whatever the broker does."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from sidecar.api.link import Ask, Word, describe_problem
from sidecar.api.operations import OPERATIONS
from sidecar.api.problems import Problem, ProblemCode, ProblemError
from sidecar.errors import BusDownError, BusError, ConfigurationError, HostSilentError, HostUnknownError

logger = logging.getLogger(__name__)

# At a time. The daemon asks for people at terminals, and for nothing else.
ASKS_LIMIT = 16

# Of the time that a call has, for the way to the broker at most.
CONNECT_S = 5.0

_NO_CONNECTION = "no connection to the message bus"


class HostCaller(Protocol):
    """Calls other hosts; ``bus.caller.Caller`` is one, and says what is raised."""

    def connect(self, within_s: float) -> None:
        """Have the way to the broker."""

    def call(self, hostname: str, version: str, operation: str, arguments: Mapping[str, Any], timeout_s: float) -> Any:
        """The document that an operation of a host's results in."""


class Talk(Protocol):
    """What of ``FleetTalk`` is asked for."""

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known."""

    def begin_probe(self) -> str:
        """Send something to ourselves."""

    def end_probe(self, number: str) -> bool:
        """Whether it has come; to be called once."""

    def forget(self, hostname: str, timeout_s: float) -> None:
        """Tell every host."""

    def collect(self, expected: Collection[str], timeout_s: float) -> list[Any]:
        """Every other host's summary."""


class Asks:
    """See the module."""

    def __init__(self, talk: Talk, find_caller: Callable[[], HostCaller], tell: Callable[..., None]) -> None:
        """``find_caller`` may raise ``ConfigurationError``; ``tell`` is ``LinkEnd.send``."""
        self._talk, self._find_caller, self._tell = talk, find_caller, tell
        self._room = threading.BoundedSemaphore(ASKS_LIMIT)

    def receive(self, values: Mapping[str, Any]) -> None:
        """An ``ask``; ``done`` follows, at once or later."""
        number, what = values["id"], Ask(values["what"])
        if not self._room.acquire(blocking=False):
            problem = Problem(ProblemCode.TOO_MANY_CONNECTIONS, f"{ASKS_LIMIT} asks are under way already")
            self._tell(Word.DONE, id=number, problem=describe_problem(problem))
            return
        threading.Thread(target=self._run, args=(number, what, values), name=f"ask-{what}", daemon=True).start()

    def _run(self, number: Any, what: Ask, values: Mapping[str, Any]) -> None:
        try:
            self._tell(Word.DONE, id=number, **self._answer(what, values))
        except ValueError as error:
            problem = Problem(ProblemCode.HOST_UNREACHABLE, f"what came back is no answer: {error}")
            self._tell(Word.DONE, id=number, problem=describe_problem(problem))
        finally:
            self._room.release()

    def _answer(self, what: Ask, values: Mapping[str, Any]) -> dict[str, Any]:
        """``result`` or ``problem``."""
        try:
            if not self._talk.connected:
                raise ProblemError(ProblemCode.BUS_UNAVAILABLE, _NO_CONNECTION)
            return {"result": self._do(what, values, values["timeout_s"])}
        except ProblemError as error:
            return {"problem": describe_problem(_clean(error.problem))}
        except (TimeoutError, BusDownError, ConfigurationError) as error:
            return {"problem": describe_problem(_judge(what, error))}
        except Exception:
            logger.exception("%s: a fault of ours", what)
            fault = Problem(ProblemCode.INTERNAL, f"{what}: a fault of the daemon's own; its log tells more")
            return {"problem": describe_problem(fault)}

    def _do(self, what: Ask, values: Mapping[str, Any], timeout_s: float) -> Any:
        if what is Ask.CALL:
            return self._call(values["host"], values["operation"], values["arguments"], timeout_s)
        if what is Ask.COLLECT:
            return self._talk.collect(values["expected"], timeout_s)
        self._talk.forget(values["hostname"], timeout_s)
        return None

    def _call(self, host: str, operation: str, arguments: Mapping[str, Any], timeout_s: float) -> Any:
        deadline = time.monotonic() + timeout_s
        caller = self._find_caller()
        # Who waits for the broker here sends nothing when it returns.
        caller.connect(min(CONNECT_S, timeout_s))
        probe = self._talk.begin_probe()
        fault: BusError | None = None
        try:
            version = str(OPERATIONS[operation].since)
            return caller.call(host, version, operation, arguments, max(deadline - time.monotonic(), 0.0))
        except BusError as error:
            fault = error
        finally:
            has_come = self._talk.end_probe(probe)
        # Whose silence it is: the host's or the broker's.
        if isinstance(fault, HostUnknownError) or (isinstance(fault, HostSilentError) and has_come):
            raise ProblemError(ProblemCode.HOST_UNREACHABLE, f"{host}: {fault}")
        raise ProblemError(ProblemCode.BUS_UNAVAILABLE, f"{_NO_CONNECTION}: {fault}")


def _judge(what: Ask, error: Exception) -> Problem:
    if what is Ask.FORGET and isinstance(error, TimeoutError):
        return Problem(ProblemCode.OUTCOME_UNKNOWN, f"nobody knows whether the other hosts were told: {error}")
    return Problem(ProblemCode.BUS_UNAVAILABLE, f"{_NO_CONNECTION}: {error}")


def _clean(problem: Problem) -> Problem:
    """Another host's problem, with nothing but texts in it, and none for the older version that it may be."""
    code = ProblemCode.UNSUPPORTED_VERSION if problem.code == ProblemCode.UNKNOWN_OPERATION else problem.code
    return Problem(str(code), str(problem.detail), {str(key): str(value) for key, value in problem.extra.items()})
