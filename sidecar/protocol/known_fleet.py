"""What this host knows of its fleet, what that caps it to, and what of it outlives a restart.

Pure: seconds are passed in, of a clock that never goes back; ``deadline`` says when ``tick`` is due.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

import msgspec

from sidecar.protocol.auto_cap import AutoCap
from sidecar.protocol.guest_text import clean_line
from sidecar.protocol.host_offer import HostOffer
from sidecar.protocol.releases import Release
from sidecar.protocol.roster import HOSTS_LIMIT, ConnectedTime, KnownHost, Roster, Sight
from sidecar.protocol.states import Dialect
from sidecar.protocol.versions import is_offer

# Of the document; another one is of a sidecar that keeps other things.
_FORMAT = 1

# An expiry may come late: what is a rounding error early would be due again at once.
_EXPIRY_DELAY_S = 1.0

_INFINITY = float("inf")

# Some thirty thousand years.
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e12)]


class _HostDocument(msgspec.Struct, frozen=True):
    offer: Any
    last_seen: Annotated[str, msgspec.Meta(pattern=r"^[0-9TZ:.+-]{1,40}\Z")]
    seen_s: _Seconds


class _CapsDocument(msgspec.Struct, frozen=True):
    ovirt: int | None
    qga: str | None


class _FleetDocument(msgspec.Struct, frozen=True):
    format: int
    connected_s: _Seconds
    caps: _CapsDocument
    hosts: Annotated[tuple[_HostDocument, ...], msgspec.Meta(max_length=HOSTS_LIMIT)]


@dataclass(frozen=True, slots=True)
class FleetMemory:
    """What outlives a restart: the connected seconds, what the others leave in force (``None``: all), the hosts."""

    connected_s: float = 0.0
    ovirt: int | None = None
    qga: Release | None = None
    hosts: tuple[KnownHost, ...] = ()

    @classmethod
    def parse(cls, document: object) -> Self:
        """From what ``render`` made.

        Raises:
            ValueError: It is something else; the text says what is wrong in one printable line.
        """
        try:
            read = msgspec.convert(document, _FleetDocument)
            if read.format != _FORMAT:
                raise ValueError(f"format {read.format}: expected {_FORMAT}")
            if read.caps.ovirt is not None and not is_offer(read.caps.ovirt):
                raise ValueError("a cap is no version")
            qga = None if read.caps.qga is None else Release.parse(read.caps.qga)
            hosts = [
                KnownHost(HostOffer.parse(host.offer), host.last_seen, min(host.seen_s, read.connected_s))
                for host in read.hosts
            ]
            return cls(read.connected_s, read.caps.ovirt, qga, tuple(sorted(hosts, key=lambda host: host.seen_s)))
        except ValueError as error:  # msgspec's own, too
            raise ValueError(clean_line(f"no roster of ours: {error}")) from error

    def render(self) -> Mapping[str, Any]:
        """As JSON values; with thousands of hosts it takes some tens of milliseconds."""
        return {
            "format": _FORMAT,
            "connected_s": self.connected_s,
            "caps": {"ovirt": self.ovirt, "qga": None if self.qga is None else str(self.qga)},
            "hosts": [
                {"offer": host.offer.document, "last_seen": host.last_seen, "seen_s": host.seen_s}
                for host in self.hosts
            ],
        }


class KnownFleet:
    """See the module; ``ovirt`` and ``qga`` are this host's own maxima, without a cap of the fleet's."""

    def __init__(self, ovirt: int, qga: Release, memory: FleetMemory) -> None:
        self._ovirt, self._qga = ovirt, qga
        self._roster = Roster()
        for host in memory.hosts:
            self._roster.see(host)
        self._time = ConnectedTime(memory.connected_s)
        # Where nobody is left who could be asked, nobody is waited for either.
        self._ovirt_cap = AutoCap[int](memory.ovirt if memory.hosts else None)
        self._qga_cap = AutoCap[Release](memory.qga if memory.hosts else None)
        self._follow(0.0)

    # What happens.

    def see(self, offer: HostOffer, last_seen: str, now: float) -> Sight:
        """Another host said what it offers; ``last_seen`` is now, for those who read it."""
        sight = self._roster.see(KnownHost(offer, last_seen, self._time.at(now)))
        self._follow(now)
        return sight

    def forget(self, hostname: str, now: float) -> bool:
        """Count a host no more; says whether it did count."""
        forgotten = self._roster.forget(hostname)
        self._follow(now)
        return forgotten

    def connect(self, now: float) -> None:
        """The bus works: from now on silence says something."""
        self._time.connect(now)
        self._follow(now)

    def disconnect(self, now: float) -> None:
        """The bus does not work: what is seen is a part of the fleet, and nobody grows older."""
        self._time.disconnect(now)
        self._follow(now)

    def set_maxima(self, ovirt: int, qga: Release, now: float) -> None:
        """This host supports something else."""
        self._ovirt, self._qga = ovirt, qga
        self._follow(now)

    def tick(self, now: float) -> tuple[str, ...]:
        """Let time pass; returns the names of those that were not seen for too long, and count no more."""
        expired = self._roster.expire(self._time.at(now)) if self._time.connected else ()
        self._follow(now)
        return expired

    # What comes of it.

    @property
    def deadline(self) -> float:
        """When ``tick`` is due; infinity when it is not."""
        expiry = self._time.when(self._roster.next_expiry_s + _EXPIRY_DELAY_S)
        return min(expiry, self._ovirt_cap.raise_at, self._qga_cap.raise_at)

    @property
    def connected(self) -> bool:
        """Whether the bus works."""
        return self._time.connected

    @property
    def hosts(self) -> Mapping[str, KnownHost]:
        """Every other host by its name."""
        return self._roster.hosts

    @property
    def ovirt(self) -> int:
        """The highest version of oVirt's API that the fleet lets this host offer now."""
        cap = self._ovirt_cap.cap
        return self._ovirt if cap is None else min(self._ovirt, cap)

    @property
    def qga(self) -> Release:
        """Likewise, the newest release."""
        cap = self._qga_cap.cap
        return self._qga if cap is None else min(self._qga, cap)

    @property
    def lowest_ovirt(self) -> int:
        """The highest version of oVirt's API that all hosts support, this one included."""
        others = self._roster.lowest_ovirt
        return self._ovirt if others is None else min(self._ovirt, others)

    @property
    def lowest_qga(self) -> Release:
        """Likewise, the newest release."""
        others = self._roster.lowest_qga
        return self._qga if others is None else min(self._qga, others)

    def find_raise(self, dialect: Dialect) -> float:
        """When this host will offer more if nothing changes until then; infinity when it will not."""
        if dialect is Dialect.OVIRT:
            return self._ovirt_cap.raise_at if self.lowest_ovirt > self.ovirt else _INFINITY
        return self._qga_cap.raise_at if self.lowest_qga > self.qga else _INFINITY

    def find_holder(self, dialect: Dialect) -> str | None:
        """The name of a host that supports no more than what all do; ``None``: this host itself supports no more."""
        offers = [host.offer for host in self._roster.hosts.values()]
        if dialect is Dialect.OVIRT:
            names = [offer.hostname for offer in offers if self._ovirt > self.lowest_ovirt == offer.ovirt.supported]
        else:
            names = [offer.hostname for offer in offers if self._qga > self.lowest_qga == offer.qga.supported]
        return min(names, default=None)

    def snapshot(self, now: float) -> FleetMemory:
        """What is to outlive a restart, as it is now."""
        hosts = tuple(self._roster.hosts.values())
        return FleetMemory(self._time.at(now), self._ovirt_cap.cap, self._qga_cap.cap, hosts)

    def _follow(self, now: float) -> None:
        self._ovirt_cap.follow(self._roster.lowest_ovirt, now, connected=self._time.connected)
        self._qga_cap.follow(self._roster.lowest_qga, now, connected=self._time.connected)
