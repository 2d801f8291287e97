"""Every error of this project, with the blame in its type.

    SidecarError
    ├── MisuseError                  our caller (or operator) asked for something that cannot be
    │   ├── ConfigurationError       the configuration file is wrong: file, key, expectation
    │   ├── MessageNotAllowedError   the message table refuses this message at this version
    │   ├── HookConflictError        a file that we did not write stands where the hook should go
    │   └── VersionCapError          the operation is newer than the version of the API that may be spoken
    ├── AgentError                   one command to a guest's agent did not come to a good end
    │   ├── CommandFailedError       the agent answered with an error
    │   ├── NotSentError             the agent cannot be asked at the moment: nothing was sent
    │   │   ├── AgentDisconnectedError  nobody is at the guest's end, or its CPUs stand
    │   │   ├── AgentUnsynchronizedError  the agent did not say our number back
    │   │   ├── AgentPoisonedError  libvirt has given up its connection to the agent
    │   │   └── AgentBusyError      earlier calls did not end in time
    │   ├── NoAnswerError            it was sent; nobody knows whether it ran
    │   │   └── AgentLeftError       and the agent went away meanwhile
    │   └── BadReplyError            it was sent, and what came back cannot be its answer
    │       └── UncorrelatedReplyError  it carried an id, and what came back carries none
    ├── ReportError                  the agent in a guest cannot look something up
    ├── TransportError               a guest-agent channel's socket
    │   ├── ChannelUnreachableError  nothing answers at the path
    │   └── ForeignSocketError       something answers, but it is not that domain's QEMU
    ├── HypervisorError              libvirt refused or failed: unless a kind says otherwise, it did not happen
    │   ├── HypervisorDownError      no connection to libvirt at the moment
    │   ├── DomainGoneError          the domain does not exist, or runs no more
    │   ├── JobHeldError             another job holds the domain
    │   ├── OutcomeUnknownError      nobody knows whether it happened
    │   └── RecordChangedError       the record was written, and somebody else has changed it already
    ├── BusError                     the other hosts of the fleet, over the message bus
    │   ├── BusDownError             no connection to the bus at the moment, or none is configured
    │   ├── HostUnknownError         the fleet knows no such host
    │   └── HostSilentError          the other host gave no answer in time
    └── DaemonUnreachableError       a client got no answer from sidecard: nothing was changed
        └── SocketForbiddenError     the socket is there, and this user may not open it

A guest's bad input is no exception: it becomes an event of the session (``protocol.ovirt_reader``), so that
no byte a guest sends can raise into the engine.
"""

from dataclasses import dataclass
from enum import StrEnum


class SidecarError(Exception):
    """Base of all errors here."""


class MisuseError(SidecarError):
    """The caller or the operator asked for something that cannot be done."""


class ConfigurationError(MisuseError):
    """The configuration is wrong; the text names file, key and what was expected."""


class RefusalCode(StrEnum):
    """Stable problem codes of messages that may not be sent (docs/problems.md)."""

    NOT_IN_TABLE = "not-in-table"
    NEGOTIATION_ONLY = "negotiation-only"
    BAD_ARGUMENTS = "bad-arguments"
    NO_CHANNEL = "no-channel"
    NOT_AGREED = "not-agreed"
    VERSION_TOO_LOW = "version-too-low"
    NOT_ENABLED = "not-enabled"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a message may not be sent; ``str()`` of it is the whole sentence.

    Attributes:
        code: The stable code.
        message: The message's name, as it was asked for.
        why: The reason in words, which names what was required and what is.
        required: The version that brought the message, ``None`` where that is not the point.
        agreed: The version in force, ``0`` when there is none.
        reason: The channel's own problem code (``channel/@reason``) behind it, if any.
    """

    code: RefusalCode
    message: str
    why: str
    required: str | None = None
    agreed: str = "0"
    reason: str | None = None

    def __str__(self) -> str:
        return f"{ascii(self.message)[1:-1]}: {self.why}"


class MessageNotAllowedError(MisuseError):
    """This message may not be sent to this guest now; ``refusal`` says why, and nothing was sent."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


