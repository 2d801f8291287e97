"""The QGA dialect's stages, and every legal move between them: the one table of its negotiation.

Source: docs/protocol.md, "The QGA dialect"; docs/record.md for the states, docs/problems.md for the reasons.
"""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from sidecar.errors import (
    AgentPoisonedError,
    AgentUnsynchronizedError,
    BadReplyError,
    CommandFailedError,
    JobHeldError,
    NoAnswerError,
    SidecarError,
)
from sidecar.protocol.qga_wire import is_unsupported
from sidecar.protocol.states import Port, Reason, State


class Stage(Enum):
    """Where a negotiation stands: the ``state`` that users see, and the ``reason`` (``None`` when agreed)."""

    state: State
    reason: Reason | None

    def __init__(self, state: State, reason: Reason | None) -> None:
        self.state, self.reason = state, reason

    UNHEARD = (State.WAITING, Reason.NOT_HEARD)
    UNJUDGED = (State.WAITING, Reason.GUEST_FROZEN)
    JOB_HELD = (State.WAITING, Reason.AGENT_JOB_HELD)
    BUSY = (State.WAITING, Reason.SOCKET_BUSY)
    UNREACHABLE = (State.WAITING, Reason.SOCKET_UNREACHABLE)
    FOREIGN = (State.WAITING, Reason.SOCKET_FOREIGN)
    FLAPPING = (State.WAITING, Reason.FLAPPING)
    AGREED = (State.AGREED, None)
    FROZEN = (State.AGREED, Reason.GUEST_FROZEN)
    BLOCKED = (State.UNVERSIONED, Reason.GUEST_INFO_BLOCKED)
    CAPPED = (State.UNVERSIONED, Reason.HOST_CAPPED)
    CLOSED = (State.LOST, Reason.PORT_CLOSED)
    SILENT = (State.LOST, Reason.AGENT_SILENT)
    POISONED = (State.LOST, Reason.AGENT_POISONED)
    MISREPLIED = (State.LOST, Reason.BAD_REPLY)
    CUT = (State.LOST, Reason.DISCONNECTED)
    YIELDED = (State.LOST, Reason.SOCKET_BUSY)
    NOT_OPENED = (State.ABSENT, Reason.NOT_OPENED)


class Step(Enum):
    """What can happen to a negotiation."""

    OPENED = "the guest's end opened, or may have been: whoever is there now is unknown"
    CONNECTED = "a new connection of ours: ask again"
    REPORT = "guest-info was answered"
    FROZEN = "guest-info was answered, and the guest is frozen: it is not judged"
    BLOCKED = "the agent does not have guest-info, or has it disabled"
    CAPPED = "guest-info was answered, while this host is capped to 0"
    SUPPRESSED = "one renegotiation more than the budget allows"
    CLOSED = "the guest's end closed after it had been open"
    SILENCE = "a call was not answered in time"
    POISONED = "libvirt has given up its connection to the agent"
    BAD_REPLY = "guest-info was answered with something else"
    JOB_HELD = "another client's agent job did not end in time"
    OVERDUE = "not opened within absent_seconds"
    BUSY = "our bytes stay unread while the guest's end is open: another program holds the channel"
    UNREACHABLE = "the socket could not be connected"
    FOREIGN = "the socket's peer is not the domain's QEMU"
    DISCONNECTED = "our connection broke"


_JUDGED = {Stage.AGREED, Stage.FROZEN, Stage.BLOCKED, Stage.CAPPED}
_UNCONNECTED = {Stage.BUSY, Stage.UNREACHABLE, Stage.FOREIGN}
_ASKED_AGAIN = {Stage.UNJUDGED, Stage.JOB_HELD, Stage.SILENT, Stage.POISONED, Stage.MISREPLIED}
# Where the guest's end is open, as far as we know, and our questions reach it.
_OPEN = {Stage.UNHEARD, Stage.FLAPPING, *_JUDGED, *_ASKED_AGAIN}


