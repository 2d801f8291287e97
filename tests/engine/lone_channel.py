"""One channel of a running guest, without host, domain or record."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sidecar.engine.clocks import GuestClock
from sidecar.engine.facts import Facts
from sidecar.engine.ovirt_channel import OvirtChannel
from sidecar.engine.ports import HostIdentity
from sidecar.engine.settings import Settings, Surroundings
from sidecar.engine.tools import ToolsEntry
from sidecar.record.agreement import ChannelRow
from sidecar.record.domain_xml import ChannelDevice
from tests.engine.lone_host import NEW, settle, wall_clock
from tests.fakes.channels import FakeDialer, FakeGuest
from tests.fakes.hypervisor import FakeHypervisor
from tests.fakes.ovirt_agent import AgentModel, Era

PATH, PID = "/run/channels/1", 4711


class LoneChannel:
    """The channel and everything around it; the guest runs, its end is closed."""

    def __init__(
        self,
        maximum: int = 4,
        *,
        opened: bool | None = False,
        recorded: ChannelRow | None = None,
        hint: ChannelRow | None = None,
    ) -> None:
        self.dialer = FakeDialer()
        self.socket = self.dialer.serve(PATH, PID)
        settings = Settings(ovirt_maximum=maximum, responsive_s=120, absent_s=120)
        self.surroundings = Surroundings(
            FakeHypervisor(lambda _: None), self.dialer, settings, HostIdentity("h", "u"), wall_clock
        )
        self.clock = GuestClock(asyncio.get_running_loop().time)
        self.clock.start()
        self.changes = 0
        device = ChannelDevice(NEW, "channel0", PATH, opened)
        self.tools = ToolsEntry(None, self.surroundings, self.clock, self._changed)
        self.facts = Facts(wall_clock, asyncio.get_running_loop().time)
        self.channel = OvirtChannel(
            device, PID, "'vm1'", self.surroundings, self.clock, recorded, hint, self.tools, self.facts, self._changed
        )
        self.guest = FakeGuest(self.socket, AgentModel(Era.V1_0_16), self.channel.port_changed)

    def _changed(self) -> None:
        self.changes += 1

    @property
    def verdict(self) -> tuple[str, str, str | None]:
        row = self.channel.row
        return row.state, row.version, row.reason

    def stop_clock(self) -> None:
        self.clock.stop()
        self.channel.clock_changed()

    def start_clock(self) -> None:
        self.clock.start()
        self.channel.clock_changed()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["LoneChannel"]:
        """Runs it; on the way out neither task, nor connection, nor timer may be left."""
        before = asyncio.all_tasks()
        async with asyncio.TaskGroup() as group:
            self.channel.start(group)
            await settle()
            try:
                yield self
            finally:
                self.channel.close()
                self.guest.silence()
        assert asyncio.all_tasks() == before
        await settle()
        assert self.dialer.open_connections == 0
        changes = self.changes
        await settle(1000)
        assert self.changes == changes