class HookConflictError(MisuseError):
    """Another program's file stands where our hook should go; it was left alone."""


class VersionCapError(MisuseError):
    """The operation is newer than the version of the API that may be spoken: the caller's cap, or the daemon's own.

    Nothing was done.
    """


class AgentError(SidecarError):
    """A command to a guest's agent did not come to a good end; the kind says whether it may have run."""


class CommandFailedError(AgentError):
    """The agent answered with an error: the command failed, or was refused.

    Attributes:
        error_class: The agent's error class, ``None`` where it got lost (libvirt passes the description only).
        description: The agent's words, cleaned and cut; the guest chose them.
    """

    def __init__(self, description: str, error_class: str | None = None) -> None:
        super().__init__(f"the agent answered: {description}")
        self.description, self.error_class = description, error_class


class NotSentError(AgentError):
    """The agent cannot be asked at the moment; nothing was sent."""


class AgentDisconnectedError(NotSentError):
    """Nobody is at the guest's end of the channel, or the guest's CPUs stand."""


class AgentUnsynchronizedError(NotSentError):
    """The agent could not be synchronised with, which goes before the command: it hangs, or says something else."""


class AgentPoisonedError(NotSentError):
    """Libvirt has given up its connection to the agent after an error, until the guest's end is opened anew."""


class AgentBusyError(NotSentError):
    """Earlier calls, ours or another client's, did not end in time."""


class NoAnswerError(AgentError):
    """The command was sent, or may have been, and no answer came: it may have run, or may run later."""


class AgentLeftError(NoAnswerError):
    """The command was sent, and the agent went away before it answered: with its guest, or by itself."""


class BadReplyError(AgentError):
    """The command was sent, and what came back is not its answer, or too large, or malformed: it may have run."""


class UncorrelatedReplyError(BadReplyError):
    """The command carried an ``id``, and what came back carries none: from an agent that knows none, or smuggled."""


class ReportError(SidecarError):
    """Something about the guest cannot be looked up at the moment; one line says what and why."""


class TransportError(SidecarError):
    """The socket of a guest-agent channel failed."""


class ChannelUnreachableError(TransportError):
    """Nothing that serves the channel answers at its path."""


class ForeignSocketError(TransportError):
    """The process behind the socket is not the domain's QEMU; the connection was closed unused."""


class HypervisorError(SidecarError):
    """Libvirt refused or failed; unless the kind says otherwise, what was asked for did not happen."""


class HypervisorDownError(HypervisorError):
    """There is no connection to libvirt at the moment; nothing was changed."""


class DomainGoneError(HypervisorError):
    """The domain does not exist any more, or is not active."""


class JobHeldError(HypervisorError):
    """Another job holds the domain, so libvirt did not do it."""


class OutcomeUnknownError(HypervisorError):
    """Libvirt gave no answer: it may have happened or not, or may happen later.

    What was asked for may be asked for again: reading changes nothing, and writing a record twice is writing it once.
    """


class RecordChangedError(HypervisorError):
    """Our record was written, and read back differently: somebody else has changed it already."""


class BusError(SidecarError):
    """The other hosts of the fleet cannot be asked; nothing was changed on any."""


class BusDownError(BusError):
    """There is no connection to the message bus at the moment, or none is configured."""


class HostUnknownError(BusError):
    """The fleet knows no host of this name."""


class HostSilentError(BusError):
    """The other host gave no answer in time."""


class DaemonUnreachableError(SidecarError):
    """A client got no answer from sidecard: no socket, nobody there, silence, or nonsense; nothing was changed."""


class SocketForbiddenError(DaemonUnreachableError):
    """The socket is there, and this user may not open it."""
