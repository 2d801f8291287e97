"""Talking to the daemon: which socket, and how its problems are told."""

import os

from sidecar.api.problems import ProblemCode, ProblemError
from sidecar.client import DEFAULT_SOCKET, READONLY_SOCKET, Client
from sidecar.errors import SidecarError, SocketForbiddenError, VersionCapError

SOCKET_VARIABLE = "SIDECAR_SOCKET"


def open_client(given: str | None) -> Client:
    """A client of the socket that was given, or else that SIDECAR_SOCKET names, or else of the default one.

    Whoever may not open the default socket, and named none, gets the read-only one.

    Raises:
        DaemonUnreachableError: Nobody is there.
    """
    named = find_named(given)
    client = Client(named or DEFAULT_SOCKET)
    try:
        client.connect()
    except SocketForbiddenError:
        if named:
            raise
        return _open_readonly()
    return client


def find_named(given: str | None) -> str | None:
    """The socket that was given, or else that SIDECAR_SOCKET names; ``None``: neither, and the default one is meant."""
    return given or os.environ.get(SOCKET_VARIABLE)


def _open_readonly() -> Client:
    client = Client(READONLY_SOCKET)
    client.connect()
    return client


def describe(error: SidecarError) -> str:
    """The error's sentence, with the stable code where it has one."""
    match error:
        case ProblemError():
            return f"{error} ({error.problem.code})"
        case VersionCapError():
            return f"{error} ({ProblemCode.UNSUPPORTED_VERSION})"
    return str(error)
