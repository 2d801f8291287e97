"""Whether the process that talks to the message bus is alive: it says how the bus does again and again.

Its looks are counted, and not the time: a daemon that stood still itself must not take that for the process's silence.

Source: ``api.link``, ``status``.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from sidecar.api.link import BusStatus

LOOK_S = 5.0
# Without a word for so many looks there is no connection, whatever was said last; and then no process.
SILENT_LOOKS, HANGING_LOOKS = 6, 12


class BusWatch:
    """One process's; for the loop's thread. ``tell`` is told how the bus does."""

    def __init__(self, tell: Callable[[BusStatus], None]) -> None:
        self._tell = tell
        self._last: BusStatus | None = None
        self._looks = 0

    def receive(self, status: BusStatus) -> None:
        """It says so."""
        self._last, self._looks = status, 0
        self._tell(status)

    async def run(self) -> None:
        """Look; returns when it has said nothing for ``HANGING_LOOKS``."""
        while self._looks < HANGING_LOOKS:
            await asyncio.sleep(LOOK_S)
            self._looks += 1
            if self._looks == SILENT_LOOKS and self._last is not None:
                self._tell(replace(self._last, connected=False))
