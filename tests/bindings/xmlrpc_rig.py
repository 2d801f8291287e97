"""The standard library's client of XML-RPC over a unix socket."""

import asyncio
import http.client
import socket
import xmlrpc.client
from pathlib import Path
from typing import Any


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(self._path))


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path, headers: list[tuple[str, str]]) -> None:
        super().__init__(headers=headers)
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = _UnixConnection(self._path)
        self._connection = host, connection  # which is what its close() closes
        return connection


async def call(path: Path, method: str, *values: Any, **headers: str) -> Any:
    """The result of one call; names of headers have `_` for `-`."""
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]

    def ask() -> Any:
        with xmlrpc.client.ServerProxy("http://localhost", _UnixTransport(path, named), allow_none=True) as proxy:
            return getattr(proxy, method)(*values)

    return await asyncio.to_thread(ask)


async def call_fault(path: Path, method: str, *values: Any, **headers: str) -> tuple[int, str]:
    """The code and the text of the fault that it ends in."""
    try:
        result = await call(path, method, *values, **headers)
    except xmlrpc.client.Fault as fault:
        return fault.faultCode, fault.faultString
    raise AssertionError(f"no fault, but {result!r}")
