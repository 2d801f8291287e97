"""The sockets of guest-agent channels as QEMU serves them, and the guests behind them, in virtual time."""

import asyncio
import json
from collections.abc import Callable
from typing import Protocol

from sidecar.errors import (
    AgentLeftError,
    AgentUnsynchronizedError,
    ChannelUnreachableError,
    ForeignSocketError,
    NoAnswerError,
    UncorrelatedReplyError,
)
from tests.fakes.ovirt_agent import AgentModel
from tests.fakes.qga_agent import LATENCY_S, FakeQga

SEND_LIMIT_BYTES = 64 * 1024
HEARTBEAT_S = 5.0


class Peer(Protocol):
    """Whoever opened the guest's end."""

    def receive(self, data: bytes) -> None:
        """Bytes from the host."""


class FakeConnection:
    """See `engine.ports.Connection`; served by QEMU when it is the first of its socket's clients."""

    def __init__(self, socket: "FakeSocket", receive_data: Callable[[bytes], None]) -> None:
        self.unread = bytearray()
        self.open = True
        self._socket, self._receive_data = socket, receive_data
        self._closed = asyncio.Event()

    def send(self, data: bytes) -> bool:
        if not self.open:
            return False
        self.unread += data
        if len(self.unread) > SEND_LIMIT_BYTES:
            self.close()
            return False
        self._socket.serve_soon()
        return True

    def unread_bytes(self) -> int:
        return len(self.unread) if self.open else 0

    def close(self) -> None:
        if self.open:
            self.open = False
            self.unread.clear()
            self._socket.clients.remove(self)
            self._socket.serve_soon()
            asyncio.get_running_loop().call_soon(self._closed.set)

    async def wait_closed(self) -> None:
        await self._closed.wait()

    def deliver(self, data: bytes) -> None:
        if self.open:
            self._receive_data(data)


class FakeQgaConnection:
    """See `engine.ports.QgaConnection`; `syncs` counts how often it synchronised."""

    def __init__(self, connection: FakeConnection, socket: "FakeSocket") -> None:
        self._connection, self._socket = connection, socket
        self._synced = False
        self._lost = asyncio.Event()
        self.syncs = 0

    async def call(self, request: str, wait_s: float) -> str:
        agent = self._socket.qga if self._served else None
        if not self._synced and (agent is None or agent.silent):
            self._connection.unread = bytearray() if self._served else bytearray(b"guest-sync-delimited")
            await self._wait(wait_s)
            raise AgentUnsynchronizedError("no sync")
        if not self._synced:
            self.syncs += 1
            self._synced = True
        reply = None if agent is None else agent.answer(request)
        await asyncio.sleep(LATENCY_S)
        if reply is None:
            self._synced = False
            await self._wait(wait_s)
            raise NoAnswerError("no answer")
        if "id" in json.loads(request) and "id" not in json.loads(reply):
            self._synced = False
            raise UncorrelatedReplyError("a reply without the id")
        return reply

    async def _wait(self, wait_s: float) -> None:
        self._lost.clear()
        ends = [asyncio.ensure_future(end) for end in (self._connection.wait_closed(), self._lost.wait())]
        done, pending = await asyncio.wait(ends, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        for end in pending:
            end.cancel()
        if done:
            raise AgentLeftError("the connection ended, or the agent has gone")

    @property
    def _served(self) -> bool:
        return bool(self._socket.clients) and self._socket.clients[0] is self._connection

    def lose_agent(self) -> None:
        self._synced = False
        self._lost.set()

    def unread_bytes(self) -> int:
        return self._connection.unread_bytes()

    def close(self) -> None:
        self._connection.close()

    async def wait_closed(self) -> None:
        await self._connection.wait_closed()


class FakeSocket:
    """One channel's socket.

    Attributes:
        pid: the process that serves it.
        refusing: nobody listens.
        hangs_up: accepts, and closes at once.
        shown: the kernel's table names the client that is served.
        reading: QEMU takes the bytes of its first client while the guest's end is open.
        peer: who opened the guest's end; None while it is closed.
        qga: the QEMU guest agent that opened it, on a channel of that dialect.
        clients: the one that is served, then those that wait in line.
        dials: when each connection of ours was made.
        looks: when somebody asked whether it is in use.
    """

    def __init__(self, path: str, pid: int) -> None:
        self.path, self.pid = path, pid
        self.refusing = self.hangs_up = False
        self.reading = self.shown = True
        self.peer: Peer | None = None
        self.qga: FakeQga | None = None
        self.clients: list[FakeConnection] = []
        self.dials: list[float] = []
        self.looks: list[float] = []

    def connect(self, receive_data: Callable[[bytes], None]) -> FakeConnection:
        """A client of any program; a second one is accepted by the kernel and served later."""
        connection = FakeConnection(self, receive_data)
        self.clients.append(connection)
        if self.hangs_up:
            asyncio.get_running_loop().call_soon(connection.close)
        self.serve_soon()
        return connection

    def serve_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self._serve)

    def _serve(self) -> None:
        if self.reading and self.peer is not None and self.clients and self.clients[0].unread:
            data = bytes(self.clients[0].unread)
            self.clients[0].unread.clear()
            self.peer.receive(data)

    def write(self, data: bytes) -> None:
        """Bytes from the guest; without a client QEMU drops them."""
        if self.clients:
            asyncio.get_running_loop().call_soon(self.clients[0].deliver, data)


