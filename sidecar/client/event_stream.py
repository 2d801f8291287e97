"""The daemon's events as they come, whichever way they take."""

from collections.abc import Callable, Iterator
from typing import Any

from sidecar.api.events import Event
from sidecar.errors import SidecarError

NO_EVENT_YET = "none"
"""An id that no daemon gives out: the answer is a word on that events were missed, and all that are still there."""

_OWN_KEYS = ("id", "time", "type", "domain", "uuid")


class EventStream:
    """An iterator over events from the moment it was made; it waits for the next one, and never ends by itself.

    ``next`` raises ``DaemonUnreachableError`` when the daemon goes away, and over a message bus also ``ProblemError``
    when it refuses to go on; another stream, made with the last event's ``id`` as ``after``, goes on from there.
    """

    def __init__(self, events: Iterator[Event], hang_up: Callable[[], None]) -> None:
        """``hang_up`` ends what the events come from, more than once without harm."""
        self._events, self._hang_up = events, hang_up

    def __iter__(self) -> "EventStream":
        return self

    def __next__(self) -> Event:
        try:
            return next(self._events)
        except SidecarError:
            self.close()
            raise

    def __enter__(self) -> "EventStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; the stream has no more events."""
        self._hang_up()
        self._events = iter(())


def read_event(document: Any) -> Event:
    """The event of a document. Raises ``ValueError`` when it is none."""
    if not isinstance(document, dict) or not all(isinstance(document.get(key), str) for key in ("id", "time", "type")):
        raise ValueError("a document without id, time or type")
    id_, time, type_, domain, uuid = (document.pop(key, None) for key in _OWN_KEYS)
    return Event(id_, time, type_, domain, uuid, document)
