"""The processes that are compared where guests are scripted: what serves their channels, ours and a bare one.

Ours is the daemon's engine with its real unix channels; libvirt is a fake, which answers at once and costs little. The
bare one is an ``asyncio.Protocol`` that knows one message: it splits lines, ``json.loads`` each, keeps the last, and
agrees at once; no limit, no check, no record.

Orders come over a pipe as a method's name and its arguments; what it returns goes back. Between them nobody is woken.
"""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any
from uuid import UUID

from sidecar.adapters.unix_channel import UnixDialer
from sidecar.config import Configuration
from sidecar.daemon import read_settings
from sidecar.engine.host import Host
from sidecar.engine.notices import DomainNotice, Happening, LifecycleNotice, RecordNotice
from sidecar.engine.ports import Activity, HostIdentity
from sidecar.engine.settings import Caps, Surroundings
from sidecar.protocol.versions import OVIRT_MAXIMUM
from sidecar.record.agreement import Origin
from sidecar.record.domain_xml import ChannelDevice
from tests.fakes.hypervisor import FakeDomain, FakeHypervisor

PORT = "ovirt-guest-agent.0"
IDENTITY = HostIdentity("bench", "5c0f0000-0000-4000-8000-00000000000b")
AGREE_TIMEOUT_S = 120.0
# No guest of the benches is quiet on purpose for so long; the longest idle window is a fraction of it.
QUIET_S = 3600.0

Order = Callable[..., Awaitable[object]]


def serve_ours(orders: Connection) -> None:
    """The process: returns when the other end of ``orders`` closes."""
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(_serve(orders, _Ours))


def serve_bare(orders: Connection) -> None:
    """Likewise."""
    asyncio.run(_serve(orders, _Bare))


