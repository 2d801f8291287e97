"""The roster: which other hosts the fleet has, and until when each of them counts.

A host counts until an operator has it forgotten, or until nothing was heard of it for a week during which we were
connected ourselves: who is cut off sees nobody, which says nothing about the others.

Source: docs/bus.md, "The fleet".
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from sidecar.protocol.host_offer import HostOffer, VersionT
from sidecar.protocol.releases import Release

# A host says something every six hours at least.
UNSEEN_LIMIT_S = 7 * 24 * 3600.0

# The largest fleets have some thousands of hosts; one entry takes about 2 KiB here and 0.5 KiB in the file.
HOSTS_LIMIT = 16_384

_INFINITY = float("inf")


class Sight(Enum):
    """What it means that a host was seen."""

    JOINED = "it was not known"
    CHANGED = "it offers something else now, or is another machine"
    SEEN = "nothing new"
    REFUSED = "it is not known, and there are too many already"


@dataclass(frozen=True, slots=True)
class KnownHost:
    """A host as it was seen last: at ``last_seen`` (RFC 3339), ``seen_s`` in connected seconds."""

    offer: HostOffer
    last_seen: str
    seen_s: float


class ConnectedTime:
    """Seconds of ``now`` during which there was a connection; it begins without one."""

    __slots__ = ("_since", "_total_s")

    def __init__(self, total_s: float = 0.0) -> None:
        """``total_s``: how many there were before."""
        self._total_s = total_s
        self._since: float | None = None

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return self._since is not None

    def connect(self, now: float) -> None:
        """There is one (still)."""
        if self._since is None:
            self._since = now

    def disconnect(self, now: float) -> None:
        """There is none (any more)."""
        self._total_s, self._since = self.at(now), None

    def at(self, now: float) -> float:
        """How many there were until now."""
        return self._total_s + (0.0 if self._since is None else max(0.0, now - self._since))

    def when(self, total_s: float) -> float:
        """When there will have been so many, if the connection holds; never without one."""
        return _INFINITY if self._since is None else self._since + total_s - self._total_s


class Roster:
    """The other hosts, by hostname; every time in it is in connected seconds."""

    __slots__ = ("_hosts", "_ovirt", "_qga")

    def __init__(self) -> None:
        self._hosts: dict[str, KnownHost] = {}  # whoever was seen last stands last
        # How many hosts support which version: their lowest is wanted at every word of any of thousands.
        self._ovirt: Counter[int] = Counter()
        self._qga: Counter[Release] = Counter()

    def see(self, host: KnownHost) -> Sight:
        """It said what it offers; ``seen_s`` must not be less than the last one's."""
        name = host.offer.hostname
        before = self._hosts.get(name)
        if before is None and len(self._hosts) >= HOSTS_LIMIT:
            return Sight.REFUSED
        if before is not None:
            self._remove(name)
        self._hosts[name] = host
        self._ovirt[host.offer.ovirt.supported] += 1
        self._qga[host.offer.qga.supported] += 1
        if before is None:
            return Sight.JOINED
        return Sight.SEEN if before.offer.standing == host.offer.standing else Sight.CHANGED

    def forget(self, hostname: str) -> bool:
        """Count it no more; says whether it did."""
        if hostname not in self._hosts:
            return False
        self._remove(hostname)
        return True

    def expire(self, connected_s: float) -> tuple[str, ...]:
        """Count those no more that were not seen for too long; their names."""
        expired = []
        for name, host in self._hosts.items():
            if connected_s < host.seen_s + UNSEEN_LIMIT_S:
                break
            expired.append(name)
        for name in expired:
            self._remove(name)
        return tuple(expired)

    @property
    def next_expiry_s(self) -> float:
        """When the next one will have been unseen for too long; infinity when there is none."""
        return next((host.seen_s + UNSEEN_LIMIT_S for host in self._hosts.values()), _INFINITY)

    @property
    def hosts(self) -> Mapping[str, KnownHost]:
        """Every host by its name."""
        return MappingProxyType(self._hosts)

    @property
    def lowest_ovirt(self) -> int | None:
        """The lowest version of oVirt's API that one of them supports; ``None`` when there is no host."""
        return min(self._ovirt, default=None)

    @property
    def lowest_qga(self) -> Release | None:
        """Likewise, the oldest release."""
        return min(self._qga, default=None)

    def _remove(self, hostname: str) -> None:
        offer = self._hosts.pop(hostname).offer
        _uncount(self._ovirt, offer.ovirt.supported)
        _uncount(self._qga, offer.qga.supported)


def _uncount(counter: Counter[VersionT], version: VersionT) -> None:
    counter[version] -= 1
    if not counter[version]:
        del counter[version]
