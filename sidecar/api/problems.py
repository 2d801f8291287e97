"""Every problem an operation can end in: its stable code, HTTP status, title, and the exit code of ``sidecarctl``.

A problem means the same in every binding: REST shows it as a document of RFC 9457, XML-RPC as a fault, the command line
as one line and an exit code, and the bus as the exception that it is.

Source: docs/problems.md, which lists the codes for users.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from sidecar.errors import RefusalCode, SidecarError

TYPE_PREFIX = "urn:libvirt-sidecar:problem:"

# Exit codes of the command line.
REFUSED, WRONG_USAGE, UNREACHABLE, UNKNOWN_OUTCOME = 1, 2, 3, 4


class ProblemCode(StrEnum):
    """Stable codes of what went wrong with a request, beside those of refused messages (``errors.RefusalCode``)."""

    BAD_REQUEST = "bad-request"
    UNSUPPORTED_VERSION = "unsupported-version"
    UNKNOWN_OPERATION = "unknown-operation"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    FORBIDDEN = "forbidden"
    TOO_LARGE = "too-large"
    TOO_SLOW = "too-slow"
    TOO_MANY_CONNECTIONS = "too-many-connections"
    DOMAIN_NOT_FOUND = "domain-not-found"
    CHANNEL_NOT_FOUND = "channel-not-found"
    NOT_IN_TIME = "not-in-time"
    COMMAND_FAILED = "command-failed"
    NOT_SENT = "not-sent"
    NO_ANSWER = "no-answer"
    BAD_REPLY = "bad-reply"
    JOB_HELD = "job-held"
    LIBVIRT_UNAVAILABLE = "libvirt-unavailable"
    LIBVIRT_FAILED = "libvirt-failed"
    OUTCOME_UNKNOWN = "outcome-unknown"
    BUS_UNAVAILABLE = "bus-unavailable"
    HOST_NOT_FOUND = "host-not-found"
    HOST_UNREACHABLE = "host-unreachable"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """What a code means everywhere: ``status`` of HTTP, ``exit_code`` of the command line."""

    status: int
    title: str
    exit_code: int = REFUSED


_REFUSED_MESSAGE = ProblemKind(409, "The message may not be sent now")

PROBLEMS: Mapping[str, ProblemKind] = MappingProxyType(
    {
        ProblemCode.BAD_REQUEST: ProblemKind(400, "The request is not understood", WRONG_USAGE),
        ProblemCode.UNSUPPORTED_VERSION: ProblemKind(406, "This version of the API is not served here"),
        ProblemCode.UNKNOWN_OPERATION: ProblemKind(404, "There is no such operation"),
        ProblemCode.METHOD_NOT_ALLOWED: ProblemKind(405, "The operation has another HTTP method"),
        ProblemCode.FORBIDDEN: ProblemKind(403, "The read-only socket does not offer this"),
        ProblemCode.TOO_LARGE: ProblemKind(413, "The request is too large"),
        ProblemCode.TOO_SLOW: ProblemKind(408, "The request did not arrive in time"),
        ProblemCode.TOO_MANY_CONNECTIONS: ProblemKind(503, "Too many connections"),
        ProblemCode.DOMAIN_NOT_FOUND: ProblemKind(404, "No such domain runs here"),
        ProblemCode.CHANNEL_NOT_FOUND: ProblemKind(404, "The domain has no such channel"),
        ProblemCode.NOT_IN_TIME: ProblemKind(504, "It did not come to be in time"),
        ProblemCode.COMMAND_FAILED: ProblemKind(422, "The agent answered with an error"),
        ProblemCode.NOT_SENT: ProblemKind(503, "The agent cannot be asked now, and nothing was sent"),
        ProblemCode.NO_ANSWER: ProblemKind(504, "It was sent, and nobody knows whether it ran", UNKNOWN_OUTCOME),
        ProblemCode.BAD_REPLY: ProblemKind(502, "It was sent, and what came back is no answer", UNKNOWN_OUTCOME),
        ProblemCode.JOB_HELD: ProblemKind(503, "Another job holds the domain, and nothing was done"),
        ProblemCode.LIBVIRT_UNAVAILABLE: ProblemKind(503, "There is no connection to libvirt"),
        ProblemCode.LIBVIRT_FAILED: ProblemKind(502, "Libvirt refused or failed"),
        ProblemCode.OUTCOME_UNKNOWN: ProblemKind(504, "Nobody knows whether it happened", UNKNOWN_OUTCOME),
        ProblemCode.BUS_UNAVAILABLE: ProblemKind(503, "There is no connection to a message bus"),
        ProblemCode.HOST_NOT_FOUND: ProblemKind(404, "The fleet knows no such host"),
        ProblemCode.HOST_UNREACHABLE: ProblemKind(504, "The other host gave no answer over the bus", UNREACHABLE),
        ProblemCode.INTERNAL: ProblemKind(500, "A fault of the daemon's own"),
        RefusalCode.NOT_IN_TABLE: ProblemKind(404, "No message table has this message"),
        RefusalCode.BAD_ARGUMENTS: ProblemKind(400, "The message's arguments cannot be sent"),
        RefusalCode.NO_CHANNEL: _REFUSED_MESSAGE,
        RefusalCode.NEGOTIATION_ONLY: _REFUSED_MESSAGE,
        RefusalCode.NOT_AGREED: _REFUSED_MESSAGE,
        RefusalCode.VERSION_TOO_LOW: _REFUSED_MESSAGE,
        RefusalCode.NOT_ENABLED: _REFUSED_MESSAGE,
    }
)
"""Every code with what it means."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem.

    Attributes:
        code: A key of ``PROBLEMS``; a newer daemon may know others.
        detail: One sentence, safe to print.
        extra: What else is known, by name: for a refused message ``required``, ``agreed`` and ``reason``.
    """

    code: str
    detail: str
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> ProblemKind:
        """What the code means; what nobody has heard of is a refusal."""
        return PROBLEMS.get(self.code, ProblemKind(500, "A problem that this version does not know"))

    @property
    def document(self) -> dict[str, object]:
        """The problem document of RFC 9457, with the members ``code`` and those of ``extra``."""
        return {
            "type": TYPE_PREFIX + self.code,
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            "code": self.code,
            **self.extra,
        }


class ProblemError(SidecarError):
    """An operation ended in a problem; ``problem`` says which."""

    def __init__(self, code: str, detail: str, **extra: str) -> None:
        super().__init__(code, detail)
        self.problem = Problem(code, detail, extra)

    def __str__(self) -> str:
        return self.problem.detail

    @property
    def kwargs(self) -> dict[str, str]:
        """What oslo.messaging sends beside ``args``, to make the same error anew at the other end of the bus."""
        return dict(self.problem.extra)