async def _serve(orders: Connection, kind: "type[_Ours] | type[_Bare]") -> None:
    loop, arrived = asyncio.get_running_loop(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        arm = kind(group)
        loop.add_reader(orders.fileno(), arrived.set)
        orders.send(None)
        while True:
            await arrived.wait()
            arrived.clear()
            if not orders.poll():  # the loop tells more than once of what it sees
                continue
            try:
                method, *arguments = orders.recv()
            except EOFError:
                break
            order: Order = getattr(arm, method)
            orders.send(await order(*arguments))
        arm.stop()


class _Ours:
    """The engine; each channel is the only one of a domain."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._hypervisor = FakeHypervisor(self._tell)
        settings = read_settings(Configuration(), Caps())
        self._surroundings = Surroundings(self._hypervisor, UnixDialer(), settings, HostIdentity("", ""))
        self._host = Host(self._surroundings)
        self._running = group.create_task(self._host.run())
        self._agreed: dict[UUID, float] = {}
        self._awaited = 0
        self._done = asyncio.Event()

    def stop(self) -> None:
        self._running.cancel()

    async def connect(self, paths: Sequence[str], pid: int) -> float:
        """These domains run when the daemon connects to libvirt; seconds until the record of each says agreed."""
        for index, path in enumerate(paths):
            self._add(index, path, pid)
        begin = time.monotonic()
        self._await(len(paths))
        await self._host.connected(IDENTITY)
        if paths:
            await self._finish()
        return time.monotonic() - begin

    async def arrive(self, first: int, paths: Sequence[str], pid: int, gap_s: float) -> list[float]:
        """So many domains migrate in, one every ``gap_s``; for each the seconds from RESUMED to the agreement."""
        resumed: dict[UUID, float] = {}
        self._await(len(self._agreed) + len(paths))
        begin = time.monotonic()
        for number, path in enumerate(paths):
            due = begin + number * gap_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            domain = self._add(first + number, path, pid, Origin.MIGRATION)
            resumed[domain.uuid] = due  # however late a busy loop hears of it
            self._tell(LifecycleNotice(domain.uuid, domain.name, Happening.RESUMED, Origin.MIGRATION))
        await self._finish()
        return [self._agreed[uuid] - begun for uuid, begun in resumed.items()]

    async def leave(self, first: int, count: int) -> None:
        """They are gone again."""
        for index in range(first, first + count):
            domain = self._hypervisor.domains.pop(_uuid(index))
            del self._agreed[domain.uuid]
            self._tell(LifecycleNotice(domain.uuid, domain.name, Happening.STOPPED))
        gone = {_uuid(index) for index in range(first, first + count)}
        while gone & {domain.uuid for domain in self._host.domains}:  # noqa: ASYNC110  # of no interest to anybody else
            await asyncio.sleep(0.01)

    async def last(self) -> list[Any]:
        """Of each channel the free memory of the last heartbeat."""
        return [_read_heartbeat(domain.require_stay().facts.views()) for domain in self._host.domains]

    def _add(self, index: int, path: str, pid: int, origin: Origin | None = None) -> FakeDomain:
        device = ChannelDevice(PORT, "channel0", path, opened=True)
        domain = FakeDomain(_uuid(index), f"vm{index}", f"run-{index}", pid, Activity.RUNNING, origin, (device,))
        self._hypervisor.domains[domain.uuid] = domain
        return domain

    def _tell(self, notice: DomainNotice) -> None:
        if isinstance(notice, RecordNotice):
            self._look_at_record(self._hypervisor.domains[notice.uuid])
        self._host.notify(notice)

    def _look_at_record(self, domain: FakeDomain) -> None:
        assert domain.live is not None
        if domain.uuid not in self._agreed and [row.state for row in domain.live.channels] == ["agreed"]:
            self._agreed[domain.uuid] = time.monotonic()
            if len(self._agreed) == self._awaited:
                self._done.set()

    def _await(self, count: int) -> None:
        self._awaited = count
        self._done.clear()

    async def _finish(self) -> None:
        async with asyncio.timeout(AGREE_TIMEOUT_S):
            await self._done.wait()


def _uuid(index: int) -> UUID:
    return UUID(int=index + 1)


def _read_heartbeat(views: Sequence[Any]) -> object:
    return next((asdict(view)["value"].get("free-ram") for view in views if view.name == "heartbeat"), None)


class _Bare:
    """See the module."""

    def __init__(self, _group: asyncio.TaskGroup) -> None:
        self._protocols: list[_BareProtocol] = []
        self._missing = 0
        self._done = asyncio.Event()

    def stop(self) -> None:
        for protocol in self._protocols:
            protocol.transport.abort()

    async def connect(self, paths: Sequence[str], _pid: int) -> float:
        """Connect to all; seconds until all agreed."""
        begin = time.monotonic()
        self._missing = len(paths)
        loop = asyncio.get_running_loop()
        for path in paths:
            _, protocol = await loop.create_unix_connection(lambda: _BareProtocol(self._agree), path)
            self._protocols.append(protocol)
        async with asyncio.timeout(AGREE_TIMEOUT_S):
            await self._done.wait()
        return time.monotonic() - begin

    async def last(self) -> list[Any]:
        """Of each channel the free memory of the last heartbeat."""
        return [protocol.messages["heartbeat"].get("free-ram") for protocol in self._protocols]

    def _agree(self) -> None:
        self._missing -= 1
        if not self._missing:
            self._done.set()


class _BareProtocol(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, agree: Callable[[], None]) -> None:
        self._agree, self._agreed, self._rest = agree, False, b""
        self.messages: dict[str, Any] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(b'{"__name__": "refresh", "apiVersion": %d}\n' % OVIRT_MAXIMUM)

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            self.messages[message["__name__"]] = message
            if not self._agreed and message["__name__"] == "heartbeat" and message.get("apiVersion", 0) > 0:
                self._agreed = True
                self.transport.write(b'{"__name__": "api-version", "apiVersion": %d}\n' % OVIRT_MAXIMUM)
                self._agree()
