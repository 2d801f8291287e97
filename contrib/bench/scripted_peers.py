"""The guests' ends of many channels, real unix sockets, in a process of their own: agents that say what they are told.

Each answers ``refresh`` with a heartbeat at once, as this project's agent does, and ``api-version`` with its ``facts``.
Orders come over a pipe as a method's name and its arguments; what it returns goes back.
"""

import fcntl
import json
import select
import socket
import struct
import termios
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from sidecar.protocol.versions import OVIRT_MAXIMUM
from tests.fakes.ovirt_agent import FACTS

# Between two looks at whether a message was read; shorter than the sleep that any kernel makes of it.
LOOK_S = 20e-6
READ_TIMEOUT_S = 60.0


def render_line(name: str, /, **arguments: object) -> bytes:
    """One message as an original agent renders it."""
    return json.dumps({"__name__": name, **arguments}).encode("ascii") + b"\n"


def render_heartbeat(number: int) -> bytes:
    """A usual heartbeat, which can be told from others by its free memory."""
    return render_line("heartbeat", **{**FACTS["heartbeat"], "free-ram": str(number), "apiVersion": OVIRT_MAXIMUM})


def serve_peers(orders: Connection, paths: Sequence[str], facts: bytes) -> None:
    """The process: returns when the other end of ``orders`` closes."""
    _Peers(orders, paths, facts).run()


class _Peers:
    """See the module; one loop around epoll."""

    def __init__(self, orders: Connection, paths: Sequence[str], facts: bytes) -> None:
        self._orders, self._facts = orders, facts
        self._poll = select.epoll()
        self._listeners = {listener.fileno(): (index, listener) for index, listener in enumerate(map(_listen, paths))}
        self._clients: dict[int, socket.socket] = {}
        self._indices: dict[int, int] = {}
        self._flood = self._unsent = b""
        self._ended = False
        for descriptor in (orders.fileno(), *self._listeners):
            self._poll.register(descriptor, select.EPOLLIN)
        orders.send(None)  # listening

    def run(self) -> None:
        """Serve until nobody orders any more."""
        while not self._ended:
            for descriptor, events in self._poll.poll():
                self._handle(descriptor, events)

    def _handle(self, descriptor: int, events: int) -> None:
        if descriptor == self._orders.fileno():
            self._obey()
        elif descriptor in self._listeners:
            self._accept(*self._listeners[descriptor])
        elif descriptor in self._indices:
            self._serve(self._indices[descriptor], events)

    def _obey(self) -> None:
        try:
            method, *arguments = self._orders.recv()
        except EOFError:
            self._ended = True
            return
        self._orders.send(getattr(self, method)(*arguments))

    def _accept(self, index: int, listener: socket.socket) -> None:
        client = listener.accept()[0]
        client.setblocking(False)
        self._clients[index], self._indices[client.fileno()] = client, index
        self._poll.register(client, select.EPOLLIN)

    def _serve(self, index: int, events: int) -> None:
        client = self._clients[index]
        if events & select.EPOLLOUT:
            with suppress(BlockingIOError, ConnectionError):
                while True:
                    self._unsent = self._unsent[client.send(self._unsent) :] or self._flood
        if events & ~select.EPOLLOUT:
            self._receive(index, client)

    def _receive(self, index: int, client: socket.socket) -> None:
        data = b""
        with suppress(ConnectionError):
            data = client.recv(65536)
        if not data:
            self._poll.unregister(client)
            del self._indices[client.fileno()], self._clients[index]
            client.close()
        if b'"refresh"' in data:
            client.send(render_heartbeat(0))
        if b'"api-version"' in data and self._facts:
            self._send(client, self._facts)

    # Orders.

    def say(self, lines: Sequence[bytes], count: int) -> None:
        """The first ``count`` say these, one after the other, each when what was said before has been read."""
        for line in lines:
            for index in range(count):
                self._send(self._clients[index], line)

    def flood(self, index: int, line: bytes) -> None:
        """From now on this one says nothing but this, as fast as its port allows; whole lines, many in one write."""
        self._flood = self._unsent = line * (64 * 1024 // len(line))
        self._poll.modify(self._clients[index], select.EPOLLIN | select.EPOLLOUT)

    def calm(self, index: int) -> None:
        """It says nothing more, and the rest of a line that it had begun is lost with its connection."""
        self._poll.modify(self._clients[index], select.EPOLLIN)

    def count(self) -> int:
        """How many have a host."""
        return len(self._clients)

    def _send(self, client: socket.socket, data: bytes) -> None:
        deadline = time.monotonic() + READ_TIMEOUT_S
        while data or _count_unread(client):
            with suppress(BlockingIOError):
                data = data[client.send(data) :] if data else data
            if time.monotonic() > deadline:
                raise TimeoutError("what was said is not being read")
            time.sleep(LOOK_S)


def _listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)
    listener.setblocking(False)
    return listener


def _count_unread(client: socket.socket) -> int:
    unread: Any = fcntl.ioctl(client, termios.TIOCOUTQ, bytes(4))
    return int(struct.unpack("i", unread)[0])
