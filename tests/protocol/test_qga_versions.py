import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import ConfigurationError
from sidecar.protocol.qga_commands import QGA_COMMANDS
from sidecar.protocol.qga_versions import (
    FOREIGN_MAJOR,
    QGA_ALIASES,
    common_release,
    parse_qga_cap,
    place_by_commands,
    read_release,
    share_numbering,
)
from sidecar.protocol.releases import Release

NONE, TEN = Release(0, 0), Release(10, 0)
RELEASES = st.builds(Release, st.integers(0, 200), st.integers(0, 200))


@given(RELEASES, RELEASES)
def test_common_is_the_lower_of_any_two(guest: Release, host: Release) -> None:
    common = common_release(guest, host)
    assert common in (guest, host)
    assert (common.major, common.minor) == min((guest.major, guest.minor), (host.major, host.minor))
    assert common == common_release(host, guest)


@pytest.mark.parametrize(("one", "other", "shared"), [(0, 99, True), (99, 100, False), (100, 2**31 - 1, True)])
def test_numbers_of_two_numberings_are_not_compared(one: int, other: int, shared: bool) -> None:
    assert share_numbering(one, other) is share_numbering(other, one) is shared
    assert FOREIGN_MAJOR == 100


# The cap.


@pytest.mark.parametrize(
    ("cap", "maximum"),
    [
        ("max", TEN),
        ("7.2", Release(7, 2)),
        ("2.10", Release(2, 10)),
        ("0.15", Release(0, 15)),
        ("10.0", TEN),
        ("10.1", TEN),
        ("99.9", TEN),
        ("102.10", TEN),
        (0, NONE),
        ("0", NONE),
        ("0.0", NONE),
        ("0.14", NONE),
        ("1.0", Release(1, 0)),
        ("debian-10", Release(3, 1)),
        ("debian-11", Release(5, 2)),
        ("debian-12", Release(7, 2)),
        ("debian-13", TEN),
        ("ubuntu-20.04", Release(4, 2)),
        ("ubuntu-22.04", Release(6, 2)),
        ("ubuntu-24.04", Release(8, 2)),
        ("sidecar-0.1", TEN),
    ],
)
def test_caps(cap: object, maximum: Release) -> None:
    assert parse_qga_cap(cap) == maximum


@pytest.mark.parametrize(
    "cap",
    [
        7,
        1,
        -1,
        10**400,
        7.2,
        0.0,
        -0.0,
        float("nan"),
        None,
        True,
        False,
        [],
        {},
        [0],
        Release(7, 2),
        b"7.2",
        "",
        "7",
        "00",
        "7.2.1",
        "7.2 ",
        " 7.2",
        "7.2\n",
        "0\n",
        "+7.2",
        "-1",
        "-0",
        "v7.2",
        "latest",
        "auto",
        "none",
        "Max",
        "MAX",
        "debian",
        "debian-9",
        "Debian-12",
        "debian-12 ",
        "ovirt-4.5",
        "\u0667.2",
        "\u0660",
        "9" * 5000 + ".0",
        "1.\ud800",
    ],
)
def test_no_caps(cap: object) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_qga_cap(cap)
    for alias in QGA_ALIASES:
        assert re.search(rf"\b{re.escape(alias)}\b", str(caught.value))
    assert '"max"' in str(caught.value)
    assert '"10.0"' in str(caught.value)


@given(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.lists(st.integers()))
def test_any_value_is_a_cap_in_range_or_a_configuration_error(value: object) -> None:
    try:
        maximum = parse_qga_cap(value)
    except ConfigurationError:
        return
    assert maximum == NONE or Release(0, 15) <= maximum <= TEN


def test_nobody_can_add_an_alias() -> None:
    with pytest.raises(TypeError):
        QGA_ALIASES["debian-14"] = TEN  # type: ignore[index]


@pytest.mark.parametrize("alias", QGA_ALIASES)
def test_every_alias_is_a_cap_in_range(alias: str) -> None:
    assert parse_qga_cap(alias) == QGA_ALIASES[alias]
    assert Release(0, 15) <= QGA_ALIASES[alias] <= TEN


@pytest.mark.parametrize("family", ["debian", "ubuntu"])
def test_aliases_never_go_down_with_the_release(family: str) -> None:
    releases = sorted(
        (tuple(map(int, alias.removeprefix(f"{family}-").split("."))), release)
        for alias, release in QGA_ALIASES.items()
        if alias.startswith(family)
    )
    caps = [release for _, release in releases]
    assert len(caps) > 1
    assert caps == sorted(caps)


# Where an agent is placed.


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("7.2.22", Release(7, 2)),
        ("1.10.0", Release(1, 10)),
        ("0.15.0", Release(0, 15)),
        ("11.2.0", Release(11, 2)),
        ("99.9.9", Release(99, 9)),
        ("100.0.0.0", None),
        ("102.10.0", None),
        ("0.14.1", None),
        ("0.0", None),
        ("", None),
        ("unknown", None),
    ],
)
def test_a_version_text_names_a_release_when_it_is_qemus_own(text: str, release: Release | None) -> None:
    assert read_release(text) == release


@pytest.mark.parametrize("name", QGA_COMMANDS)
def test_an_agent_is_no_older_than_any_command_that_it_has(name: str) -> None:
    assert place_by_commands([name]) == QGA_COMMANDS[name].since
    assert place_by_commands(["guest-info", name, "guest-ping"]) == QGA_COMMANDS[name].since


@pytest.mark.parametrize("enabled", [[], ["guest-frobnicate"], ["guest-info"], [""]])
def test_who_has_nothing_of_ours_is_the_first_agent(enabled: list[str]) -> None:
    assert place_by_commands(enabled) == Release(0, 15)


@given(st.lists(st.sampled_from(sorted(QGA_COMMANDS))), st.lists(st.sampled_from(sorted(QGA_COMMANDS))))
def test_more_commands_never_make_an_agent_older(some: list[str], more: list[str]) -> None:
    assert place_by_commands(some + more) == max(place_by_commands(some), place_by_commands(more))
