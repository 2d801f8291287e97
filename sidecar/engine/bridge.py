"""The bridge: every operation of the API, for whoever asks. Bindings translate to and from it, and decide nothing.

``Bridge.call`` judges who asks, in which version, and with which arguments, by the operation's row in the table; then
``Operations`` does it. Whatever goes wrong comes out as a ``ProblemError``.

Source: docs/api.md; ``api.operations`` for the table.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sidecar.api.operations import OPERATIONS, Access, Operation
from sidecar.api.problems import ProblemCode, ProblemError
from sidecar.api.versions import API_VERSION, ApiVersion
from sidecar.api.views import VersionView
from sidecar.engine.arguments import read_arguments
from sidecar.engine.following import EventFilter
from sidecar.engine.operations import Operations
from sidecar.engine.problems import describe_error
from sidecar.errors import SidecarError
from sidecar.protocol.guest_text import clean_line

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the process at the other end of the socket, what the socket lets it do, and the version it speaks.

    ``version`` is ``None`` for a caller that declares none: it is taken for one that speaks what is served.
    ``over_bus``: the process is the one that talks to the message bus, whose broker has judged who may.
    """

    uid: int
    pid: int
    access: Access
    version: ApiVersion | None = None
    over_bus: bool = False


class Bridge:
    """See the module; for the loop's thread alone."""

    def __init__(self, operations: Operations, version: ApiVersion = API_VERSION) -> None:
        """``version`` is what is served; an older one makes it the bridge of that version."""
        self.version = version
        self._operations = operations

    async def call(self, name: str, arguments: Mapping[str, object], caller: Caller) -> Any:
        """Do an operation.

        Returns:
            The view that the operation's row names, or a tuple of them.

        Raises:
            ProblemError: It was refused, or did not come to a good end; the problem's code says what happened.
        """
        operation = self.admit(name, caller)
        values = read_arguments(operation, arguments)
        outcome = "interrupted"
        try:
            result = await self._method(operation)(**values)
            outcome = "done"
        except SidecarError as error:
            problem = describe_error(error)
            outcome = problem.problem.code
            raise problem from error
        except Exception as error:
            logger.exception("%s: a fault of ours", name)
            outcome = ProblemCode.INTERNAL
            raise ProblemError(outcome, f"{name}: a fault of the daemon's own; its log tells more") from error
        finally:
            if operation.changes:
                _log_change(values, operation, caller, outcome)
        return result

    def follow(self, arguments: Mapping[str, object], caller: Caller) -> EventFilter:
        """The operation ``events`` for a binding that streams; raises as ``call`` does."""
        values = read_arguments(self.admit("events", caller), arguments)
        return self._operations.follow(values["domain"], values["after"])

    def _method(self, operation: Operation) -> Callable[..., Awaitable[Any]]:
        if operation.name == "can_send_version":
            return self._can_send_version
        method: Callable[..., Awaitable[Any]] = getattr(self._operations, operation.name)
        return method

    async def _can_send_version(self, version: str) -> VersionView:
        try:
            wanted = ApiVersion.parse(version)
        except ValueError as error:
            raise ProblemError(ProblemCode.BAD_REQUEST, str(error)) from error
        why = self._judge_version(wanted)
        return VersionView(str(wanted), str(self.version), why is None, why)

    # Who may ask.

    def admit(self, name: str, caller: Caller) -> Operation:
        """The operation, if he may have it: for a binding that can tell before it reads what the caller sent.

        Raises:
            ProblemError: He may not, there is none, or he speaks another version.
        """
        operation = OPERATIONS.get(name)
        if operation is None or not self.version.serves(operation.since):
            raise ProblemError(ProblemCode.UNKNOWN_OPERATION, f"no operation {name[:64]!a} in version {self.version}")
        why = None if caller.version is None else self._judge_declared(caller.version, operation)
        if why is not None:
            raise ProblemError(ProblemCode.UNSUPPORTED_VERSION, why)
        if not caller.access.allows(operation.access):
            raise ProblemError(ProblemCode.FORBIDDEN, f"{name} is not offered on the read-only socket")
        return operation

    def _judge_declared(self, declared: ApiVersion, operation: Operation) -> str | None:
        why = self._judge_version(declared)
        if why is None and not declared.serves(operation.since):
            why = f"{operation.name} came with version {operation.since} of the API, the caller declares {declared}"
        return why

    def _judge_version(self, version: ApiVersion) -> str | None:
        """Why a caller of this version is not served; ``None``: it is."""
        if self.version.serves(version):
            return None
        return f"the caller speaks version {version} of the API, and this daemon serves {self.version}"


def _log_change(values: Mapping[str, Any], operation: Operation, caller: Caller, outcome: str) -> None:
    """Who asked for what and how it ended; never with which arguments."""
    names = ("message", "domain", "host")
    what = " ".join(clean_line(values[key]) for key in names if values.get(key) is not None)
    who = "somebody on the message bus" if caller.over_bus else f"uid {caller.uid}, pid {caller.pid}"
    logger.info("%s %s for %s: %s", operation.name, what, who, outcome)
