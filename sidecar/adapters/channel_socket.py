"""The unix socket of a guest's channel: opened safely, served by whom it should be, and read at a bounded pace."""

import array
import asyncio
import fcntl
import os
import socket
import stat
import struct

from sidecar.errors import ChannelUnreachableError, ForeignSocketError

_SIOCOUTQ = 0x5411
_UCRED = struct.Struct("3i")


def open_channel(path: str, pid: int | None) -> socket.socket:
    """Connect to the socket at ``path``, never through a symbolic link; what is returned does not block.

    Args:
        path: The socket, of any length.
        pid: The process that must serve it; ``None`` asks for nobody in particular.

    Raises:
        ChannelUnreachableError: No socket there, nobody listens, or too many wait already.
        ForeignSocketError: The process that listens is not ``pid``; closed, nothing was sent.
    """
    connection = _open(path)
    try:
        peer, _uid, _gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        if pid is not None and peer != pid:
            raise ForeignSocketError(f"the channel's socket is served by process {peer}, not by QEMU ({pid})")
    except BaseException:
        connection.close()
        raise
    return connection


def count_unread(transport: asyncio.WriteTransport) -> int:
    """Bytes in our queue and in the socket's: unix(7) counts what the peer has not read (SIOCOUTQ)."""
    if transport.is_closing():
        return 0
    unread = array.array("i", [0])
    fcntl.ioctl(transport.get_extra_info("socket").fileno(), _SIOCOUTQ, unread)
    return unread[0] + transport.get_write_buffer_size()


class LeakyBucket:
    """How long to wait before more is read, so that a guest gets no more than its burst and then its rate."""

    __slots__ = ("_burst_bytes", "_level_at", "_level_bytes", "_rate_bytes_s")

    def __init__(self, burst_bytes: int, rate_bytes_s: int) -> None:
        self._burst_bytes, self._rate_bytes_s = burst_bytes, rate_bytes_s
        self._level_bytes, self._level_at = 0.0, 0.0

    def pour(self, taken_bytes: int, now: float) -> float:
        """What was read goes in; says for how many seconds it overflows."""
        leaked = (now - self._level_at) * self._rate_bytes_s
        self._level_bytes, self._level_at = max(0.0, self._level_bytes - leaked) + taken_bytes, now
        return max(0.0, self._level_bytes - self._burst_bytes) / self._rate_bytes_s


def _open(path: str) -> socket.socket:
    try:
        # The inode that was looked at is the one that is connected to, and a long path fits, too.
        node = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if not stat.S_ISSOCK(os.fstat(node).st_mode):
                raise ChannelUnreachableError(f"{path!a} is no socket")
            return _connect(f"/proc/self/fd/{node}")
        finally:
            os.close(node)
    except (OSError, ValueError) as error:
        raise ChannelUnreachableError(f"{path!a}: {error}") from error


def _connect(address: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection
