"""Every error that an operation can end in, as the problem that its caller is told: the blame is in the type."""

from sidecar.api.problems import ProblemCode, ProblemError
from sidecar.errors import (
    AgentError,
    BadReplyError,
    BusDownError,
    CommandFailedError,
    DomainGoneError,
    HostSilentError,
    HostUnknownError,
    HypervisorDownError,
    JobHeldError,
    MessageNotAllowedError,
    NotSentError,
    OutcomeUnknownError,
    SidecarError,
)

# Of each kind the first that fits.
_CODES: tuple[tuple[type[SidecarError], ProblemCode], ...] = (
    (CommandFailedError, ProblemCode.COMMAND_FAILED),
    (NotSentError, ProblemCode.NOT_SENT),
    (BadReplyError, ProblemCode.BAD_REPLY),
    (AgentError, ProblemCode.NO_ANSWER),
    (DomainGoneError, ProblemCode.DOMAIN_NOT_FOUND),
    (JobHeldError, ProblemCode.JOB_HELD),
    (HypervisorDownError, ProblemCode.LIBVIRT_UNAVAILABLE),
    (OutcomeUnknownError, ProblemCode.OUTCOME_UNKNOWN),
    (BusDownError, ProblemCode.BUS_UNAVAILABLE),
    (HostUnknownError, ProblemCode.HOST_NOT_FOUND),
    (HostSilentError, ProblemCode.HOST_UNREACHABLE),
)


def describe_error(error: SidecarError) -> ProblemError:
    """The problem behind an error of the engine's, or of what is below it."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, MessageNotAllowedError):
        refusal = error.refusal
        known = {"required": refusal.required, "agreed": refusal.agreed, "reason": refusal.reason}
        return ProblemError(
            refusal.code, str(refusal), **{key: text for key, text in known.items() if text is not None}
        )
    code = next((code for kind, code in _CODES if isinstance(error, kind)), ProblemCode.LIBVIRT_FAILED)
    return ProblemError(code, str(error))
