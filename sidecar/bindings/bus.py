"""The message bus: what the process that talks to it was asked, as calls of the bridge.

Which operations are served at which of its two doors that process decides, by the same table; who may come in, the
broker.

Source: docs/bus.md.
"""

from collections.abc import Callable
from typing import Any

from sidecar.api.operations import Access
from sidecar.api.problems import ProblemCode, ProblemError
from sidecar.api.versions import ApiVersion
from sidecar.bindings.documents import make_document
from sidecar.bindings.given_values import check_value
from sidecar.engine.bridge import Bridge, Caller


class BusBinding:
    """See the module."""

    def __init__(self, bridge: Bridge, find_pid: Callable[[], int]) -> None:
        """``find_pid`` tells which process talks to the bus now."""
        self._bridge, self._find_pid = bridge, find_pid

    async def call(self, operation: object, arguments: object, version: object) -> Any:
        """Do what somebody on the bus asks; all of it is as it came.

        Returns:
            The result's document.

        Raises:
            ProblemError: It was refused, or did not come to a good end.
        """
        if not isinstance(operation, str) or not isinstance(arguments, dict):
            raise ProblemError(ProblemCode.BAD_REQUEST, "a call has an operation's name and an object of arguments")
        check_value(arguments)
        caller = Caller(0, self._find_pid(), Access.FULL, _read_version(version), over_bus=True)
        return make_document(await self._bridge.call(operation, arguments, caller))


def _read_version(version: object) -> ApiVersion | None:
    if version is None:
        return None
    try:
        return ApiVersion.parse(version if isinstance(version, str) else "")
    except ValueError as error:
        raise ProblemError(ProblemCode.BAD_REQUEST, str(error)) from error
