"""Tells the daemon how the bus does: when that changes, but not all the time, and else often enough to be alive."""

import threading
import time
from collections.abc import Callable
from dataclasses import asdict

from sidecar.api.link import BusStatus, Word

# Between two words: an outbox that is emptied changes a thousand times a second.
APART_S = 0.5
# That nothing comes back any more, nobody says: it is looked at.
LOOK_S = 5.0
# Who says nothing for longer is taken for one that hangs.
AGAIN_S = 10.0


class StatusTeller:
    """See the module; ``measure`` says how the bus does, ``tell`` is ``LinkEnd.send``."""

    def __init__(self, measure: Callable[[], BusStatus], tell: Callable[..., None]) -> None:
        self._measure, self._tell = measure, tell
        self._changed = threading.Event()
        self._told: BusStatus | None = None
        self._told_at = float("-inf")

    def start(self) -> None:
        """Tell it now, and then as long as the process lives."""
        threading.Thread(target=self._run, name="status", daemon=True).start()

    def change(self) -> None:
        """It may have changed; for any thread, and cheap."""
        self._changed.set()

    def _run(self) -> None:
        while True:
            try:
                self._look()
                self._changed.wait(LOOK_S)
            except Exception:
                # No memory, or no thread: not even for a line of the log. What stays so ends in silence, and that in
                # another process.
                time.sleep(APART_S)

    def _look(self) -> None:
        self._changed.clear()
        status = self._measure()
        # At the next look it would be too late.
        if status != self._told or time.monotonic() - self._told_at >= AGAIN_S - LOOK_S:
            self._tell(Word.STATUS, **asdict(status))
            self._told, self._told_at = status, time.monotonic()
            time.sleep(APART_S)
