"""Wakes whoever waits for something to have changed; what it is, each looks at by himself."""

import asyncio


class Bell:
    """Between looking and waiting there must be no ``await``; then no ring is missed."""

    __slots__ = ("_rung",)

    def __init__(self) -> None:
        self._rung: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """Something has changed."""
        if self._rung is not None:
            self._rung.set_result(None)
            self._rung = None

    async def wait(self) -> None:
        """Return at the next ring."""
        if self._rung is None:
            self._rung = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._rung)
