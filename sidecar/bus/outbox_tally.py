"""What the outbox knows beside the events that wait in it, and the words that it has of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sidecar.api.events import EventType
from sidecar.bus.priorities import Told


@dataclass(frozen=True, slots=True)
class Gap:
    """Events were given up, ``dropped`` in all since the outbox was made; ``document`` tells it as an event does."""

    dropped: int
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Tally:
    """It is on disk.

    Attributes:
        last_number: The newest event's, whether or not it still waits.
        last_id: The daemon's id of it.
        dropped: Events that were given up, ever.
        told: How many of these have been told.
        gap_id: Of the newest event that was given up, the daemon's id,
        gap_time: and its time.
    """

    last_number: int = 0
    last_id: str | None = None
    dropped: int = 0
    told: int = 0
    gap_id: str | None = None
    gap_time: str | None = None

    def add_event(self, event_id: object) -> "Tally":
        """With one event more."""
        last_id = event_id if isinstance(event_id, str) else self.last_id
        return replace(self, last_number=self.last_number + 1, last_id=last_id)

    def add_dropped(self, count: int, newest: Mapping[str, Any]) -> "Tally":
        """With so many more given up, of which this is the newest; what it does not say stays."""
        gap_id, gap_time = newest.get("id", self.gap_id), newest.get("time", self.gap_time)
        return replace(self, dropped=self.dropped + count, gap_id=gap_id, gap_time=gap_time)

    def add_older(self, older: "Tally") -> "Tally":
        """Behind another, which was found only now."""
        return Tally(
            last_number=older.last_number + self.last_number,
            last_id=self.last_id or older.last_id,
            dropped=older.dropped + self.dropped,
            told=older.told + self.told,
            gap_id=self.gap_id or older.gap_id,
            gap_time=self.gap_time or older.gap_time,
        )

    @property
    def gap(self) -> Gap | None:
        """What was given up and has not been told; until it has been, it is the same word, or one with more."""
        count = self.dropped - self.told
        if count == 0:
            return None
        details = {"dropped": count, "total": self.dropped}
        return Gap(self.dropped, make_word(Told.DROPPED, self.gap_id, self.gap_time, **details))


def make_word(what: Told, event_id: str | None, time: str | None, **details: Any) -> dict[str, Any]:
    """A document like an event of the daemon's."""
    nobody = {"domain": None, "uuid": None}
    return {"what": what, **details, "id": event_id, "time": time, "type": EventType.DAEMON, **nobody}
