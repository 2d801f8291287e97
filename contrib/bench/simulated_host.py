"""A host of the fleet without libvirt and guests: the real membership and bus process, and fakes for the rest."""

import asyncio
from pathlib import Path
from uuid import NAMESPACE_DNS, uuid5

from sidecar.api.operations import Access
from sidecar.api.views import DoctorView, FleetView, HostView
from sidecar.config import BusSection, Configuration, UpgradeLevelsSection
from sidecar.daemon import describe_offer, read_settings
from sidecar.engine.bridge import Bridge, Caller
from sidecar.engine.fleet import Fleet
from sidecar.engine.host import Host
from sidecar.engine.operations import Operations
from sidecar.engine.ports import HostIdentity
from sidecar.engine.settings import Caps, Surroundings
from sidecar.membership import Membership
from tests.fakes.channels import FakeDialer
from tests.fakes.hypervisor import FakeHypervisor

_ASKER = Caller(uid=0, pid=0, access=Access.FULL)


class SimulatedHost:
    """See the module; ``run`` owns it."""

    def __init__(self, name: str, url: str, directory: Path) -> None:
        self._identity = HostIdentity(name, str(uuid5(NAMESPACE_DNS, name)))
        self._configuration = Configuration(
            bus=BusSection(url=url, directory=str(directory)),
            upgrade_levels=UpgradeLevelsSection("auto", "auto"),
        )
        settings = read_settings(self._configuration, Caps())
        self._surroundings = Surroundings(FakeHypervisor(lambda _notice: None), FakeDialer(), settings, self._identity)
        self._membership = Membership(self._configuration, self._surroundings, self._describe, self._announce)
        self._engine = Host(self._surroundings)
        self._bridge = Bridge(Operations(self._engine, self._surroundings, self._describe, self._examine, self.fleet))

    @property
    def fleet(self) -> Fleet:
        """What this host knows of it."""
        return self._membership.fleet

    @property
    def connected(self) -> bool:
        """Whether it is on the bus."""
        return self._surroundings.tally.bus_connected

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._engine.run())
            group.create_task(self._membership.run(self._bridge))
            await asyncio.sleep(0)  # they have begun then
            await self._engine.connected(self._identity)
            self._announce()

    async def ask_fleet(self, timeout_s: float) -> FleetView:
        """The operation ``fleet``, as the API's sockets would call it."""
        view: FleetView = await self._bridge.call("fleet", {"timeout": timeout_s}, _ASKER)
        return view

    def support(self, ovirt: int) -> None:
        """From now on this host supports no more than that."""
        levels = UpgradeLevelsSection(ovirt, "auto")
        self._configuration = Configuration(bus=self._configuration.bus, upgrade_levels=levels)
        self._membership.reconfigure(self._configuration)
        self._announce()

    def _announce(self) -> None:
        self._membership.announce(self._describe())

    def _describe(self) -> HostView:
        return describe_offer(self._configuration, self._identity, self.fleet.caps)

    async def _examine(self, _domain: str | None) -> DoctorView:
        return DoctorView(True, (), ())
