"""The contract once more, in small: where guests are, what hosts allow, and what a record must therefore say.

Nothing of sidecar is imported here: this is the second opinion that the soak compares it with. A world is a value;
each step of a journey (`plan`) makes another one of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Self

OVIRT = "ovirt-guest-agent.0"
QGA = "org.qemu.guest_agent.0"

NEWEST_OVIRT = 4
NEWEST_QGA = "10.0"
NO_QGA = "0"

OFFERS: Mapping[str, int | None] = MappingProxyType(
    {
        "own": 4,
        "1.0.16": 3,
        "1.0.13": 3,
        "1.0.12": 3,
        "1.0.11": 2,
        "1.0.10": 1,
        "1.0.9.1": 1,
        "1.0.8": None,
    }
)
"""What an agent of the oVirt dialect offers, by its era (`own`: this project's); None: it tells no version."""


@dataclass(frozen=True, slots=True)
class Caps:
    """What a host allows at most, in each dialect; 0 is nothing."""

    ovirt: int = NEWEST_OVIRT
    qga: str = NEWEST_QGA

    def __str__(self) -> str:
        return f"{self.ovirt}/{self.qga}"

    def render(self) -> str:
        """The daemon's configuration."""
        ovirt = {NEWEST_OVIRT: '"max"', 1: '"ovirt-3.5"'}.get(self.ovirt, str(self.ovirt))
        qga = {NEWEST_QGA: '"max"', NO_QGA: "0"}.get(self.qga, f'"{self.qga}"')
        return f"[upgrade_levels]\novirt = {ovirt}\nqga = {qga}\n"


@dataclass(frozen=True, slots=True)
class GuestState:
    """One guest: what it runs, and what it has lived through.

    Attributes:
        era: of its oVirt agent, see `OFFERS`.
        qga: what its QEMU guest agent calls itself.
        host: where it is.
        ways: how it came there; more than one where two ends of a race are right.
        arrivals: how often it came anywhere.
        process: grows with each QEMU process that it has.
        boots: grows with each boot of its kernel.
        stirs: grows whenever something happens that may change its record in this process.
        note: which edition of the operator's note its metadata holds.
    """

    era: str
    qga: str
    host: str
    ways: frozenset[str] = frozenset({"start"})
    arrivals: int = 1
    process: int = 1
    boots: int = 1
    stirs: int = 0
    note: int = 0

    def arrive(self, host: str, *ways: str, boots: int = 0) -> Self:
        """It came to a host, this one perhaps, in a new QEMU process."""
        return replace(
            self,
            host=host,
            ways=frozenset(ways),
            arrivals=self.arrivals + 1,
            process=self.process + 1,
            boots=self.boots + boots,
            stirs=0,
        )

    def begin_anew(self) -> Self:
        """It was defined and started as at first, where it is."""
        fresh = replace(self, ways=frozenset({"start"}), arrivals=1, stirs=0, note=0)
        return replace(fresh, process=self.process + 1, boots=self.boots + 1)

    def stir(self, boots: int = 0) -> Self:
        """Something happened that its record may tell, and no arrival."""
        return replace(self, stirs=self.stirs + 1, boots=self.boots + boots)


@dataclass(frozen=True, slots=True)
class World:
    """All hosts and guests, by name."""

    caps: Mapping[str, Caps]
    guests: Mapping[str, GuestState]

    def with_guest(self, name: str, state: GuestState) -> Self:
        """Another state of one guest."""
        return replace(self, guests={**self.guests, name: state})

    def with_caps(self, host: str, caps: Caps) -> Self:
        """Another cap on one host; whoever is there hears of it."""
        stirred = {name: state.stir() for name, state in self.guests.items() if state.host == host}
        return replace(self, caps={**self.caps, host: caps}, guests={**self.guests, **stirred})

    def at(self, host: str) -> set[str]:
        """The guests that are on a host."""
        return {name for name, state in self.guests.items() if state.host == host}


@dataclass(frozen=True, slots=True)
class Row:
    """What a channel's row must say, `since` apart."""

    state: str
    version: str
    reason: str | None
    guest: str | None
    host: str


@dataclass(frozen=True, slots=True)
class Expected:
    """What must be seen of one guest: its state, its rows by channel, and the version that its agent believes in."""

    state: GuestState
    rows: Mapping[str, Row]
    believed: int


def expect(world: World, name: str) -> Expected:
    """What must be seen of this guest once everything has settled."""
    state = world.guests[name]
    caps = world.caps[state.host]
    ovirt = expect_ovirt(OFFERS[state.era], caps.ovirt)
    return Expected(state, {OVIRT: ovirt, QGA: expect_qga(state.qga, caps.qga)}, int(ovirt.version))


def expect_ovirt(offer: int | None, cap: int) -> Row:
    """A capped host agrees to nothing, an agent without a version offers nothing; else the lower of the two."""
    guest = None if offer is None else str(offer)
    if cap == 0:
        return Row("unversioned", "0", "host-capped", guest, "0")
    if offer is None:
        return Row("unversioned", "0", "no-version", None, str(cap))
    return Row("agreed", str(min(offer, cap)), None, guest, str(cap))


def expect_qga(offer: str, cap: str) -> Row:
    """Likewise; QEMU's releases are compared number by number, and the guest's third one does not count."""
    if cap == NO_QGA:
        return Row("unversioned", "0", "host-capped", offer, "0")
    release = ".".join(offer.split(".")[:2])
    return Row("agreed", min(release, cap, key=_numbers), None, offer, cap)


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(map(int, release.split(".")))
