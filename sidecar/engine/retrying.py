"""Tries calls again that seldom fail; tenacity, which knows how, is asked once one has failed.

Each use of tenacity costs 0.2 ms of CPU, whether it has to do anything or not: more than all else that is done for the
call. A daemon that starts where 1,000 guests run would use it 6,000 times, for nothing.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying

T = TypeVar("T")


async def call_retrying(call: Callable[[], Awaitable[T]], make_retrying: Callable[[], AsyncRetrying]) -> T:
    """What ``call`` returns in the end; ``make_retrying`` makes what decides after each failure, the first included.

    Raises whatever the retrying does, just as if it had made the first attempt as well.
    """
    try:
        return await call()
    except Exception as error:
        failures = [error]

    async def attempt() -> T:
        if failures:
            raise failures.pop()
        return await call()

    return await make_retrying()(attempt)