class FakeDialer:
    """See `engine.ports.Dialer`."""

    def __init__(self) -> None:
        self.sockets: dict[str, FakeSocket] = {}
        self.made: list[FakeConnection] = []

    def serve(self, path: str, pid: int) -> FakeSocket:
        """QEMU listens at the path; what was there before is gone."""
        self.sockets[path] = FakeSocket(path, pid)
        return self.sockets[path]

    @property
    def open_connections(self) -> int:
        return sum(connection.open for connection in self.made)

    async def dial_qga(self, path: str, pid: int | None) -> FakeQgaConnection:
        return FakeQgaConnection(await self.dial(path, pid, lambda _: None), self.sockets[path])

    async def dial(self, path: str, pid: int | None, receive_data: Callable[[bytes], None]) -> FakeConnection:
        socket = self.sockets.get(path)
        if socket is None or socket.refusing:
            await asyncio.sleep(0)
            raise ChannelUnreachableError(f"nobody serves {path}")
        socket.dials.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0)
        if pid not in (None, socket.pid):
            raise ForeignSocketError(f"{path} is served by {socket.pid}")
        connection = socket.connect(receive_data)
        self.made.append(connection)
        return connection

    async def is_awaited(self, path: str) -> bool:
        await asyncio.sleep(0)
        return len(self.sockets[path].clients) > 1

    async def is_in_use(self, path: str) -> bool:
        socket = self.sockets.get(path)
        await asyncio.sleep(0)
        if socket is None:
            return False
        socket.looks.append(asyncio.get_running_loop().time())
        return socket.shown and bool(socket.clients)


class FakeGuest:
    """A guest with an agent on one channel: beats every five seconds while it runs, answers as its era does.

    `report` is told when its end opens or closes, as QEMU tells libvirt.
    """

    def __init__(self, socket: FakeSocket, agent: AgentModel, report: Callable[[bool], None]) -> None:
        self.socket, self.agent = socket, agent
        self.report = report
        self.running = True
        self.heard = bytearray()
        self._waiting = bytearray()
        self._timers: set[asyncio.TimerHandle] = set()
        self._heart: asyncio.TimerHandle | None = None

    def open(self, first_beat_s: float = 0.03) -> None:
        """The agent's process starts and opens its end."""
        self.socket.peer = self
        self.report(True)
        self.socket.serve_soon()
        self.socket.write(b"".join(self.agent.start()))
        self._schedule(first_beat_s)

    def close(self, *, reported: bool = True) -> None:
        """The agent's process ends."""
        self.silence()
        self.socket.peer = None
        if reported:
            self.report(False)

    def silence(self) -> None:
        """The agent hangs: its end stays open, and no heartbeat comes."""
        for timer in (self._heart, *self._timers):
            if timer is not None:
                timer.cancel()
        self._heart = None

    def stand(self) -> None:
        """The guest's CPUs stop; what the host says meanwhile waits in the port."""
        self.running = False
        if self._heart is not None:
            self._heart.cancel()

    def go_on(self, next_beat_s: float = HEARTBEAT_S) -> None:
        """The guest's CPUs go on; its next heartbeat comes after so long."""
        self.running = True
        waiting, self._waiting = bytes(self._waiting), bytearray()
        self.receive(waiting)
        self._schedule(next_beat_s)

    def arrive(self, socket: FakeSocket, report: Callable[[bool], None], next_beat_s: float = HEARTBEAT_S) -> None:
        """The guest migrated: the same agent, its end open, behind another socket."""
        self.socket, self.report = socket, report
        socket.peer = self
        socket.serve_soon()
        self.go_on(next_beat_s)

    def receive(self, data: bytes) -> None:
        if not self.running:
            self._waiting += data
            return
        self.heard += data
        self.socket.write(b"".join(self.agent.receive(data)))
        if self.agent.follow_up_s is not None:
            due, self.agent.follow_up_s = self.agent.follow_up_s, None
            self._timers.add(asyncio.get_running_loop().call_later(due, self.beat))

    def beat(self) -> None:
        """One heartbeat now."""
        if self.running and self.socket.peer is self:
            self.socket.write(b"".join(self.agent.heartbeat()))

    def _schedule(self, after_s: float) -> None:
        if self._heart is not None:
            self._heart.cancel()
        self._heart = asyncio.get_running_loop().call_later(after_s, self._tick)

    def _tick(self) -> None:
        self.beat()
        self._schedule(HEARTBEAT_S)


class Occupant:
    """Another program on the host (a VDSM) that wants the channel: takes what comes, and dials again when it restarts.

    `served` is how many bytes of the guest's reached it.
    """

    def __init__(self, socket: FakeSocket) -> None:
        self.socket = socket
        self.served = 0
        self._connection: FakeConnection | None = None
        self.start()

    def start(self) -> None:
        self._connection = self.socket.connect(self._take)

    def stop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def has_channel(self) -> bool:
        return bool(self.socket.clients) and self.socket.clients[0] is self._connection

    def _take(self, data: bytes) -> None:
        self.served += len(data)
