"""Tells the daemon how the bus does, whenever that changes, but not all the time."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict

from sidecar.api.link import BusStatus, Word

logger = logging.getLogger(__name__)

# Between two words: an outbox that is emptied changes a thousand times a second.
APART_S = 0.5
# That nothing comes back any more, nobody says: it is looked at.
LOOK_S = 5.0


class StatusTeller:
    """See the module; ``measure`` says how the bus does, ``tell`` is ``LinkEnd.send``."""

    def __init__(self, measure: Callable[[], BusStatus], tell: Callable[..., None]) -> None:
        self._measure, self._tell = measure, tell
        self._changed = threading.Event()

    def start(self) -> None:
        """Tell it now, and then whenever it changes."""
        threading.Thread(target=self._run, name="status", daemon=True).start()

    def change(self) -> None:
        """It may have changed; for any thread, and cheap."""
        self._changed.set()

    def _run(self) -> None:
        told: BusStatus | None = None
        while True:
            self._changed.clear()
            status = self._measure()
            if status != told:
                _log_connection(told, status)
                self._tell(Word.STATUS, **asdict(status))
                told = status
                time.sleep(APART_S)
            self._changed.wait(LOOK_S)


def _log_connection(old: BusStatus | None, new: BusStatus) -> None:
    was_connected = old is not None and old.connected
    if new.connected and not was_connected:
        logger.info("connected to the message bus")
    elif was_connected and not new.connected:
        logger.warning("the connection to the message bus is lost")
