"""``http.client`` over a socket of the file system."""

import errno
import os
import socket
import struct
from http.client import HTTPConnection
from typing import Any

from sidecar.errors import DaemonUnreachableError, SocketForbiddenError


class UnixConnection(HTTPConnection):
    """A connection of ``http.client`` to a socket with a path.

    Attributes:
        path: The socket's.
        has_sent: Whether the other end may have read something of the request; to be reset before each.
    """

    def __init__(self, path: str, timeout_s: float) -> None:
        """``timeout_s`` is for opening it."""
        super().__init__("localhost")
        self.path, self.has_sent = path, False
        self._timeout_s = timeout_s

    def connect(self) -> None:
        """Open it.

        Raises:
            SocketForbiddenError: This user may not.
            DaemonUnreachableError: Nobody takes it.
        """
        self.sock = _connect(self.path, self._timeout_s)

    def send(self, data: Any) -> None:
        """Send bytes; ``has_sent`` tells whether any of them may have gone out, whatever happens then."""
        # Set before: an interruption can come right behind the system call.
        had_sent, self.has_sent = self.has_sent, True
        try:
            count = self.sock.send(data)
        except OSError:
            self.has_sent = had_sent
            raise
        self.sock.sendall(data[count:])


def _connect(path: str, timeout_s: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # A socket of Python's with a time-out does not wait for room in the daemon's queue; with the kernel's it does.
        seconds, rest = divmod(timeout_s, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", int(seconds), int(rest * 1e6)))
        connection.connect(path)
    except OSError as error:
        connection.close()
        kind = SocketForbiddenError if isinstance(error, PermissionError) else DaemonUnreachableError
        raise kind(f"{path}: {_advise(error)}") from error
    return connection


def _advise(error: OSError) -> str:
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return "there is no such socket: is sidecard running? (systemctl status sidecard)"
        case errno.ECONNREFUSED:
            return "nobody listens on this socket any more: start sidecard (systemctl start sidecard)"
        case errno.EACCES | errno.EPERM:
            return "this user may not open the socket: be root, or in the group libvirt"
        case errno.EAGAIN:
            return "the daemon does not take the connection: it is overloaded or stopped"
        case errno.EPROTOTYPE | errno.ENOTSOCK:
            return "this is not the daemon's socket"
    return os.strerror(error.errno) if error.errno else str(error)
