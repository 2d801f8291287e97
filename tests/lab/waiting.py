"""Waiting for conditions, with a deadline and a name for what was waited for."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Looking costs a system call or two; a test should not lose more than this after the condition came true.
INTERVAL_S = 0.02


def wait_for(predicate: Callable[[], T | None], timeout_s: float, what: str, interval_s: float = INTERVAL_S) -> T:
    """The first true value that `predicate` returns.

    Raises:
        TimeoutError: none within `timeout_s`; the message names `what` and the last value seen.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s:g} s: {what} (last seen: {value!r})")
        time.sleep(interval_s)