def _moves() -> Mapping[tuple[Stage, Step], Stage]:
    # Whoever opens the guest's end cannot be heard over a socket that is not ours.
    moves = {(stage, Step.OPENED): Stage.UNHEARD for stage in {*Stage} - _UNCONNECTED - {Stage.YIELDED}}
    # Our dialling again opens nothing in the guest: closed stays closed, absent stays absent.
    moves |= {(stage, Step.CONNECTED): Stage.UNHEARD for stage in {*Stage} - {Stage.CLOSED, Stage.NOT_OPENED}}
    moves |= {(stage, Step.REPORT): Stage.AGREED for stage in Stage}
    moves |= {(stage, Step.BLOCKED): Stage.BLOCKED for stage in Stage}
    moves |= {(stage, Step.CAPPED): Stage.CAPPED for stage in Stage}
    moves |= {(stage, Step.SUPPRESSED): Stage.FLAPPING for stage in Stage}
    # What was agreed before the freeze still holds after it; nothing is concluded from what a frozen guest lists.
    moves |= {(stage, Step.FROZEN): Stage.UNJUDGED for stage in Stage}
    moves |= {(stage, Step.FROZEN): Stage.FROZEN for stage in (Stage.AGREED, Stage.FROZEN)}
    moves |= {(stage, Step.CLOSED): Stage.CLOSED for stage in (*_OPEN, Stage.CUT)}
    moves |= {(stage, Step.SILENCE): Stage.SILENT for stage in _OPEN}
    moves |= {(stage, Step.POISONED): Stage.POISONED for stage in _OPEN}
    moves |= {(stage, Step.BAD_REPLY): Stage.MISREPLIED for stage in _OPEN}
    # Somebody else's job tells nothing about the agent: what is known of it stands.
    moves |= {(stage, Step.JOB_HELD): Stage.JOB_HELD for stage in (Stage.UNHEARD, Stage.FLAPPING, Stage.SILENT)}
    moves |= {(Stage.UNHEARD, Step.OVERDUE): Stage.NOT_OPENED}
    was_there = (*_JUDGED, Stage.UNJUDGED, Stage.CLOSED, Stage.SILENT, Stage.MISREPLIED, Stage.CUT)
    moves |= {(stage, Step.BUSY): Stage.BUSY for stage in {*Stage} - {*was_there, Stage.YIELDED}}
    moves |= {(stage, Step.BUSY): Stage.YIELDED for stage in was_there}
    moves |= {(stage, Step.UNREACHABLE): Stage.UNREACHABLE for stage in (Stage.UNHEARD, *_UNCONNECTED)}
    moves |= {(stage, Step.FOREIGN): Stage.FOREIGN for stage in (Stage.UNHEARD, *_UNCONNECTED)}
    moves |= {(stage, Step.DISCONNECTED): Stage.CUT for stage in (*_JUDGED, *_ASKED_AGAIN)}
    return MappingProxyType(moves)


MOVES = _moves()
"""Every legal move: (stage, step) to the stage that follows; ``states.advance`` applies it."""


def resume_stage(state: State | None, port: Port) -> Stage:
    """Where a negotiation goes on after a restart of ours, by what was on record: an end that is not open now."""
    if port.open or state in (None, State.WAITING):
        return Stage.UNHEARD
    if state is State.ABSENT:
        return Stage.NOT_OPENED
    return Stage.CLOSED if state is State.LOST or port is Port.CLOSED else Stage.UNHEARD


def judge_failure(error: SidecarError, *, answered_in_time: bool) -> Step | None:
    """What it shows of the agent that asking it failed so; ``None``: nothing.

    ``answered_in_time``: what came, whatever it was, came before the time that an agent has was over.
    """
    match error:
        case CommandFailedError() if is_unsupported(error):
            return Step.BLOCKED
        case CommandFailedError() | BadReplyError():
            return Step.BAD_REPLY
        case AgentPoisonedError():
            return Step.POISONED
        case JobHeldError():
            return Step.JOB_HELD
        case NoAnswerError() | AgentUnsynchronizedError() if not answered_in_time:
            return Step.SILENCE
        case AgentUnsynchronizedError():
            return Step.BAD_REPLY
    return None
