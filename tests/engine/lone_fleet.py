"""The fleet as one host knows it, without guests: a bus, a file, and what is told of it, in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from sidecar.api.views import HostView
from sidecar.engine.fleet import Fleet
from sidecar.engine.settings import Caps, FleetLevels, Settings, Surroundings
from sidecar.protocol.states import Dialect
from tests.engine.lone_bridge import OFFER
from tests.engine.lone_host import BETA, settle, wall_clock
from tests.fakes.channels import FakeDialer
from tests.fakes.fleet_bus import FakeFleetBus, FakeStore
from tests.fakes.hypervisor import FakeHypervisor
from tests.protocol.offers import describe_offer

AUTO = FleetLevels(auto=frozenset(Dialect))


class LoneFleet:
    """`applied`: the caps at each call of `apply`; `own` is this host's offer, None until libvirt has told."""

    def __init__(self, levels: FleetLevels = AUTO, store: FakeStore | None = None) -> None:
        settings = Settings(ovirt_maximum=4, responsive_s=120, absent_s=120)
        hypervisor = FakeHypervisor(lambda _: None)
        self.surroundings = Surroundings(hypervisor, FakeDialer(), settings, BETA, wall_clock)
        self.bus, self.store = FakeFleetBus(), store or FakeStore()
        self.own: HostView | None = OFFER
        self.applied: list[Caps] = []
        self._follower = self.surroundings.events.follow()
        self.fleet = Fleet(self.surroundings, levels, lambda: self.own, self._apply, self.bus, self.store)

    def _apply(self) -> None:
        self.applied.append(self.fleet.caps)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["LoneFleet"]:
        """Runs it; on the way out it must leave no task."""
        before = asyncio.all_tasks()
        task = asyncio.create_task(self.fleet.run())
        await settle()
        try:
            yield self
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.wait([task])
        assert task.cancelled()
        assert asyncio.all_tasks() == before

    def see(self, hostname: str = "gamma", ovirt: object = 4, qga: object = "10.0", **more: Any) -> None:
        self.fleet.receive_offer(describe_offer(hostname, ovirt, qga, **more))

    def rename(self, hostname: str) -> None:
        self.own = replace(OFFER, hostname=hostname)

    def events(self) -> list[Mapping[str, Any]]:
        """What was told since the last time."""
        told = []
        while (event := self._follower.take()) is not None:
            assert (event.type, event.domain) == ("daemon", None)
            told.append(event.details)
        return told
