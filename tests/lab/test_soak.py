"""The soak: guests on a long walk among three hosts of different maxima, while everything around them restarts.

The short walk is the same each time, for CI; the long one is another each time. Both are made from a seed, which a
failure names together with the command that does it again. See docs/soak.md.
"""

import os
import secrets
from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.lab.conftest import GuestFactory
from tests.lab.domain_xml import AgentSpec, GuestSpec
from tests.lab.guest import Guest
from tests.lab.host import Host
from tests.lab.image import CACHE
from tests.lab.soak_deeds import wait_booted
from tests.lab.soak_sight import STRANGER, render_first_note
from tests.lab.soak_walk import Walk
from tests.soak.plan import FIRST_CAPS, Step, first_world, make_journey

# Chosen so that the few steps of the short walk are of many kinds: see tests/soak/test_plan.py.
SHORT_SEED = 46405
SHORT_STEPS = 15
LONG_MIGRATIONS = 200

WalkAlong = Callable[[int, Sequence[Step]], str]


@pytest.fixture
def walk_along(
    alpha: Host, beta: Host, gamma: Host, clean_hosts: None, define_guest: GuestFactory
) -> Iterator[WalkAlong]:
    """Walk these steps of this seed's journey; what was measured."""
    hosts = (alpha, beta, gamma)
    for host in hosts:
        host.install_hook()
        host.start_sidecard(FIRST_CAPS[host.name].render())

    def walk(seed: int, steps: Sequence[Step]) -> str:
        journal = CACHE / "soak" / f"seed-{seed}.txt"
        journal.parent.mkdir(exist_ok=True)
        print(f"seed {seed}, {len(steps)} steps, journal {journal}")
        with Walk(seed, hosts, boot_guests(define_guest, seed), journal) as walk:
            for step in steps:
                walk.take(step)
        return walk.report()

    yield walk
    for host in hosts:
        assert host.stop_sidecard() == 0
        assert "Traceback" not in host.log_text()


def boot_guests(define_guest: GuestFactory, seed: int) -> dict[str, Guest]:
    """The seed's guests, all at once."""
    guests = {}
    for name, state in first_world(seed).guests.items():
        agent = AgentSpec(era=state.era)
        guests[name] = define_guest(GuestSpec(name=name, agent=agent, metadata=STRANGER + render_first_note()))
        guests[name].start()
    for guest in guests.values():
        wait_booted(guest)
    return guests


def test_a_short_walk(walk_along: WalkAlong) -> None:
    seed = int(os.environ.get("SIDECAR_SOAK_SEED", SHORT_SEED))
    steps = int(os.environ.get("SIDECAR_SOAK_STEPS", SHORT_STEPS))
    print(walk_along(seed, make_journey(seed, steps=steps)))


@pytest.mark.long
def test_two_hundred_migrations(walk_along: WalkAlong) -> None:
    seed = int(os.environ.get("SIDECAR_SOAK_SEED", secrets.randbelow(1_000_000)))
    print(walk_along(seed, make_journey(seed, migrations=LONG_MIGRATIONS)))
