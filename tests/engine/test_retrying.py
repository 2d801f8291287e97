"""What tenacity decides is decided as if it had been there from the first attempt on."""

import pytest
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_fixed

from sidecar.engine.retrying import call_retrying
from tests.engine.lone_host import now

pytestmark = pytest.mark.looptime

WAIT_S = 2.0
ATTEMPTS = 4


class Caller:
    """Fails as it is told, one outcome a call; notes when it was called, and what tenacity was told."""

    def __init__(self, *failures: Exception) -> None:
        self._failures = list(failures)
        self.times: list[float] = []
        self.made = 0
        self.noted: list[int] = []

    async def call(self) -> str:
        self.times.append(now())
        if self._failures:
            raise self._failures.pop(0)
        return "done"

    def make(self) -> AsyncRetrying:
        self.made += 1
        return AsyncRetrying(
            retry=retry_if_exception_type(OSError),
            wait=wait_fixed(WAIT_S),
            stop=stop_after_attempt(ATTEMPTS),
            before_sleep=self._note,
            reraise=True,
        )

    def _note(self, attempt: RetryCallState) -> None:
        self.noted.append(attempt.attempt_number)


async def test_what_succeeds_at_once_needs_no_tenacity() -> None:
    caller = Caller()
    assert await call_retrying(caller.call, caller.make) == "done"
    assert (caller.made, caller.times) == (0, [0.0])


async def test_the_first_failure_counts_and_is_waited_after() -> None:
    caller = Caller(OSError("1"), OSError("2"))
    assert await call_retrying(caller.call, caller.make) == "done"
    assert caller.times == pytest.approx([0, WAIT_S, 2 * WAIT_S])
    assert caller.noted == [1, 2]


async def test_it_gives_up_after_as_many_attempts() -> None:
    caller = Caller(*(OSError(str(number)) for number in range(9)))
    with pytest.raises(OSError, match=r"^3$"):
        await call_retrying(caller.call, caller.make)
    assert len(caller.times) == ATTEMPTS


async def test_what_is_not_to_be_tried_again_comes_out_at_once() -> None:
    caller = Caller(ValueError("ours"))
    with pytest.raises(ValueError, match=r"^ours$"):
        await call_retrying(caller.call, caller.make)
    assert len(caller.times) == 1
