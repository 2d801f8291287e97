from collections import Counter
from itertools import pairwise

import pytest

from tests.soak.plan import (
    CANCELLATIONS,
    HOSTS,
    MIGRATIONS,
    OF_HOSTS,
    RESTARTED,
    STIRRING,
    STIRS_A_PROCESS,
    Kind,
    Step,
    first_world,
    follow,
    make_journey,
)
from tests.soak.world import Caps, World

SEEDS = range(40)


def worlds(seed: int, steps: tuple[Step, ...]) -> list[World]:
    """The world before each step, and after the last."""
    passed = [first_world(seed)]
    for step in steps:
        passed.append(follow(passed[-1], step))
    return passed


def test_a_seed_makes_one_journey_and_another_seed_another() -> None:
    assert make_journey(1, steps=50) == make_journey(1, steps=50)
    assert first_world(1) == first_world(1)
    assert len({make_journey(seed, steps=50) for seed in SEEDS}) == len(SEEDS)


def test_fewer_steps_are_the_beginning_of_more() -> None:
    whole = make_journey(5, migrations=60)
    assert sum(step.kind in MIGRATIONS for step in whole) == 60
    assert whole[-1].kind in MIGRATIONS
    assert make_journey(5, steps=37) == whole[:37]


def test_a_journey_does_not_change_by_itself() -> None:
    """What a report of a failure says must still be so with the next release of Python, and after a clean-up here."""
    assert [str(step) for step in make_journey(46405, steps=6)] == [
        "CALLED_BACK own -> beta",
        "MIGRATE own -> beta",
        "FORSAKEN recent -> gamma",
        "CAP beta 4/10.0",
        "LIBVIRTD_KILLED beta",
        "MIGRATE recent -> beta",
    ]


def test_each_kind_happens_as_often_as_it_should() -> None:
    counts = Counter(step.kind for seed in SEEDS for step in make_journey(seed, steps=200))
    assert set(counts) == set(Kind)
    assert max(counts, key=counts.__getitem__) is Kind.MIGRATE
    assert sum(counts[kind] for kind in MIGRATIONS) > counts.total() / 2


@pytest.mark.parametrize("seed", SEEDS)
def test_every_step_is_possible_where_it_is_taken(seed: int) -> None:
    steps = make_journey(seed, steps=200)
    for step, (before, after) in zip(steps, pairwise(worlds(seed, steps)), strict=True):
        if step.kind in MIGRATIONS | CANCELLATIONS:
            assert step.host in set(HOSTS) - {before.guests[step.guest].host}
        assert (step.kind in OF_HOSTS) == (not step.guest)
        assert (step.kind is Kind.CAP) == (step.caps is not None)
        assert all(state.stirs <= STIRS_A_PROCESS for state in after.guests.values())


@pytest.mark.parametrize("seed", SEEDS)
def test_gammas_daemon_lives_through_it(seed: int) -> None:
    steps = make_journey(seed, steps=200)
    for step, world in zip(steps, worlds(seed, steps), strict=False):
        if step.kind in (Kind.UNSEEN, Kind.INTERRUPTED, Kind.DAEMON_STOPPED, Kind.DAEMON_KILLED):
            assert step.host in RESTARTED
        if step.kind is Kind.FORSAKEN:
            assert world.guests[step.guest].host in RESTARTED


@pytest.mark.parametrize("kind", Kind)
def test_what_a_step_makes_of_its_guest_and_of_nobody_else(kind: Kind) -> None:
    world = first_world(0)
    towards = "beta" if kind in MIGRATIONS | CANCELLATIONS else ""
    step = Step(kind, host="beta", caps=Caps(1)) if kind is Kind.CAP else Step(kind, "own", towards)
    after = follow(world, step)
    own, before = after.guests["own"], world.guests["own"]
    arrives = kind in MIGRATIONS or kind in (Kind.SAVE, Kind.POWER)
    assert own.arrivals - before.arrivals == own.process - before.process == arrives
    assert own.boots - before.boots == (kind in (Kind.RESET, Kind.POWER))
    assert own.stirs - before.stirs == (kind in STIRRING)
    assert own.note - before.note == (kind is Kind.NOTE)
    assert own.host == ("beta" if kind in MIGRATIONS else "alpha")
    assert {name: state for name, state in after.guests.items() if name != "own"} == {
        name: state for name, state in world.guests.items() if name != "own"
    }


@pytest.mark.parametrize(
    ("kind", "ways"),
    [
        (Kind.MIGRATE, {"migration"}),
        (Kind.POSTCOPY, {"migration"}),
        (Kind.UNSEEN, {"attach"}),
        (Kind.INTERRUPTED, {"migration", "attach"}),
        (Kind.SAVE, {"restore"}),
        (Kind.POWER, {"start"}),
        (Kind.RESET, {"start"}),  # no arrival: as it came
    ],
)
def test_how_it_came(kind: Kind, ways: set[str]) -> None:
    assert follow(first_world(0), Step(kind, "own", "beta")).guests["own"].ways == ways
