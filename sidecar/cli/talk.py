"""Talking to the daemon: which way, and how its problems are told."""

import os
from argparse import Namespace

from sidecar.api.problems import ProblemCode, ProblemError
from sidecar.client import DEFAULT_SOCKET, READONLY_SOCKET, Client
from sidecar.errors import SidecarError, SocketForbiddenError, VersionCapError

SOCKET_VARIABLE = "SIDECAR_SOCKET"


def open_client(options: Namespace) -> Client:
    """A client of the daemon that is meant.

    That is another host's with --host; else that of the socket that was given, or else that SIDECAR_SOCKET names, or
    else of the default one. Whoever may not open the default socket, and named none, gets the read-only one.

    Raises:
        DaemonUnreachableError: Nobody is there.
        ConfigurationError: There is no way to another host's.
    """
    if options.host is not None:
        from sidecar.cli.bus_access import find_line

        return Client(line=find_line(options.host, options.bus))
    named = find_named(options)
    client = Client(named or DEFAULT_SOCKET)
    try:
        client.connect()
    except SocketForbiddenError:
        if named:
            raise
        return _open_readonly()
    return client


def find_named(options: Namespace) -> str | None:
    """The host, the socket, or else what SIDECAR_SOCKET names; ``None``: the daemon at the default socket is meant."""
    return options.host or options.socket or os.environ.get(SOCKET_VARIABLE)


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
