"""What the daemon tells of its own accord.

Source: docs/api.md, "Events".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class EventType(StrEnum):
    """What an event is about."""

    ARRIVED = "arrived"
    LEFT = "left"
    CHANNEL = "channel"
    AGREEMENT = "agreement"
    TOOLS = "tools"
    REFUSAL = "refusal"
    DAEMON = "daemon"


@dataclass(frozen=True, slots=True)
class Event:
    """One event; ``id`` is opaque and can be resumed from, ``time`` RFC 3339 in UTC with milliseconds.

    ``domain`` and ``uuid`` are ``None`` in what concerns the daemon. ``details`` depend on the type, and stand beside
    the other keys in the document.
    """

    id: str
    time: str
    type: str
    domain: str | None
    uuid: str | None
    details: Mapping[str, Any]

    @property
    def document(self) -> dict[str, Any]:
        """The event as one flat JSON object."""
        return {
            **self.details,
            "id": self.id,
            "time": self.time,
            "type": self.type,
            "domain": self.domain,
            "uuid": self.uuid,
        }
