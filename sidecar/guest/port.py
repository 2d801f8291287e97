"""The agent's end of the channel: a virtio-serial port, or a unix socket, with or without a host at its other end.

Edge-triggered epoll is what makes it cheap: level-triggered, a port without a host is readable (its end) and hung up
for ever, and the agent would either spin or look again each second as original agents do. With it the kernel tells
once that a host came, spoke, took what was written, or left.

An end that is of no use any more is closed and opened again: an unplugged port, a socket or a serial line whose other
end hung up.

Source: Linux, drivers/char/virtio_console.c: a read without a host gives nothing, a write EAGAIN, and an unplugged port
ENODEV. drivers/tty/tty_io.c: a line that hung up is never more than that again.
"""

import contextlib
import errno
import logging
import os
import select
import socket
import stat
from collections.abc import Sequence
from enum import Enum
from io import FileIO

logger = logging.getLogger(__name__)

PORTS = ("/dev/virtio-ports/ovirt-guest-agent.0", "/dev/virtio-ports/com.redhat.rhevm.vdsm")
"""Where hosts speak: a host that has both takes the first of them."""

READ_BYTES = 64 * 1024

# A device that is not there may be plugged in, or its driver bound anew; nothing that every system has tells of it.
RETRY_FIRST_S = 0.25
RETRY_LAST_S = 5.0

_ALWAYS = select.EPOLLIN | select.EPOLLET


class Presence(Enum):
    """Who is at the other end."""

    CLOSED = "our own end is not open"
    ALONE = "nobody"
    HOST = "a host"


End = socket.socket | FileIO


class Port:
    """One end, opened and opened again; ``fd`` is watched by the loop's epoll, which the port keeps up to date."""

    def __init__(self, paths: Sequence[str], epoll: select.epoll) -> None:
        """``paths``: the first that can be opened is taken."""
        self._paths, self._epoll = paths, epoll
        self._end: End | None = None
        self._outlives_hosts = False
        self.presence = Presence.CLOSED
        self._unsent = b""
        self._torn = False
        self._interest = _ALWAYS
        self._retry_s = RETRY_FIRST_S
        self._complaint = ""

    @property
    def fd(self) -> int:
        """The descriptor; -1 while closed."""
        return -1 if self._end is None else self._end.fileno()

    @property
    def sendable(self) -> bool:
        """Whether the next piece may be written: all before it is on its way."""
        return self.presence is Presence.HOST and not self._unsent

    # Opening.

    def open(self) -> bool:
        """Try to open one of the paths; false when none can be, and why is logged once."""
        problems = []
        for path in self._paths:
            try:
                self._open(path)
            except OSError as error:
                problems.append(f"{path}: {error.strerror or error}")
                continue
            self._complaint = ""
            logger.info("opened %s", path)
            return True
        self._complain("; ".join(problems))
        return False

    def next_retry_s(self) -> float:
        """How long to wait before ``open`` is tried again: each time twice as long."""
        retry_s, self._retry_s = self._retry_s, min(2 * self._retry_s, RETRY_LAST_S)
        return retry_s

    def _open(self, path: str) -> None:
        end = open_end(path)
        is_socket = isinstance(end, socket.socket)
        interest = _ALWAYS if is_socket else _ALWAYS | select.EPOLLOUT
        try:
            self._epoll.register(end.fileno(), interest)
        except OSError as error:  # /dev/null, for instance
            end.close()
            raise OSError(errno.EPERM, "a device that never tells when it can be read") from error
        self._end, self._interest = end, interest
        self._outlives_hosts = not is_socket and not os.isatty(end.fileno())
        # Who is at a device's other end the kernel tells; a socket that could be connected has somebody.
        self.presence = Presence.HOST if is_socket else Presence.ALONE

    def _complain(self, complaint: str) -> None:
        if complaint != self._complaint:
            self._complaint = complaint
            logger.warning("no port yet: %s", complaint)

    def close(self) -> None:
        """Let go of it; what was unsent is lost."""
        if self._end is None:
            return
        with contextlib.suppress(OSError):
            self._epoll.unregister(self.fd)
        self._end.close()
        # A port whose driver was only bound anew goes on where it was; another socket's peer has read nothing yet.
        self._torn = not isinstance(self._end, socket.socket) and (self._torn or bool(self._unsent))
        self._unsent = b""
        self._end, self.presence = None, Presence.CLOSED

    def _lose(self, why: str | None) -> None:
        logger.info("the port is gone: %s", why)
        self.close()

    # Bytes.

    def receive(self, events: int) -> bytes:
        """What has come by now, up to ``READ_BYTES``; also finds out who is there, from epoll's ``events``.

        Less than all comes when there is more: ask again, with the same events.
        """
        try:
            data = os.read(self.fd, READ_BYTES)
        except BlockingIOError:
            self._meet(alone=False)
            return b""
        except OSError as error:
            self._lose(error.strerror)
            return b""
        if data:
            self._retry_s = RETRY_FIRST_S
            # The last words of a host that left, or the first of one whose coming the kernel has yet to hear of.
            self._meet(alone=bool(events & select.EPOLLHUP))
        elif self._outlives_hosts:
            self._meet(alone=True)
        else:
            self._lose("its other end hung up")
        return data

    def _meet(self, *, alone: bool) -> None:
        self.presence = Presence.ALONE if alone else Presence.HOST
        if alone and self._unsent:
            # Whoever comes next has not read the beginning of this line: end it, and no good line is spoilt.
            self._unsent, self._torn = b"", True
        self._watch()

    def write(self, data: bytes) -> None:
        """Write a piece; to be called only while ``sendable``. What does not fit now follows with ``flush``."""
        self._unsent = b"\n" + data if self._torn else data
        self._torn = False
        self.flush()

    def flush(self) -> None:
        """Write on, as much as the host takes."""
        while self._unsent and self.presence is Presence.HOST:
            try:
                self._unsent = self._unsent[os.write(self.fd, self._unsent) :]
            except BlockingIOError:
                break
            except OSError as error:
                self._lose(error.strerror)
        if self.presence is not Presence.CLOSED:
            self._watch()

    def _watch(self) -> None:
        """Ask for "writable" only where it is news: a host came, or took what waited."""
        wanted = _ALWAYS
        if self._unsent or self.presence is Presence.ALONE:
            wanted |= select.EPOLLOUT
        if wanted != self._interest:
            self._epoll.modify(self.fd, wanted)
        self._interest = wanted


def open_end(path: str) -> End:
    """Open a character device, or connect to a unix socket; nothing of it ever waits.

    Raises:
        OSError: There is none, it is something else, or it cannot be had now; nothing is left open.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISSOCK(mode):
        return _connect(path)
    if not stat.S_ISCHR(mode):
        raise OSError(errno.ENODEV, "neither a character device nor a unix socket")
    device = FileIO(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY), "r+")
    if os.isatty(device.fileno()):
        _make_raw(device)
    return device


def _connect(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def _make_raw(line: FileIO) -> None:
    """Have a serial line carry bytes as they are; one that hung up just now is closed."""
    import termios  # only for serial lines, which few have
    import tty

    try:
        tty.setraw(line.fileno())
    except termios.error as error:
        line.close()
        raise OSError(*error.args) from error
