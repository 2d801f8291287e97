"""An outbox and what goes into it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sidecar.bus.outbox import Entry, Outbox

NOW = datetime(2026, 11, 21, 7, 31, 38, 440_000, UTC)


def make_event(number: int) -> dict[str, Any]:
    return {
        "id": f"e-{number}",
        "time": f"2026-11-21T07:31:38.{number % 1000:03}Z",
        "type": "arrived",
        "domain": "täst \U0001f427",
        "uuid": None,
        "arrivals": number,
    }


def open_outbox(path: Path, limit: int = 100) -> Outbox:
    return Outbox(path, limit, lambda: NOW)


def take(outbox: Outbox) -> Entry:
    """The next, sent."""
    entry = outbox.peek()
    assert entry is not None
    outbox.discard(entry.number)
    return entry


def append_all(outbox: Outbox, numbers: range) -> None:
    for number in numbers:
        outbox.append(make_event(number))


def drain(outbox: Outbox) -> list[Any]:
    sent = []
    while outbox.peek() is not None:
        sent.append(take(outbox).document)
    return sent
