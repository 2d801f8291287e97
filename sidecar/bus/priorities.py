"""What an event is called among the notifications, and how loud it is.

``sidecar.<type>``, and of what the daemon tells of itself ``sidecar.daemon.<what>``. By default ``info``:

======================================  ==========================================================================
``warn``
------------------------------------------------------------------------------------------------------------------
``sidecar.refusal``                     somebody wanted to send what the guest does not know
``sidecar.channel``                     it is lost or absent, or has one of the reasons in ``TROUBLES``
``sidecar.daemon.libvirt-lost``         nothing is seen of the guests until libvirt is back
``sidecar.daemon.missed``               without a number: the daemon was started anew, and perhaps nothing is lost
``sidecar.daemon.cap-changed``          and is lower now: guests do without something from now on
======================================  ==========================================================================

======================================  ==========================================================================
``error``: a human must see it
------------------------------------------------------------------------------------------------------------------
``sidecar.channel``                     with a reason in ``THREATS``
``sidecar.daemon.missed``               with the number of events that the bus process was too slow for; they are lost
``sidecar.daemon.dropped``              the outbox was full for too long; this is lost
``sidecar.daemon.outbox-broken``        what was waiting is lost, or stands in a file that was set aside
======================================  ==========================================================================

Source: docs/bus.md; oslo.messaging's priorities, of which each topic has a queue of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sidecar.api.events import EventType


class Priority(StrEnum):
    """Of oslo.messaging's those that are used here; by the name of the notifier's method."""

    INFO = "info"
    WARN = "warn"
    ERROR = "error"


class Told(StrEnum):
    """``what`` of the events that the bus process itself makes; the daemon does not know them."""

    DROPPED = "dropped"
    OUTBOX_BROKEN = "outbox-broken"


# Reasons of a channel that is not lost: it goes by itself, or somebody has to look; docs/problems.md.
TROUBLES = frozenset({"socket-busy", "socket-unreachable", "flapping", "guest-frozen", "agent-job-held"})
# A process that is not the domain's QEMU sits where the guest's agent is expected.
THREATS = frozenset({"socket-foreign"})

_ENDED_STATES = frozenset({"lost", "absent"})

_BY_WHAT: Mapping[str, Priority] = {
    "libvirt-lost": Priority.WARN,
    Told.DROPPED: Priority.ERROR,
    Told.OUTBOX_BROKEN: Priority.ERROR,
}


@dataclass(frozen=True, slots=True)
class Heading:
    """What stands above a notification's payload."""

    event_type: str
    priority: Priority


def choose_heading(document: Mapping[str, Any]) -> Heading:
    """The heading of an event's document; one that nobody here knows, of a later daemon's, is ``info``."""
    kind = str(document.get("type"))
    if kind != EventType.DAEMON:
        return Heading(f"sidecar.{kind}", _judge(kind, document))
    what = str(document.get("what"))
    return Heading(f"sidecar.{kind}.{what}", _judge_daemon(what, document))


def _judge(kind: str, document: Mapping[str, Any]) -> Priority:
    if kind == EventType.REFUSAL:
        return Priority.WARN
    row = document.get("channel")
    if kind != EventType.CHANNEL or not isinstance(row, Mapping):
        return Priority.INFO
    if row.get("reason") in THREATS:
        return Priority.ERROR
    is_trouble = row.get("state") in _ENDED_STATES or row.get("reason") in TROUBLES
    return Priority.WARN if is_trouble else Priority.INFO


def _judge_daemon(what: str, document: Mapping[str, Any]) -> Priority:
    if what == "cap-changed":
        old, new = _parse_version(document.get("old")), _parse_version(document.get("new"))
        return Priority.WARN if old is None or new is None or new < old else Priority.INFO
    if what == "missed":
        return Priority.WARN if document.get("missed") is None else Priority.ERROR
    return _BY_WHAT.get(what, Priority.INFO)


def _parse_version(value: object) -> tuple[int, ...] | None:
    """An oVirt version or a QEMU release; ``None`` where it is neither, as ``max`` is."""
    try:
        return tuple(int(part) for part in str(value).split("."))
    except ValueError:
        return None
