"""What goes wrong again and again, in few lines of the log."""

import logging
import time
from collections.abc import Callable

# A broker that is down all night may give a new reason at every attempt.
AGAIN_S = 60.0


class Trouble:
    """One line when it begins and one when it is over; between them, where the reason is another, one a minute."""

    def __init__(self, log: logging.Logger, subject: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._subject, self._clock = log, subject, clock
        self._reason: str | None = None
        self._logged_at = 0.0

    def note(self, reason: str) -> None:
        """It goes wrong."""
        now = self._clock()
        if self._reason is None or (reason != self._reason and now - self._logged_at >= AGAIN_S):
            self._log.error("%s: %s", self._subject, reason)
            self._reason, self._logged_at = reason, now

    def end(self) -> None:
        """It goes right."""
        if self._reason is not None:
            self._reason = None
            self._log.warning("%s: in order again", self._subject)
