"""What the daemon asks of the process that talks to the message bus, until it is answered or given up."""

import asyncio
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from sidecar.api.link import Ask, read_result
from sidecar.api.problems import ProblemCode, ProblemError
from sidecar.errors import BusDownError, BusError, HostSilentError

# The daemon asks for its own callers, and only few of those ask for the fleet.
QUESTIONS_LIMIT = 64

# A question ends in the process, by its own clock; this is for one that hangs.
MARGIN_S = 2.0


class Questions:
    """Those of one process; for the loop's thread alone. ``send`` hands the values of an ``ask`` to the process."""

    def __init__(self, send: Callable[..., None]) -> None:
        self._send = send
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._numbers = count(1)

    async def ask(self, what: Ask, timeout_s: float, **values: Any) -> Any:
        """Ask; returns the result.

        Raises:
            BusDownError: There is no connection to the bus, or the process gave no answer.
            HostSilentError: The host that it was to ask did not answer.
            ProblemError: Another host's; or outcome-unknown: the hosts were told, or not.
        """
        if len(self._asked) >= QUESTIONS_LIMIT:
            raise BusDownError(f"{QUESTIONS_LIMIT} questions to the message bus are under way")
        number = next(self._numbers)
        self._asked[number] = answer = asyncio.get_running_loop().create_future()
        try:
            self._send(id=number, what=what, timeout_s=timeout_s, **values)
            async with asyncio.timeout(timeout_s + MARGIN_S):
                return await answer
        except (TimeoutError, _EndedError) as error:
            raise _judge_silence(what, str(error) or "gave no answer") from error
        except ProblemError as error:
            raise _judge(error) from None
        finally:
            del self._asked[number]

    def receive_done(self, values: Mapping[str, Any]) -> None:
        """One was answered. Raises ``LookupError`` or ``TypeError``: this is no answer."""
        answer = self._asked.get(values["id"])
        if answer is None or answer.done():
            return  # nobody waits for it any more
        try:
            answer.set_result(read_result(values))
        except ProblemError as error:
            answer.set_exception(error)

    def give_up(self) -> None:
        """The process is gone, and answers none of them."""
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(_EndedError("has ended"))


class _EndedError(Exception):
    """The process did, before it answered."""


def _judge_silence(what: Ask, why: str) -> BusDownError | ProblemError:
    told = f"the process that talks to the message bus {why}"
    if what is Ask.FORGET:
        return ProblemError(ProblemCode.OUTCOME_UNKNOWN, f"{told}: nobody knows whether the other hosts were told")
    return BusDownError(told)


def _judge(error: ProblemError) -> BusError | ProblemError:
    match error.problem.code:
        case ProblemCode.BUS_UNAVAILABLE:
            return BusDownError(error.problem.detail)
        case ProblemCode.HOST_UNREACHABLE:
            return HostSilentError(error.problem.detail)
    return error
