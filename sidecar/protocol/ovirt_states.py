"""The oVirt dialect's stages, and every legal move between them: the one table of its negotiation.

Source: docs/protocol.md; docs/record.md for the states, docs/problems.md for the reasons.
"""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from sidecar.protocol.states import Reason, State


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
    INFERRED = (State.AGREED, Reason.INFERRED)  # from the record that came along and what the agent sends
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
    EVIDENCE = "before any heartbeat: what the agent sends bears out what it offered on another host"
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
    Stage.INFERRED,
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
    moves[Stage.UNHEARD, Step.EVIDENCE] = Stage.INFERRED  # a heartbeat, whatever it says, is worth more
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
"""Every legal move: (stage, step) to the stage that follows; ``states.advance`` applies it."""
