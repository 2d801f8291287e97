"""What a channel can be in, and why, in both dialects.

``State`` is what users see; ``Reason`` the stable problem code that goes with it (docs/problems.md); a ``ChannelView``
both of them with the versions. Which moves there are between is each dialect's own table: ``ovirt_states`` and
``qga_states``. A stage is the finer step inside a machine and maps to exactly one state and reason; ``advance`` applies
a table, and a step that it lacks for a stage changes nothing.

Source: docs/record.md for the states, docs/problems.md for the reasons.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Generic, TypeVar

VersionT = TypeVar("VersionT", int, str)
StageT = TypeVar("StageT", bound=Enum)
StepT = TypeVar("StepT", bound=Enum)


class Dialect(StrEnum):
    """What is spoken on a channel (``channel/@dialect``)."""

    OVIRT = "ovirt"
    QGA = "qga"


class State(StrEnum):
    """The state of a channel as the record, the CLI and every API show it."""

    WAITING = "waiting"
    AGREED = "agreed"
    UNVERSIONED = "unversioned"
    LOST = "lost"
    ABSENT = "absent"


class Reason(StrEnum):
    """Stable problem codes that stand in ``channel/@reason``."""

    NOT_HEARD = "not-heard"
    AGENT_RESTARTED = "agent-restarted"
    SOCKET_BUSY = "socket-busy"
    SOCKET_UNREACHABLE = "socket-unreachable"
    SOCKET_FOREIGN = "socket-foreign"
    OTHER_CHANNEL = "other-channel"
    FLAPPING = "flapping"
    NO_VERSION = "no-version"
    STAYS_AT_ZERO = "stays-at-zero"
    HOST_CAPPED = "host-capped"
    PORT_CLOSED = "port-closed"
    AGENT_SILENT = "agent-silent"
    DISCONNECTED = "disconnected"
    NOT_OPENED = "not-opened"
    GUEST_FROZEN = "guest-frozen"
    GUEST_INFO_BLOCKED = "guest-info-blocked"
    INFERRED = "inferred"
    AGENT_POISONED = "agent-poisoned"
    AGENT_JOB_HELD = "agent-job-held"
    BAD_REPLY = "bad-reply"


@dataclass(frozen=True, slots=True)
class ChannelView(Generic[VersionT]):
    """What one end of a negotiation knows, as a value; versions are integers of oVirt's API, or a QGA release's text.

    ``version`` is the agreed version, 0 when there is none; ``guest`` the guest's last valid offer since its version
    became unknown, ``None`` when it made none; ``host`` this host's maximum after its cap. ``reason`` is set
    whenever ``state`` is not agreed, or a warning applies.
    """

    state: State
    version: VersionT
    guest: VersionT | None
    host: VersionT
    reason: Reason | None


class Port(Enum):
    """What is known of the guest's end of a channel."""

    UNKNOWN = "no word of it yet"
    CLOSED = "reported closed"
    HEARD = "open, known by what it said or by the XML; the report of its opening may still follow"
    OPEN = "reported open"

    @classmethod
    def from_xml(cls, opened: bool | None) -> "Port":
        """What the live XML shows: known, but not reported by an event."""
        return {None: cls.UNKNOWN, True: cls.HEARD, False: cls.CLOSED}[opened]

    @property
    def open(self) -> bool:
        """Whether the end is known to be open."""
        return self in (Port.HEARD, Port.OPEN)


class Fault(Enum):
    """Why there is no connection of ours to a channel's socket; each dialect has a step of the same name."""

    BUSY = "another program has it"
    UNREACHABLE = "it could not be connected"
    FOREIGN = "its peer is not the domain's QEMU"
    DISCONNECTED = "the connection broke"


def advance(moves: Mapping[tuple[StageT, StepT], StageT], stage: StageT, step: StepT) -> StageT:
    """The stage after ``step``; the same stage where the table has no such move."""
    return moves.get((stage, step), stage)
