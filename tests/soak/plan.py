"""Journeys of guests among three hosts, made from a seed: the same seed makes the same journey, on any machine.

A journey of fewer steps is the beginning of one of more: what failed at step 137 is replayed with 137 steps.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from itertools import islice
from random import Random
from types import MappingProxyType

from tests.soak.world import OFFERS, Caps, GuestState, World

HOSTS = ("alpha", "beta", "gamma")

# Gamma's daemon lives through the whole journey: what it leaks, it leaks for long enough to be seen.
RESTARTED = ("alpha", "beta")

FIRST_CAPS: Mapping[str, Caps] = MappingProxyType(
    {"alpha": Caps(), "beta": Caps(2, "5.2"), "gamma": Caps(0, "7.2")},
)
OVIRT_CAPS = (4, 3, 2, 1, 0)
QGA_CAPS = ("10.0", "7.2", "5.2", "0")

RECENT_ERAS = ("1.0.16", "1.0.13", "1.0.12")
OLD_ERAS = tuple(era for era in OFFERS if era not in (*RECENT_ERAS, "own"))

# What stirs a record costs up to three of the six writes a minute that a channel has, and so does the arrival: with
# more of them it would be right to write the next one a minute later, or to say `flapping`.
STIRS_A_PROCESS = 1


class Kind(Enum):
    """What a step does, and how often that is chosen."""

    phrase: str
    weight: int

    def __init__(self, phrase: str, weight: int) -> None:
        self.phrase, self.weight = phrase, weight

    MIGRATE = "migrates", 60
    POSTCOPY = "migrates with post-copy", 8
    PEER_TO_PEER = "migrates, driven by the source's libvirtd (--p2p)", 8
    SUSPENDED = "migrates, is left paused there, and resumes", 5
    UNSEEN = "migrates while the destination's daemon is down", 5
    INTERRUPTED = "migrates, and the destination's daemon is killed on the way", 5
    FORSAKEN = "migrates while the source's daemon is down", 4
    CANCELLED = "begins to migrate, and is called off at once", 3
    CALLED_BACK = "begins to migrate, and is called off when the destination's daemon expects it", 3
    SAVE = "is saved and restored", 6
    PAUSE = "is paused and resumed", 5
    POWER = "is destroyed and started", 2
    RESET = "is reset", 5
    AGENT = "has its oVirt agent restarted", 6
    QGA = "has its QEMU guest agent restarted", 4
    NOTE = "has a note of the operator's changed", 5
    REMOVED = "has its record removed, and its agent restarted", 2
    FORGED = "has its record forged, and its agent restarted", 2
    DAEMON_STOPPED = "has its daemon restarted", 4
    DAEMON_KILLED = "has its daemon killed and started", 4
    LIBVIRTD_STOPPED = "has its libvirtd restarted", 2
    LIBVIRTD_KILLED = "has its libvirtd killed and started", 2
    CAP = "gets another cap", 6


MIGRATIONS = frozenset(
    {
        Kind.MIGRATE,
        Kind.POSTCOPY,
        Kind.PEER_TO_PEER,
        Kind.SUSPENDED,
        Kind.UNSEEN,
        Kind.INTERRUPTED,
        Kind.FORSAKEN,
    }
)
CANCELLATIONS = frozenset({Kind.CANCELLED, Kind.CALLED_BACK})
OF_HOSTS = frozenset(
    {
        Kind.DAEMON_STOPPED,
        Kind.DAEMON_KILLED,
        Kind.LIBVIRTD_STOPPED,
        Kind.LIBVIRTD_KILLED,
        Kind.CAP,
    }
)
STIRRING = frozenset({Kind.RESET, Kind.AGENT, Kind.QGA, Kind.REMOVED, Kind.FORGED})


@dataclass(frozen=True, slots=True)
class Step:
    """One step: of a guest, towards a host if it moves, or of a host alone."""

    kind: Kind
    guest: str = ""
    host: str = ""
    caps: Caps | None = None

    def __str__(self) -> str:
        towards = f" -> {self.host}" if self.guest and self.host else ""
        caps = f" {self.caps}" if self.caps else ""
        return f"{self.kind.name} {self.guest or self.host}{towards}{caps}"


def first_world(seed: int, qga: str = "7.2.0") -> World:
    """Where the journey of this seed begins: three guests on alpha, each with another agent."""
    choice = Random(f"guests {seed}").choice
    eras = {"own": "own", "recent": choice(RECENT_ERAS), "old": choice(OLD_ERAS)}
    return World(FIRST_CAPS, {name: GuestState(era, qga, "alpha") for name, era in eras.items()})


def make_journey(seed: int, *, steps: int | None = None, migrations: int | None = None) -> tuple[Step, ...]:
    """So many steps, or as many as it takes for so many migrations."""
    endless = _walk(Random(f"steps {seed}"), first_world(seed))
    if migrations is None:
        return tuple(islice(endless, steps))
    taken: list[Step] = []
    while sum(step.kind in MIGRATIONS for step in taken) < migrations:
        taken.append(next(endless))
    return tuple(taken)


def follow(world: World, step: Step) -> World:
    """What a step makes of the world."""
    if step.caps is not None:
        return world.with_caps(step.host, step.caps)
    if not step.guest:
        return world
    return world.with_guest(step.guest, _follow_guest(world.guests[step.guest], step))


def _follow_guest(state: GuestState, step: Step) -> GuestState:
    match step.kind:
        case Kind.UNSEEN:  # when the daemon first saw it, it was running
            return state.arrive(step.host, "attach")
        case Kind.INTERRUPTED:  # whether the daemon came back before the guest had arrived is a matter of luck
            return state.arrive(step.host, "migration", "attach")
        case kind if kind in MIGRATIONS:
            return state.arrive(step.host, "migration")
        case Kind.SAVE:
            return state.arrive(state.host, "restore")
        case Kind.POWER:
            return state.arrive(state.host, "start", boots=1)
        case Kind.RESET:
            return state.stir(boots=1)
        case Kind.NOTE:
            return replace(state, note=state.note + 1)
        case kind if kind in STIRRING:
            return state.stir()
        case _:
            return state


def _walk(random: Random, world: World) -> Iterator[Step]:
    kinds, weights = list(Kind), [kind.weight for kind in Kind]
    while True:
        step = _choose(random, random.choices(kinds, weights)[0], world)
        if _is_possible(world, step):
            yield step
            world = follow(world, step)


def _choose(random: Random, kind: Kind, world: World) -> Step:
    if kind is Kind.CAP:
        return Step(kind, host=random.choice(HOSTS), caps=Caps(random.choice(OVIRT_CAPS), random.choice(QGA_CAPS)))
    if kind in OF_HOSTS:
        daemon = kind in (Kind.DAEMON_STOPPED, Kind.DAEMON_KILLED)
        return Step(kind, host=random.choice(RESTARTED if daemon else HOSTS))
    guest = random.choice(list(world.guests))
    if kind in MIGRATIONS | CANCELLATIONS:
        return Step(kind, guest, random.choice([host for host in HOSTS if host != world.guests[guest].host]))
    return Step(kind, guest)


def _is_possible(world: World, step: Step) -> bool:
    """Whether this step changes anything, spares gamma's daemon, and leaves the records their writes."""
    match step.kind:
        case Kind.UNSEEN | Kind.INTERRUPTED:
            return step.host in RESTARTED
        case Kind.FORSAKEN:
            return world.guests[step.guest].host in RESTARTED
        case Kind.CAP:
            return step.caps != world.caps[step.host] and all(map(_may_stir, _states_at(world, step.host)))
        case kind if kind in STIRRING:
            return _may_stir(world.guests[step.guest])
        case _:
            return True


def _states_at(world: World, host: str) -> list[GuestState]:
    return [world.guests[name] for name in sorted(world.at(host))]


def _may_stir(state: GuestState) -> bool:
    return state.stirs < STIRS_A_PROCESS
