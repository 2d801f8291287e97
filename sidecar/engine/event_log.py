"""The newest events, and whoever follows them; see ``api.events``.

There is one bounded log for all, and a follower is a place in it. Nobody is waited for and nothing is kept for anybody:
who is too slow finds that the log has moved on, is told how much he missed, and goes on with the oldest that is there.
"""

from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from sidecar.api.events import Event, EventType
from sidecar.engine.bell import Bell
from sidecar.engine.clocks import render_time

# An arrival makes about six. A follower that stops for so long as 150 arrivals take gets told that it missed something.
EVENTS_LIMIT = 1024

_NUMBER_LIMIT_DIGITS = 18


class EventLog:
    """See the module; for the loop's thread alone. ``bell`` rings at every event."""

    def __init__(self, wall_clock: Callable[[], datetime], limit: int = EVENTS_LIMIT) -> None:
        self.bell = Bell()
        self._wall_clock = wall_clock
        self._events: deque[Event] = deque(maxlen=limit)
        # Another daemon's ids are not ours, however they are numbered.
        self._epoch = f"{int(wall_clock().timestamp() * 1000):x}"
        self._last = 0

    @property
    def last_id(self) -> str:
        """The id of the newest event."""
        return self._render_id(self._last)

    def publish(self, kind: EventType, domain: str | None = None, uuid: UUID | None = None, **details: Any) -> None:
        """Something happened; ``details`` are JSON values."""
        self._last += 1
        self._events.append(
            Event(
                id=self._render_id(self._last),
                time=render_time(self._wall_clock()),
                type=kind,
                domain=domain,
                uuid=None if uuid is None else str(uuid),
                details=details,
            )
        )
        self.bell.ring()

    def follow(self, after: str | None = None) -> "Follower":
        """Follow from now on, or, with the ``id`` of an event, from the next one after it.

        An id of another daemon's, which ran here before, or one that nobody gave out, is followed by a word on that
        events were missed, and by all that are still there.
        """
        if after is None:
            return Follower(self, self._last)
        place = self._parse_id(after)
        return Follower(self, 0, lost=True) if place is None else Follower(self, place)

    def follow_all(self) -> "Follower":
        """Follow from the first event that there ever was."""
        return Follower(self, 0)

    # For the followers.

    @property
    def last(self) -> int:
        """The newest event's number."""
        return self._last

    @property
    def first(self) -> int:
        """The number of the oldest event that is still there."""
        return self._last - len(self._events) + 1

    def read(self, number: int) -> Event:
        """The event of this number, which is still there."""
        return self._events[number - self.first]

    def make_gap(self, place: int, missed: int | None) -> Event:
        """What a follower is told that missed some: ``None`` where nobody knows how many."""
        return Event(
            id=self._render_id(place),
            time=render_time(self._wall_clock()),
            type=EventType.DAEMON,
            domain=None,
            uuid=None,
            details={"what": "missed", "missed": missed},
        )

    def _render_id(self, number: int) -> str:
        return f"{self._epoch}-{number}"

    def _parse_id(self, text: str) -> int | None:
        epoch, _, number = text.partition("-")
        if epoch != self._epoch or not (number.isascii() and number.isdigit() and len(number) <= _NUMBER_LIMIT_DIGITS):
            return None
        return int(number) if int(number) <= self._last else None


class Follower:
    """A place in the log; an asynchronous iterator that never ends, and costs nothing while nobody asks it."""

    def __init__(self, log: EventLog, place: int, *, lost: bool = False) -> None:
        """``place`` is the number of the last event that is known; ``lost``: it is of another log."""
        self._log, self._place, self._lost = log, place, lost

    def __aiter__(self) -> "Follower":
        return self

    async def __anext__(self) -> Event:
        while (event := self.take()) is None:
            await self._log.bell.wait()
        return event

    def take(self) -> Event | None:
        """The next event, when there is one already."""
        if self._lost:
            self._lost = False
            self._place = self._log.first - 1
            return self._log.make_gap(self._place, None)
        if self._place + 1 < self._log.first:
            missed = self._log.first - 1 - self._place
            self._place += missed
            return self._log.make_gap(self._place, missed)
        if self._place >= self._log.last:
            return None
        self._place += 1
        return self._log.read(self._place)
