"""One host with the real engine and fakes all around it, in virtual time; told what libvirt and hooks would tell."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sidecar.engine.host import Host
from sidecar.engine.notices import DomainNotice, Happening, HookNotice, LifecycleNotice, PortNotice
from sidecar.engine.ports import Activity, HostIdentity
from sidecar.engine.settings import Settings, Surroundings
from sidecar.record.agreement import Agreement, ChannelRow, Origin
from sidecar.record.domain_xml import ChannelDevice
from tests.fakes.channels import FakeDialer, FakeGuest, FakeSocket
from tests.fakes.hypervisor import FakeDomain, FakeHypervisor
from tests.fakes.ovirt_agent import AgentModel, Era

NEW, OLD = "ovirt-guest-agent.0", "com.redhat.rhevm.vdsm"
BETA = HostIdentity("beta", "5c0f0000-0000-4000-8000-00000000000b")
EPOCH = datetime(2026, 11, 21, 7, 0, tzinfo=UTC)


def now() -> float:
    return asyncio.get_running_loop().time()


def wall_clock() -> datetime:
    return EPOCH + timedelta(seconds=now())


def came_along(arrivals: int = 1, version: str = "4") -> Agreement:
    """The record of another host, which said agreed there."""
    row = ChannelRow(NEW, "ovirt", "agreed", version, version, "4", "2026-11-20T00:00:00.000Z", None)
    return Agreement("alpha", "a1fa", "run-at-alpha", "start", arrivals, "2026-11-20T00:00:00.000Z", (row,))


class LoneHost:
    """A running engine; `told` is every notice that reached it."""

    def __init__(self, maximum: int = 4, responsive_s: float = 120, absent_s: float = 120) -> None:
        self.hypervisor = FakeHypervisor(self.tell)
        self.dialer = FakeDialer()
        settings = Settings(
            ovirt_maximum=maximum,
            responsive_s=responsive_s,
            absent_s=absent_s,
            qga_channels=frozenset({"org.qemu.guest_agent.0"}),
            qga_direct_channels=frozenset({"org.qemu.guest_agent.1"}),
        )
        self.surroundings = Surroundings(self.hypervisor, self.dialer, settings, HostIdentity("", ""), wall_clock)
        self.engine = Host(self.surroundings)
        self._count = 0

    @asynccontextmanager
    async def running(self, *, connected: bool = True) -> AsyncIterator["LoneHost"]:
        """Runs the engine; on the way out it must leave no task and no connection."""
        before = asyncio.all_tasks()
        engine = asyncio.create_task(self.engine.run())
        await asyncio.sleep(0)
        try:
            if connected:
                await self.connect()
            yield self
        finally:
            engine.cancel()
            await asyncio.wait([engine])
        await settle()
        assert asyncio.all_tasks() <= before
        assert self.dialer.open_connections == 0

    async def connect(self) -> None:
        await self.engine.connected(BETA)

    # What there is.

    def add_domain(
        self,
        activity: Activity = Activity.INCOMING,
        *,
        origin: Origin | None = None,
        record: Agreement | None = None,
        channels: tuple[str, ...] = (NEW,),
        opened: bool | None = False,
        name: str = "",
    ) -> FakeDomain:
        """A domain whose QEMU has just started; nothing is told."""
        self._count += 1
        domain = FakeDomain(UUID(int=self._count), name or f"vm{self._count}", "", 0, activity, origin)
        domain.live = domain.config = record
        self.renew_process(domain, channels, opened)
        self.hypervisor.domains[domain.uuid] = domain
        return domain

    def renew_process(
        self, domain: FakeDomain, channels: tuple[str, ...] = (NEW,), opened: bool | None = False
    ) -> None:
        """Another QEMU process with sockets of its own."""
        self._count += 1
        domain.pid = 1000 + self._count
        domain.run = f"run-{self._count}"
        domain.channels = tuple(self._serve(domain, name, i, opened) for i, name in enumerate(channels))

    def _serve(self, domain: FakeDomain, name: str, number: int, opened: bool | None) -> ChannelDevice:
        path = f"/run/channels/{domain.run}/{name}"
        self.dialer.serve(path, domain.pid)
        return ChannelDevice(name, f"channel{number}", path, opened)

    def socket(self, domain: FakeDomain, name: str = NEW) -> FakeSocket:
        device = next(device for device in domain.channels if device.name == name)
        return self.dialer.sockets[device.path]

    def guest(self, domain: FakeDomain, name: str = NEW, *, agent: AgentModel | None = None) -> FakeGuest:
        """A guest behind the domain's channel, its end closed."""
        return FakeGuest(
            self.socket(domain, name), agent or AgentModel(Era.V1_0_16, prompt=True), self.reporter(domain, name)
        )

    def migrated_guest(self, domain: FakeDomain, version: int = 4) -> FakeGuest:
        """A guest whose agent runs since long with this version in force; it has not arrived yet."""
        guest = self.guest(domain, agent=AgentModel(Era.V1_0_16, maximum=4, prompt=True))
        guest.agent.heartbeat()
        guest.agent.version = version
        return guest

    def reporter(self, domain: FakeDomain, name: str = NEW) -> Callable[[bool], None]:
        alias = next(device.alias for device in domain.channels if device.name == name)
        return lambda opened: self.tell(PortNotice(domain.uuid, alias, opened))

    # What is told.

    def tell(self, notice: DomainNotice) -> None:
        self.engine.notify(notice)

    def event(self, domain: FakeDomain, happening: Happening, origin: Origin | None = None) -> None:
        self.tell(LifecycleNotice(domain.uuid, domain.name, happening, origin))

    async def hook(self, domain: FakeDomain, operation: str) -> None:
        await self.engine.receive_hook(HookNotice(domain.name, operation))

    # What happens, as far as libvirt lets it be seen.

    def run_guest(self, domain: FakeDomain, origin: Origin | None) -> None:
        domain.activity, domain.origin = Activity.RUNNING, origin

    def end(self, domain: FakeDomain) -> None:
        """QEMU is gone, and libvirt says so."""
        domain.port.agent = None
        domain.port.left.set()
        self.hypervisor.domains.pop(domain.uuid, None)
        self.event(domain, Happening.STOPPED)

    def attached(self, domain: FakeDomain) -> bool:
        return any(self.socket(domain, device.name).clients for device in domain.channels)

    # What came of it.

    def row(self, domain: FakeDomain, name: str = NEW) -> ChannelRow:
        assert domain.live is not None
        return next(row for row in domain.live.channels if row.name == name)

    def verdict(self, domain: FakeDomain, name: str = NEW) -> tuple[str, str, str | None]:
        row = self.row(domain, name)
        return row.state, row.version, row.reason


async def settle(seconds: float = 0.001) -> None:
    """Lets everything that is due happen."""
    await asyncio.sleep(seconds)
