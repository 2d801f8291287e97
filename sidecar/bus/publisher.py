"""What hands the events on to the broker: one at a time, in order, each until the broker has taken it."""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tenacity import Retrying, retry_if_exception_type, sleep_using_event, wait_exponential

from sidecar.bus.outbox import Outbox
from sidecar.bus.priorities import Priority, choose_heading
from sidecar.bus.trouble import Trouble

logger = logging.getLogger(__name__)

# Between attempts.
BACKOFF_MIN_S = 0.25
BACKOFF_MAX_S = 5.0

# Of an error's text; brokers are brief.
_REASON_CHARACTERS = 300


class NotTakenError(Exception):
    """The broker did not take a notification, or nobody knows whether it did; the text says why, and nothing of it."""


class Notifier(Protocol):
    """What speaks to the broker; used by one thread, and only until its first error."""

    def notify(self, event_type: str, priority: Priority, payload: Mapping[str, Any]) -> None:
        """Return when the broker has it on its disk. Raises ``NotTakenError``, after a while where it hangs."""

    def close(self) -> None:
        """Let go of the connection."""


@dataclass(frozen=True, slots=True)
class PublisherStatus:
    """See ``api.link.BusStatus``."""

    waiting: int
    notified: int
    dropped: int


class Publisher:
    """See the module; a thread of its own, which alone waits for the broker, however long that takes."""

    def __init__(
        self, outbox: Outbox, hostname: str, make_notifier: Callable[[], Notifier], on_change: Callable[[], None]
    ) -> None:
        """``make_notifier`` is called in the thread, at first and after each failure.

        ``on_change`` is called in any thread whenever ``status`` may be another.
        """
        self._outbox, self._hostname = outbox, hostname
        self._make_notifier, self._on_change = make_notifier, on_change
        self._notifier: Notifier | None = None
        self._notified = 0
        self._bell = threading.Event()
        self._stopped = threading.Event()
        self._trouble = Trouble(logger, "notifications")
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    def start(self) -> None:
        """Begin to send; what waits from an earlier run goes first."""
        self._thread.start()

    def stop(self, timeout_s: float | None = None) -> bool:
        """Send no more; whether the thread ended in time. A process may as well end without: nothing is lost."""
        self._stopped.set()
        self._bell.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def append(self, document: Mapping[str, Any]) -> None:
        """The newest event; never raises, and does not wait for the broker."""
        self._outbox.append(document)
        self._bell.set()
        self._on_change()

    def status(self) -> PublisherStatus:
        """How it does."""
        return PublisherStatus(self._outbox.waiting, self._notified, self._outbox.dropped)

    def _run(self) -> None:
        retrying = Retrying(
            wait=wait_exponential(BACKOFF_MIN_S, BACKOFF_MAX_S),
            retry=retry_if_exception_type(Exception),
            stop=lambda _: self._stopped.is_set(),
            sleep=sleep_using_event(self._stopped),
            retry_error_callback=lambda _: False,
        )
        while not self._stopped.is_set():
            self._bell.clear()
            while retrying(self._publish_next):
                pass
            # What waits and is not known cannot be read at the moment.
            self._bell.wait(BACKOFF_MAX_S if self._outbox.waiting else None)
        self._close()

    def _publish_next(self) -> bool:
        """Send one event; whether there was one."""
        if self._stopped.is_set():
            return False
        gap = self._outbox.find_gap()
        if gap is not None:
            self._notify(gap.document)
            self._outbox.note_told(gap)
        entry = self._outbox.peek()
        if entry is None:
            return gap is not None
        self._notify(entry.document)
        self._notified += 1
        self._outbox.discard(entry.number)
        self._on_change()
        return True

    def _notify(self, document: Mapping[str, Any]) -> None:
        try:
            heading = choose_heading(document)
            if self._notifier is None:
                self._notifier = self._make_notifier()
            self._notifier.notify(heading.event_type, heading.priority, {**document, "host": self._hostname})
        except Exception as error:
            # Of an error that is not known the text might hold the payload.
            known = isinstance(error, NotTakenError)
            reason = f"{error}"[:_REASON_CHARACTERS] if known else type(error).__name__
            self._trouble.note(f"the broker did not take one: {reason}")
            self._close()
            raise
        self._trouble.end()

    def _close(self) -> None:
        notifier, self._notifier = self._notifier, None
        if notifier is None:
            return
        try:
            notifier.close()
        except Exception as error:  # the connection was of no use any more
            logger.debug("notifications: the connection cannot be closed: %s", type(error).__name__)
