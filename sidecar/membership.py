"""This host's part in its fleet: the process that talks to the message bus, the engine's fleet, and the binding, wired.

Without ``[bus] url`` no process is started, nothing is imported for one, and no file is touched.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import msgspec
from msgspec import structs

from sidecar.adapters.bus_checks import report_bus
from sidecar.adapters.bus_link import Beginning, BusEars
from sidecar.adapters.bus_process import BusProcess
from sidecar.adapters.roster_file import RosterFile
from sidecar.api.views import HostView
from sidecar.bindings.bus import BusBinding
from sidecar.config import Configuration
from sidecar.engine.bridge import Bridge
from sidecar.engine.doctor import Examination
from sidecar.engine.fleet import Fleet
from sidecar.engine.settings import FleetLevels, Surroundings

logger = logging.getLogger(__name__)


class Membership:
    """See the module; for the loop's thread alone.

    Attributes:
        fleet: The engine's fleet.
    """

    def __init__(
        self,
        configuration: Configuration,
        surroundings: Surroundings,
        describe_host: Callable[[], HostView | None],
        apply: Callable[[], None],
    ) -> None:
        """``describe_host`` gives this host's offer; ``apply`` takes the fleet's caps when they have changed."""
        self._configuration, self._surroundings = configuration, surroundings
        self._bus = BusProcess(surroundings.events, surroundings.tally)
        # The bus may be configured later, at SIGHUP.
        store = RosterFile(Path(configuration.bus.directory))
        self.fleet = Fleet(surroundings, _read_levels(configuration), describe_host, apply, self._bus, store)
        self._version = ""
        self._announced: HostView | None = None
        self._follow()

    async def run(self, bridge: Bridge) -> None:
        """Serve the bridge over the bus, and keep up with the fleet, until cancelled."""
        self._version = str(bridge.version)
        binding = BusBinding(bridge, lambda: self._bus.pid)
        ears = BusEars(
            binding.call,
            self.fleet.receive_offer,
            self.fleet.receive_forgotten,
            lambda status: self.fleet.bus_changed(status.connected),
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(self.fleet.run())
            group.create_task(self._bus.run(ears))

    def announce(self, view: HostView) -> None:
        """This is what the host of this name offers now; every other host is told when that matters to it.

        What the fleet caps it to does not, and is for who asks: were it told, each cap that changes would have all
        hosts tell all others.
        """
        before, self._announced = self._announced, view
        if view != before:
            silently = before is not None and _without_maxima(view) == _without_maxima(before)
            self._bus.announce(asdict(view), silently=silently)
        self._follow()

    def reconfigure(self, configuration: Configuration) -> None:
        """The configuration was read again; the fleet's caps are to be taken after this, and the offer announced."""
        self._configuration = self._keep_directory(configuration)
        self._follow()
        self.fleet.reconfigure(_read_levels(configuration))

    def examine(self) -> Examination:
        """What the doctor says of the bus."""
        if self._configuration.bus.url is None:
            return Examination()
        return report_bus(self._surroundings.tally)

    def _keep_directory(self, configuration: Configuration) -> Configuration:
        """What was saved stays where the daemon has it: known hosts are read at its start."""
        kept, wanted = self._configuration.bus.directory, configuration.bus.directory
        if wanted == kept:
            return configuration
        logger.warning("bus.directory: %s needs a restart of sidecard; until then it is %s", wanted, kept)
        return structs.replace(configuration, bus=structs.replace(configuration.bus, directory=kept))

    def _follow(self) -> None:
        """Have the process that goes with the configuration and the host's name; before that is known none."""
        section = self._configuration.bus
        if section.url is None:
            self._bus.begin(None)
        elif self._announced is not None:
            hostname, level = self._announced.hostname, self._configuration.log.level
            self._bus.begin(Beginning(hostname, self._version, msgspec.to_builtins(section), level))


def _without_maxima(view: HostView) -> HostView:
    return replace(view, dialects={dialect: replace(offer, maximum=0) for dialect, offer in view.dialects.items()})


def _read_levels(configuration: Configuration) -> FleetLevels:
    return FleetLevels(configuration.ovirt_maximum, configuration.qga_maximum, configuration.auto_dialects)
