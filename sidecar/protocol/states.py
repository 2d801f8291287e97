"""What a channel can be in, why, and which moves there are between: the one table of the negotiation's states.

``State`` is what users see; ``Reason`` the stable problem code that goes with it (docs/problems.md); a ``ChannelView``
both of them with the versions. A ``Stage`` is the finer step inside the machine, and maps to exactly one state and
reason. ``advance`` applies the table; a step that the table lacks for a stage changes nothing.

Source: docs/record.md for the states, docs/problems.md for the reasons.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from types import MappingProxyType


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


@dataclass(frozen=True, slots=True)
class ChannelView:
    """What one end of a negotiation knows, as a value.

    ``version`` is the agreed version, 0 when there is none; ``guest`` the guest's last valid offer since its version
    became unknown, ``None`` when it made none; ``host`` this host's maximum after its cap. ``reason`` is set
    whenever ``state`` is not agreed, or a warning applies.
    """

    state: State
    version: int
    guest: int | None
    host: int
    reason: Reason | None


class Stage(Enum):
    """Where a negotiation stands: the ``state`` that users see, and the ``reason`` (``None`` when agreed)."""

    state: State
    reason: Reason | None

    def __init__(self, state: State, reason: Reason | None) -> None:
        self.state, self.reason = state, reason

    UNHEARD = (State.WAITING, Reason.NOT_HEARD)
    RESTARTED = (State.WAITING, Reason.AGENT_RESTARTED)  # the lone zero of a freshly started agent
    BUSY = (State.WAITING, Reason.SOCKET_BUSY)
    UNREACHABLE = (State.WAITING, Reason.SOCKET_UNREACHABLE)
    FOREIGN = (State.WAITING, Reason.SOCKET_FOREIGN)
    STANDBY = (State.WAITING, Reason.OTHER_CHANNEL)
    FLAPPING = (State.WAITING, Reason.FLAPPING)
    AGREED = (State.AGREED, None)
    NO_VERSION = (State.UNVERSIONED, Reason.NO_VERSION)
    AT_ZERO = (State.UNVERSIONED, Reason.STAYS_AT_ZERO)
    CAPPED = (State.UNVERSIONED, Reason.HOST_CAPPED)
    CLOSED = (State.LOST, Reason.PORT_CLOSED)
    SILENT = (State.LOST, Reason.AGENT_SILENT)
    CUT = (State.LOST, Reason.DISCONNECTED)
    YIELDED = (State.LOST, Reason.SOCKET_BUSY)
    NOT_OPENED = (State.ABSENT, Reason.NOT_OPENED)


class Step(Enum):
    """What can happen to a negotiation."""

    OPENED = "the guest's end opened: whoever is there now is unknown"
    CONNECTED = "a new connection of ours, or a new cap: ask again"
    OFFER = "a heartbeat offered 1 or more"
    ZERO = "a heartbeat offered 0"
    NO_OFFER = "a heartbeat without a valid version"
    CAPPED = "any heartbeat, while this host is capped to 0"
    SUPPRESSED = "one renegotiation more than the budget allows"
    CLOSED = "the guest's end closed after it had been open"
    SILENCE = "nothing heard for responsive_seconds from an end that is open"
    OVERDUE = "not opened within absent_seconds"
    BUSY = "our bytes stay unread while the guest's end is open: another program holds the channel"
    UNREACHABLE = "the socket could not be connected"
    FOREIGN = "the socket's peer is not the domain's QEMU"
    DISCONNECTED = "our connection broke"
    STOOD_BY = "the guest speaks on the domain's other oVirt channel"


_HEARD = {
    Stage.RESTARTED,
    Stage.FLAPPING,
    Stage.AGREED,
    Stage.NO_VERSION,
    Stage.AT_ZERO,
    Stage.CAPPED,
}
_SOCKET_FAULTS = {Stage.BUSY, Stage.UNREACHABLE, Stage.FOREIGN}
_LOST = {stage for stage in Stage if stage.state is State.LOST}
_UNCONNECTED = {Stage.UNHEARD, *_SOCKET_FAULTS, Stage.STANDBY}


def _moves() -> Mapping[tuple[Stage, Step], Stage]:
    # Whoever opens the guest's end cannot be heard over a socket that is not ours.
    moves = {(stage, Step.OPENED): Stage.UNHEARD for stage in {*Stage} - _SOCKET_FAULTS - {Stage.YIELDED}}
    # Our dialling again opens nothing in the guest: closed stays closed, absent stays absent.
    moves |= {(stage, Step.CONNECTED): Stage.UNHEARD for stage in {*Stage} - {Stage.CLOSED, Stage.NOT_OPENED}}
    moves |= {(stage, Step.OFFER): Stage.AGREED for stage in Stage}
    moves |= {(stage, Step.NO_OFFER): Stage.NO_VERSION for stage in Stage}
    moves |= {(stage, Step.CAPPED): Stage.CAPPED for stage in Stage}
    moves |= {(stage, Step.SUPPRESSED): Stage.FLAPPING for stage in Stage}
    # The first zero is a reset signal, the second in a row a verdict.
    moves |= {(stage, Step.ZERO): Stage.RESTARTED for stage in Stage}
    moves |= {(stage, Step.ZERO): Stage.AT_ZERO for stage in (Stage.RESTARTED, Stage.AT_ZERO)}
    moves |= {(stage, Step.CLOSED): Stage.CLOSED for stage in (*_HEARD, Stage.UNHEARD, Stage.SILENT, Stage.CUT)}
    moves |= {(stage, Step.SILENCE): Stage.SILENT for stage in (*_HEARD, Stage.UNHEARD)}
    moves |= {(stage, Step.OVERDUE): Stage.NOT_OPENED for stage in (Stage.UNHEARD, Stage.STANDBY)}
    moves |= {(stage, Step.BUSY): Stage.BUSY for stage in (*_UNCONNECTED, Stage.FLAPPING, Stage.NOT_OPENED)}
    was_there = (*(_HEARD - {Stage.FLAPPING}), Stage.CLOSED, Stage.SILENT, Stage.CUT)
    moves |= {(stage, Step.BUSY): Stage.YIELDED for stage in was_there}
    moves |= {(stage, Step.UNREACHABLE): Stage.UNREACHABLE for stage in _UNCONNECTED}
    moves |= {(stage, Step.FOREIGN): Stage.FOREIGN for stage in _UNCONNECTED}
    moves |= {(stage, Step.DISCONNECTED): Stage.CUT for stage in (*_HEARD, Stage.SILENT)}
    moves |= {(stage, Step.STOOD_BY): Stage.STANDBY for stage in (*_UNCONNECTED, *_LOST)}
    return MappingProxyType(moves)


MOVES = _moves()
"""Every legal move: (stage, step) to the stage that follows."""


def advance(stage: Stage, step: Step) -> Stage:
    """The stage after ``step``; the same stage where the table has no such move."""
    return MOVES.get((stage, step), stage)
