from dataclasses import replace

import pytest

from tests.soak.world import (
    OFFERS,
    OVIRT,
    QGA,
    Caps,
    Expected,
    GuestState,
    Row,
    World,
    expect,
    expect_ovirt,
    expect_qga,
)


@pytest.mark.parametrize(
    ("offer", "cap", "row"),
    [
        (4, 4, Row("agreed", "4", None, "4", "4")),
        (4, 2, Row("agreed", "2", None, "4", "2")),
        (3, 4, Row("agreed", "3", None, "3", "4")),
        (1, 1, Row("agreed", "1", None, "1", "1")),
        (3, 0, Row("unversioned", "0", "host-capped", "3", "0")),
        (None, 0, Row("unversioned", "0", "host-capped", None, "0")),
        (None, 4, Row("unversioned", "0", "no-version", None, "4")),
    ],
)
def test_ovirt_rows(offer: int | None, cap: int, row: Row) -> None:
    assert expect_ovirt(offer, cap) == row


@pytest.mark.parametrize(
    ("offer", "cap", "row"),
    [
        ("7.2.22", "10.0", Row("agreed", "7.2", None, "7.2.22", "10.0")),
        ("7.2.22", "7.2", Row("agreed", "7.2", None, "7.2.22", "7.2")),
        ("10.0.2", "7.2", Row("agreed", "7.2", None, "10.0.2", "7.2")),
        ("7.2.22", "5.2", Row("agreed", "5.2", None, "7.2.22", "5.2")),
        ("7.2.22", "0", Row("unversioned", "0", "host-capped", "7.2.22", "0")),
    ],
)
def test_qga_rows_compare_numbers_and_not_texts(offer: str, cap: str, row: Row) -> None:
    assert expect_qga(offer, cap) == row


def test_configurations() -> None:
    assert Caps().render() == '[upgrade_levels]\novirt = "max"\nqga = "max"\n'
    assert Caps(1, "5.2").render() == '[upgrade_levels]\novirt = "ovirt-3.5"\nqga = "5.2"\n'
    assert Caps(0, "0").render() == "[upgrade_levels]\novirt = 0\nqga = 0\n"


def test_an_arrival_is_another_process_and_keeps_what_is_the_guests_own() -> None:
    state = GuestState("own", "7.2.22", "alpha", note=3).stir(boots=1)
    there = state.arrive("beta", "migration")
    assert (there.host, there.ways, there.arrivals, there.process) == ("beta", frozenset({"migration"}), 2, 2)
    assert (there.boots, there.stirs, there.note, there.era) == (state.boots, 0, 3, "own")
    assert state.host == "alpha", "a world is a value"


def test_who_begins_anew_keeps_nothing_but_what_it_runs_and_where() -> None:
    state = GuestState("own", "7.2.22", "alpha", note=3).arrive("beta", "migration").stir()
    first = GuestState("own", "7.2.22", "beta")
    assert state.begin_anew() == replace(first, process=state.process + 1, boots=state.boots + 1)


def test_a_cap_stirs_those_who_are_there() -> None:
    guests = {name: GuestState("own", "7.2.22", host) for name, host in (("here", "alpha"), ("there", "beta"))}
    world = World({"alpha": Caps(), "beta": Caps()}, guests).with_caps("alpha", Caps(2))
    assert {name: state.stirs for name, state in world.guests.items()} == {"here": 1, "there": 0}
    assert world.at("alpha") == {"here"}
    assert expect(world, "here").rows[OVIRT].version == "2"
    assert expect(world, "there").rows[OVIRT].version == "4"


@pytest.mark.parametrize("era", OFFERS)
def test_the_agent_believes_what_is_agreed(era: str) -> None:
    state = GuestState(era, "7.2.22", "alpha")
    for cap in range(5):
        expected: Expected = expect(World({"alpha": Caps(cap)}, {"one": state}), "one")
        assert expected.believed == min(cap, OFFERS[era] or 0) == int(expected.rows[OVIRT].version)
        assert set(expected.rows) == {OVIRT, QGA}
