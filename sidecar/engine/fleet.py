"""The fleet as this host knows it, and what that caps its guests to.

The rules are pure (``protocol.known_fleet``); here is what brings them to life: what comes over the bus, deadlines, the
file that outlives a restart, events. What is asked of the other hosts is in ``engine.fleet_asking``.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Protocol

from sidecar.api.events import EventType
from sidecar.api.views import HostView
from sidecar.engine.bell import Bell
from sidecar.engine.clocks import render_time
from sidecar.engine.ports import FleetBus
from sidecar.engine.settings import Caps, FleetLevels, Surroundings
from sidecar.protocol.guest_text import clean_line
from sidecar.protocol.host_offer import HostOffer
from sidecar.protocol.known_fleet import FleetMemory, KnownFleet
from sidecar.protocol.roster import HOSTS_LIMIT, Sight
from sidecar.protocol.states import Dialect

logger = logging.getLogger(__name__)

# Whoever starts hears of all others within seconds: one file for all of them, or few.
SAVE_DELAY_S = 2.0

# When hosts were seen last is written down this often without any change: it decides about days.
SAVE_INTERVAL_S = 3600.0

# How long the last writing may take when we stop.
STOP_S = 2.0

_INFINITY = float("inf")
# Every host sees every other join and change: in the log, and no event, which would be told on the bus by each of them.
_LEVELS = {Sight.JOINED: logging.DEBUG, Sight.CHANGED: logging.INFO}


class RosterStore(Protocol):
    """Keeps one JSON document over restarts."""

    def load(self) -> object:
        """What was saved last; ``None`` when nothing was. Raises ``OSError`` or ``ValueError``: it cannot be read."""

    async def save(self, render: Callable[[], Mapping[str, Any]]) -> None:
        """Keep this instead, which is rendered in another thread.

        Raises:
            OSError: It could not be written, and what was there still is.
        """


class Fleet:
    """See the module; for the loop's thread.

    Attributes:
        bus: The other hosts, where there is to be a bus.
        levels: What the configuration says of caps.
    """

    def __init__(
        self,
        surroundings: Surroundings,
        levels: FleetLevels,
        describe_host: Callable[[], HostView | None],
        apply: Callable[[], None],
        bus: FleetBus,
        store: RosterStore,
    ) -> None:
        """Read what was saved; ``caps`` holds from now on.

        Args:
            surroundings: For clock and events.
            levels: The configuration's.
            describe_host: This host's offer; ``None`` while libvirt has not said which host it is.
            apply: Called when the fleet has changed ``caps``: have the guests negotiate by them, and tell the others.
            bus: The other hosts; the bus may be configured later.
            store: What outlives a restart; nothing is saved without a bus.
        """
        self._surroundings, self.levels = surroundings, levels
        self._describe_host, self._apply = describe_host, apply
        self.bus, self._store = bus, store
        self._now = asyncio.get_running_loop().time
        self._bell = Bell()
        self._save_at = _INFINITY
        self._namesakes: set[str] = set()
        self._known = KnownFleet(levels.ovirt, levels.qga, self._load())
        self._told = self._maxima

    # What others see of it.

    @property
    def caps(self) -> Caps:
        """What the fleet caps this host to now."""
        auto, unbound = self.levels.auto, Caps()
        return Caps(
            ovirt=self._known.ovirt if Dialect.OVIRT in auto else unbound.ovirt,
            qga=self._known.qga if Dialect.QGA in auto else unbound.qga,
        )

    @property
    def known(self) -> KnownFleet:
        """The other hosts, and the rules."""
        return self._known

    # What happens.

    async def run(self) -> None:
        """Keep deadlines and the file until cancelled."""
        self.bus_changed(self.bus.connected)
        try:
            while True:
                self._tick()
                if self._now() >= self._save_at:
                    await self._save()
                    continue
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(min(self._known.deadline, self._save_at)):
                        await self._bell.wait()
        finally:
            if self._save_at < _INFINITY:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(STOP_S):
                        await self._save()

    def receive_offer(self, document: object) -> None:
        """Somebody on the bus says what a host offers; it may be anything."""
        try:
            offer = HostOffer.parse(document)
        except ValueError as error:
            logger.warning("fleet: a host is not understood: %s", error)
            return
        self.see(offer)

    def receive_forgotten(self, hostname: object) -> None:
        """An operator somewhere had a host forgotten."""
        if not isinstance(hostname, str):
            logger.warning("fleet: a host to forget is not understood")
            return
        own = self._describe_host()
        if own is not None and hostname == own.hostname:
            # The others would let their guests agree to what this host cannot keep.
            logger.warning("fleet: this host was to be forgotten, and is here: it is announced again")
            self.bus.announce(asdict(own))
        elif self._known.forget(hostname, self._now()):
            self._note("host-forgotten", hostname)
            self._follow()

    def bus_changed(self, connected: bool) -> None:
        """The bus works now, or does not."""
        if connected == self._known.connected:
            return
        if connected:
            self._known.connect(self._now())
        else:
            self._known.disconnect(self._now())
        self._follow()

    def reconfigure(self, levels: FleetLevels) -> None:
        """The configuration was read again; whoever read it takes the new ``caps`` himself."""
        concerned = self.levels.auto | levels.auto
        self.levels = levels
        self._known.set_maxima(levels.ovirt, levels.qga, self._now())
        self._tell_caps(concerned)
        self._want_save(SAVE_DELAY_S)
        self._bell.ring()

    def see(self, offer: HostOffer) -> None:
        """A host said what it offers; our own word comes back to us as well."""
        own = self._describe_host()
        if own is not None and offer.hostname == own.hostname:
            self._judge_namesake(offer, own)
            return
        sight = self._known.see(offer, render_time(self._surroundings.wall_clock()), self._now())
        if sight is Sight.REFUSED:
            logger.error("fleet: %s is one host too many: %d are known", offer.hostname, HOSTS_LIMIT)
            return
        if sight in _LEVELS:
            logger.log(_LEVELS[sight], "fleet: host %s: %s", sight.name.lower(), offer.hostname)
        self._follow(changed=sight is not Sight.SEEN)

    # What comes of it.

    def _judge_namesake(self, offer: HostOffer, own: HostView) -> None:
        """A word under our own name: our own, or another machine's that has it, too."""
        if offer.host_uuid == own.host_uuid.lower() or offer.host_uuid in self._namesakes:
            return
        if len(self._namesakes) < HOSTS_LIMIT:
            self._namesakes.add(offer.host_uuid)
            words = "fleet: another machine has this host's name, %s: its host UUID is %s, ours %s"
            logger.error(words, offer.hostname, offer.host_uuid, own.host_uuid)

    def _tick(self) -> None:
        own = self._describe_host()
        if own is not None and self._known.forget(own.hostname, self._now()):
            # The name is this host's now: what was known under it was another's.
            self._note("host-forgotten", own.hostname)
        for hostname in self._known.tick(self._now()):
            self._note("host-expired", hostname)
        self._follow(changed=False)

    def _note(self, what: str, hostname: str) -> None:
        logger.info("fleet: %s: %s", what, hostname)
        self._want_save(SAVE_DELAY_S)
        self._surroundings.events.publish(EventType.DAEMON, what=what, host=hostname)

    def _follow(self, *, changed: bool = True) -> None:
        """Tell what has become of the caps, and have ``run`` look at its deadlines."""
        self._want_save(SAVE_DELAY_S if changed else SAVE_INTERVAL_S)
        if self._tell_caps(self.levels.auto):
            self._want_save(SAVE_DELAY_S)
            self._apply()
        self._bell.ring()

    @property
    def _maxima(self) -> Caps:
        """What this host offers, by its configuration and the fleet's word."""
        return Caps(min(self.levels.ovirt, self.caps.ovirt), min(self.levels.qga, self.caps.qga))

    def _tell_caps(self, concerned: frozenset[Dialect]) -> bool:
        """Tell what is offered otherwise now, in dialects where the fleet has or had a word; whether that is any."""
        before, after = self._told, self._maxima
        self._told = after
        if before.ovirt != after.ovirt and Dialect.OVIRT in concerned:
            self._note_cap(Dialect.OVIRT, before.ovirt, after.ovirt)
        if before.qga != after.qga and Dialect.QGA in concerned:
            self._note_cap(Dialect.QGA, str(before.qga), str(after.qga))
        return before != after

    def _note_cap(self, dialect: Dialect, old: int | str, new: int | str) -> None:
        holder = self._known.find_holder(dialect) if dialect in self.levels.auto else None
        held = "" if holder is None else f", which {holder} supports at most"
        logger.info("fleet: %s is capped to %s now%s; it was %s", dialect, new, held, old)
        known: dict[str, Any] = {"dialect": str(dialect), "old": old, "new": new, "held_by": holder}
        self._surroundings.events.publish(EventType.DAEMON, what="cap-changed", **known)

    # The file.

    def _load(self) -> FleetMemory:
        try:
            document = self._store.load()
            return FleetMemory() if document is None else FleetMemory.parse(document)
        except (OSError, ValueError) as error:
            logger.warning("fleet: the known hosts cannot be read, and are asked anew: %s", clean_line(str(error)))
            return FleetMemory()

    def _want_save(self, delay_s: float) -> None:
        self._save_at = min(self._save_at, self._now() + delay_s) if self.bus.configured else _INFINITY

    async def _save(self) -> None:
        self._save_at = self._now() + SAVE_INTERVAL_S
        try:
            await self._store.save(self._known.snapshot(self._now()).render)
        except OSError as error:
            logger.warning("fleet: the known hosts cannot be written: %s", error)
