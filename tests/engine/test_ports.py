"""What `Dialer` and `Connection` promise, kept by the fake and by the real adapter alike."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol

import pytest

from sidecar.adapters.unix_channel import UnixDialer
from sidecar.engine.ports import ByteConnection, Dialer
from sidecar.errors import ChannelUnreachableError, ForeignSocketError
from tests.fakes.channels import FakeDialer, FakeSocket

PATIENCE_S = 5.0


class Server(Protocol):
    """A QEMU that serves one channel, seen from its inside; `pid` is its process."""

    @property
    def dialer(self) -> Dialer: ...

    @property
    def path(self) -> str: ...

    @property
    def pid(self) -> int: ...

    async def accept(self) -> None:
        """Serve the client that waits in line."""

    async def read(self) -> bytes:
        """What the client said."""

    def write(self, data: bytes) -> None:
        """Say something to the client."""

    def hang_up(self) -> None:
        """End the client's connection."""

    def stop(self) -> None:
        """Serve nobody any more."""


class RealServer:
    def __init__(self, directory: Path) -> None:
        self.dialer = UnixDialer()
        self.path, self.pid = str(directory / "channel"), os.getpid()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._listener.bind(self.path)
        self._listener.listen(1)
        self._client: socket.socket | None = None

    @property
    def client(self) -> socket.socket:
        assert self._client is not None
        return self._client

    async def accept(self) -> None:
        self._client, _ = await asyncio.get_running_loop().sock_accept(self._listener)

    async def read(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self.client, 1 << 20)

    def write(self, data: bytes) -> None:
        self.client.send(data)

    def hang_up(self) -> None:
        self.client.close()

    def stop(self) -> None:
        self._listener.close()
        if self._client is not None:
            self._client.close()


class FakeServer:
    def __init__(self) -> None:
        self.dialer = FakeDialer()
        self.path, self.pid = "/fake", 4711
        self._socket: FakeSocket = self.dialer.serve(self.path, self.pid)
        self._heard = bytearray()

    async def accept(self) -> None:
        assert self._socket.clients

    async def read(self) -> bytes:
        self._socket.peer = self
        self._socket.serve_soon()
        await asyncio.sleep(0.01)
        self._socket.peer = None
        heard, self._heard = bytes(self._heard), bytearray()
        return heard

    def receive(self, data: bytes) -> None:
        self._heard += data

    def write(self, data: bytes) -> None:
        self._socket.write(data)

    def hang_up(self) -> None:
        self._socket.clients[0].close()

    def stop(self) -> None:
        self._socket.refusing = True


@pytest.fixture(params=["fake", "real"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Server]:
    made: Server = FakeServer() if request.param == "fake" else RealServer(tmp_path)
    yield made
    made.stop()


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what it waits for is on the other end of a socket
            await asyncio.sleep(0.001)


def ignore(_data: bytes) -> None:
    pass


async def dial(server: Server, receive_data: Callable[[bytes], None] = ignore) -> ByteConnection:
    connection = await server.dialer.dial(server.path, server.pid, receive_data)
    await server.accept()
    return connection


class TestConnection:
    async def test_carries_bytes_both_ways_in_order(self, server: Server) -> None:
        heard = bytearray()
        connection = await dial(server, heard.extend)
        connection.send(b"one\n")
        connection.send(b"two\n")
        assert await server.read() == b"one\ntwo\n"
        server.write(b"three\n")
        server.write(b"four\n")
        await wait_until(lambda: heard == b"three\nfour\n")
        connection.close()

    async def test_counts_what_the_peer_has_not_read(self, server: Server) -> None:
        connection = await dial(server)
        assert connection.unread_bytes() == 0
        connection.send(b"hello")
        assert connection.unread_bytes() > 0
        assert await server.read() == b"hello"
        assert connection.unread_bytes() == 0
        connection.close()

    async def test_peer_that_hangs_up_ends_it(self, server: Server) -> None:
        connection = await dial(server)
        server.hang_up()
        async with asyncio.timeout(PATIENCE_S):
            await connection.wait_closed()
        connection.send(b"into the void")
        assert connection.unread_bytes() == 0

    async def test_close_ends_it_for_every_waiter(self, server: Server) -> None:
        connection = await dial(server)
        connection.send(b"unsent")
        waiters = [asyncio.create_task(connection.wait_closed()) for _ in range(2)]
        await asyncio.sleep(0)
        connection.close()
        connection.close()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*waiters)
            await connection.wait_closed()
        assert connection.unread_bytes() == 0

    async def test_nothing_is_heard_after_close(self, server: Server) -> None:
        heard = bytearray()
        connection = await dial(server, heard.extend)
        server.write(b"too late\n")
        connection.close()
        await connection.wait_closed()
        await asyncio.sleep(0.01)
        assert heard == b""

    async def test_peer_that_does_not_read_is_cut_off(self, server: Server) -> None:
        connection = await dial(server)
        most = 0
        for _ in range(10_000):
            connection.send(b"x" * 1024)
            most = max(most, connection.unread_bytes())
        async with asyncio.timeout(PATIENCE_S):
            await connection.wait_closed()
        assert most < 1024 * 1024


class TestDialer:
    async def test_nobody_there(self, server: Server) -> None:
        server.stop()
        with pytest.raises(ChannelUnreachableError):
            await server.dialer.dial(server.path, server.pid, ignore)
        with pytest.raises(ChannelUnreachableError):
            await server.dialer.dial("/nowhere/at/all", server.pid, ignore)

    async def test_another_process(self, server: Server) -> None:
        with pytest.raises(ForeignSocketError):
            await server.dialer.dial(server.path, server.pid + 1, ignore)

    async def test_use(self, server: Server) -> None:
        assert not await server.dialer.is_in_use(server.path)
        connection = await dial(server)
        assert await server.dialer.is_in_use(server.path)
        connection.close()
        await connection.wait_closed()
        if isinstance(server, RealServer):
            server.hang_up()
        assert not await server.dialer.is_in_use(server.path)
