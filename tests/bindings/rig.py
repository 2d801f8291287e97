"""The API's server on real sockets in a directory of the test's, and raw connections to it."""

import asyncio
import errno
import grp
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sidecar.api.versions import API_VERSION, ApiVersion
from sidecar.bindings.server import ApiServer
from sidecar.config import ApiSection, LimitsSection
from tests.bindings.fake_operations import FakeOperations

METRICS = b"# HELP sidecar_domains How many.\nsidecar_domains 1.0\n"

GROUP = grp.getgrgid(os.getgid()).gr_name

# Whatever a test waits for comes within this time, or never.
PATIENCE_S = 10.0


class Rig:
    """`operations` are the fakes behind it, `server` is what is tested."""

    def __init__(
        self,
        directory: Path,
        *,
        version: ApiVersion = API_VERSION,
        readonly_name: str = "api-ro.sock",
        **limits: Any,
    ) -> None:
        self.operations = FakeOperations()
        self.full, self.readonly = directory / "api.sock", directory / readonly_name
        self.version = version
        self.render_metrics: Callable[[], bytes] = lambda: METRICS
        section = ApiSection(socket=str(self.full), readonly_socket=str(self.readonly), socket_group=GROUP)
        self.server = ApiServer(
            self.operations.bridge(version), section, LimitsSection(**limits), lambda: self.render_metrics()
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Rig"]:
        """On the way out it must leave no task."""
        before = asyncio.all_tasks()
        await self.server.start()
        try:
            yield self
        finally:
            await self.server.close()
        for _ in range(10):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() - before <= {asyncio.current_task()}


class RawClient:
    """A connection on which a test writes what it likes; nothing is read before it is asked for."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._data = bytearray()

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._sock, data)

    def end(self) -> None:
        """Nothing more will be sent; answers are still read."""
        self._sock.shutdown(socket.SHUT_WR)

    async def read_answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (names in lower case) and body of the next answer; of a chunked one no body."""
        head = (await self.read_until(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        length = int(headers.get("content-length", "0"))
        while len(self._data) < length:
            assert await self._receive()
        return int(head[0].split()[1]), headers, self._take(length)

    async def read_until(self, end: bytes) -> bytes:
        while (place := self._data.find(end)) < 0:
            assert await self._receive(), f"ended after {bytes(self._data[-1000:])!r}"
        return self._take(place + len(end))

    async def read_rest(self) -> bytes:
        """Everything up to the end of the connection."""
        while await self._receive():
            pass
        return self._take(len(self._data))

    async def _receive(self) -> bool:
        async with asyncio.timeout(PATIENCE_S):
            try:
                data = await self._loop.sock_recv(self._sock, 65536)
            except ConnectionResetError:  # it was closed with something of ours unread
                data = b""
        self._data += data
        return bool(data)

    def _take(self, length: int) -> bytes:
        taken = bytes(self._data[:length])
        del self._data[:length]
        return taken


@asynccontextmanager
async def connected(path: Path) -> AsyncIterator[RawClient]:
    """A new connection."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        # The event loop that should take it is ours: its queue may be full.
        while (fault := sock.connect_ex(str(path))) == errno.EAGAIN:  # noqa: ASYNC110 # nobody tells us
            await asyncio.sleep(0)
        assert not fault
        yield RawClient(sock)


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


def post(path: str, body: bytes, *headers: str) -> bytes:
    length = f"Content-Length: {len(body)}"
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", length, *headers, "", ""]).encode() + body
