"""Connects to the unix sockets of guest-agent channels, which QEMU serves, one client at a time."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

from sidecar.adapters.channel_socket import LeakyBucket, count_unread, open_channel
from sidecar.adapters.qmp_channel import QmpChannel, dial_qga

# All we ever have to say to an agent that keeps up fits many times; one that does not read is cut off.
SEND_LIMIT_BYTES = 64 * 1024

# What a guest says is read in pieces of this size, so that one turn of the event loop is short whatever is in them,
READ_BYTES = 16 * 1024
# and no faster than this for long: the worst of lines, read at this rate, costs some hundredths of a core. An honest
# agent sends some hundred bytes every few seconds, and now and then lists of some 10 KiB. The rest waits in the guest's
# own port, and nobody else notices.
READ_RATE_BYTES_S = 128 * 1024
READ_BURST_BYTES = 256 * 1024


class UnixConnection(asyncio.Protocol):
    """One connection to a channel; see ``engine.ports.ByteConnection``."""

    def __init__(self, receive_data: Callable[[bytes], None]) -> None:
        self._receive_data = receive_data
        self._transport: asyncio.Transport | None = None
        self._closed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._bucket = LeakyBucket(READ_BURST_BYTES, READ_RATE_BYTES_S)
        self._resume: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.max_size = READ_BYTES  # type: ignore[attr-defined] # asyncio's own bound on one read

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self._receive_data(data)
        self._throttle(len(data))

    def _throttle(self, received_bytes: int) -> None:
        """What overflows the bucket is read later."""
        excess_s = self._bucket.pour(received_bytes, self._loop.time())
        if excess_s and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
            self._resume = self._loop.call_later(excess_s, self._transport.resume_reading)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        if self._resume is not None:
            self._resume.cancel()
        self._closed.set()

    def send(self, data: bytes) -> bool:
        """Queue bytes; a peer that lets ``SEND_LIMIT_BYTES`` pile up is cut off. Says whether they were queued."""
        if self._transport is None or self._transport.is_closing():
            return False
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > SEND_LIMIT_BYTES:
            self._transport.abort()
            return False
        return True

    def unread_bytes(self) -> int:
        """How many of our bytes the peer has not read."""
        return 0 if self._transport is None else count_unread(self._transport)

    def close(self) -> None:
        """Close at once; what was not sent is dropped."""
        if self._transport is not None:
            self._transport.abort()

    async def wait_closed(self) -> None:
        """Returns when the connection is over."""
        await self._closed.wait()


class UnixDialer:
    """See ``engine.ports.Dialer``."""

    def __init__(self) -> None:
        self._reading: asyncio.Future[bytes] | None = None

    async def dial(self, path: str, pid: int | None, receive_data: Callable[[bytes], None]) -> UnixConnection:
        """Connect to the channel at ``path``, which ``pid`` (if given) must serve.

        Raises:
            ChannelUnreachableError: No socket there, nobody listens, or too many wait already.
            ForeignSocketError: The process that listens is not ``pid``; closed, nothing was sent.
        """
        connection = open_channel(path, pid)
        try:
            loop = asyncio.get_running_loop()
            _, protocol = await loop.create_unix_connection(lambda: UnixConnection(receive_data), sock=connection)
        except BaseException:
            connection.close()
            raise
        return protocol

    async def dial_qga(self, path: str, pid: int | None) -> QmpChannel:
        """Likewise, to a QEMU guest agent."""
        return await dial_qga(path, pid)

    async def is_in_use(self, path: str) -> bool:
        """Whether the kernel shows a client connected to a socket of this path."""
        return await self._has_client(path, _CONNECTED)

    async def is_awaited(self, path: str) -> bool:
        """Whether the kernel shows a client in the socket's queue, which QEMU has not accepted."""
        return await self._has_client(path, _QUEUED)

    async def _has_client(self, path: str, state: bytes) -> bool:
        """Look into the kernel's table, see ``proc_pid_net(5)``.

        It holds every unix socket of the network namespace, so those who ask at the same time share one read. Where
        it cannot be read nobody is seen: then only dialling tells.
        """
        if self._reading is None:
            read = Path("/proc/net/unix").read_bytes
            self._reading = asyncio.get_running_loop().run_in_executor(None, read)
            self._reading.add_done_callback(self._forget_reading)
        try:
            table = await asyncio.shield(self._reading)
        except OSError:
            return False
        return _has_socket(table, os.fsencode(path), state)

    def _forget_reading(self, reading: asyncio.Future[bytes]) -> None:
        self._reading = None
        if not reading.cancelled():
            reading.exception()  # whoever asked may be gone, and then nobody else takes it


# A line of /proc/net/unix: address, reference count, protocol, flags, type, state, inode, path.
_QUEUED, _CONNECTED = b"02", b"03"


def _has_socket(table: bytes, path: bytes, state: bytes) -> bool:
    ending = b" " + path + b"\n"
    found = table.find(ending)
    while found >= 0:
        fields = table[table.rfind(b"\n", 0, found) + 1 : found].split()
        if len(fields) == 7 and fields[5] == state:
            return True
        found = table.find(ending, found + 1)
    return False
