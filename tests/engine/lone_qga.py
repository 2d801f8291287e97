"""One QGA channel of a running guest, without host, domain or record: through libvirt, or direct."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from sidecar.engine.clocks import GuestClock
from sidecar.engine.facts import Facts
from sidecar.engine.ports import Activity, HostIdentity
from sidecar.engine.qga_channel import QgaChannel
from sidecar.engine.qga_lines import DirectLine, LibvirtLine, Line
from sidecar.engine.settings import Settings, Surroundings
from sidecar.engine.tools import ToolsEntry
from sidecar.protocol.qga_commands import QGA_MAXIMUM
from sidecar.protocol.releases import Release
from sidecar.record.agreement import ChannelRow
from sidecar.record.domain_xml import ChannelDevice
from tests.engine.lone_host import settle, wall_clock
from tests.fakes.channels import FakeDialer
from tests.fakes.hypervisor import FakeDomain, FakeHypervisor
from tests.fakes.qga_agent import FakeQga

QGA, DIRECT = "org.qemu.guest_agent.0", "org.qemu.guest_agent.1"
PATH, PID, DOMAIN = "/run/channels/qga", 4711, UUID(int=7)


class LoneQga:
    """The channel and everything around it; the guest runs, its end is closed."""

    def __init__(
        self,
        maximum: Release = QGA_MAXIMUM,
        *,
        direct: bool = False,
        opened: bool | None = False,
        recorded: ChannelRow | None = None,
        agent: FakeQga | None = None,
    ) -> None:
        self.dialer, self.hypervisor = FakeDialer(), FakeHypervisor(lambda _: None)
        self.domain = FakeDomain(DOMAIN, "vm1", "run", PID, Activity.RUNNING)
        self.hypervisor.domains[DOMAIN] = self.domain
        self.socket = self.dialer.serve(PATH, PID)
        settings = Settings(ovirt_maximum=4, responsive_s=120, absent_s=120, qga_maximum=maximum)
        self.surroundings = Surroundings(self.hypervisor, self.dialer, settings, HostIdentity("h", "u"), wall_clock)
        self.clock = GuestClock(asyncio.get_running_loop().time)
        self.clock.start()
        self.direct, self.agent = direct, agent or FakeQga()
        device = ChannelDevice(DIRECT if direct else QGA, "channel1", PATH, opened)
        busy = recorded is not None and recorded.reason == "socket-busy"
        line: Line = (
            DirectLine(device, PID, "'vm1'", self.dialer, was_anothers=busy)
            if direct
            else LibvirtLine(self.hypervisor, DOMAIN)
        )
        self.tools = ToolsEntry(None, self.surroundings, self.clock, lambda: None)
        self.facts = Facts(wall_clock, asyncio.get_running_loop().time)
        self.channel = QgaChannel(
            device, line, "'vm1'", self.surroundings, self.clock, recorded, self.tools, self.facts, lambda: None
        )
        if opened:
            self._serve(self.agent)

    def _serve(self, agent: FakeQga | None) -> None:
        self.socket.qga = self.domain.port.agent = agent
        if agent is None:
            self.domain.port.left.set()

    def open(self, agent: FakeQga | None = None) -> FakeQga:
        """An agent opens the guest's end, and whoever tells of it does."""
        self.agent = agent or self.agent
        self._serve(self.agent)
        self._report(True)
        return self.agent

    def close(self) -> None:
        """The agent's process ends."""
        self._serve(None)
        self.domain.port.poisoned = False
        self._report(False)

    def _report(self, opened: bool) -> None:
        if self.direct:
            self.channel.port_changed(opened)
        else:
            self.channel.agent_changed(opened)

    def stop_clock(self) -> None:
        self.domain.activity = Activity.PAUSED
        self.clock.stop()
        self.channel.clock_changed()

    def start_clock(self) -> None:
        self.domain.activity = Activity.RUNNING
        self.clock.start()
        self.channel.clock_changed()

    def verdict(self) -> tuple[str, str, str | None]:
        """State, version and reason of the live view."""
        view = self.channel.view
        return view.state, view.version, view.reason

    @asynccontextmanager
    async def running(self) -> AsyncIterator["LoneQga"]:
        """Runs it; on the way out neither task, nor connection, nor timer may be left."""
        before = asyncio.all_tasks()
        async with asyncio.TaskGroup() as group:
            self.channel.start(group)
            await settle()
            try:
                yield self
            finally:
                self.channel.close()
        assert asyncio.all_tasks() == before
        await settle()
        assert self.dialer.open_connections == 0
        calls = len(self.domain.port.calls)
        await settle(1000)
        assert len(self.domain.port.calls) == calls
