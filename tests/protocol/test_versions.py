import re

import pytest

from sidecar.errors import ConfigurationError
from sidecar.protocol.versions import (
    OFFER_LIMIT,
    OVIRT_ALIASES,
    OVIRT_MAXIMUM,
    common_version,
    is_offer,
    parse_ovirt_cap,
)


def test_constants_are_the_documented_ones() -> None:
    assert OVIRT_MAXIMUM == 4
    assert OFFER_LIMIT == 2**31 - 1


@pytest.mark.parametrize("value", [0, 1, 3, 4, 99, 2**31 - 1])
def test_offers(value: int) -> None:
    assert is_offer(value)


@pytest.mark.parametrize(
    "value", [-1, -5, 2**31, 10**400, True, False, 3.0, 2.9, float("nan"), float("inf"), "3", " 3 ", None, [], {}, [3]]
)
def test_no_offers(value: object) -> None:
    assert not is_offer(value)


@pytest.mark.parametrize(
    ("guest", "host", "common"), [(3, 4, 3), (4, 3, 3), (3, 3, 3), (0, 4, 0), (4, 0, 0), (OFFER_LIMIT, 4, 4)]
)
def test_common_version(guest: int, host: int, common: int) -> None:
    assert common_version(guest, host) == common


@pytest.mark.parametrize(
    ("cap", "maximum"),
    [
        ("max", 4),
        (0, 0),
        (1, 1),
        (3, 3),
        (4, 4),
        (5, 4),
        (99, 4),
        (OFFER_LIMIT, 4),
        ("0", 0),
        ("2", 2),
        ("4", 4),
        ("99", 4),
        ("2147483647", 4),
        ("0000000002", 2),
        ("ovirt-3.4", 0),
        ("ovirt-3.5", 1),
        ("ovirt-3.6", 2),
        ("ovirt-4.0", 3),
        ("ovirt-4.5", 3),
        ("sidecar-0.1", 4),
    ],
)
def test_caps(cap: object, maximum: int) -> None:
    assert parse_ovirt_cap(cap) == maximum


def test_nobody_can_add_an_alias() -> None:
    with pytest.raises(TypeError):
        OVIRT_ALIASES["mitaka"] = 3  # type: ignore[index]


@pytest.mark.parametrize("alias", OVIRT_ALIASES)
def test_every_alias_is_a_cap_in_range(alias: str) -> None:
    assert parse_ovirt_cap(alias) == OVIRT_ALIASES[alias]
    assert 0 <= OVIRT_ALIASES[alias] <= OVIRT_MAXIMUM


def test_aliases_never_go_down_with_the_release() -> None:
    releases = sorted(
        (tuple(map(int, alias.removeprefix("ovirt-").split("."))), version)
        for alias, version in OVIRT_ALIASES.items()
        if alias.startswith("ovirt-")
    )
    versions = [version for _, version in releases]
    assert versions == sorted(versions)


@pytest.mark.parametrize(
    "cap",
    [
        -1,
        2**31,
        10**400,
        True,
        False,
        3.0,
        None,
        [],
        {},
        "",
        " 3",
        "3 ",
        "+3",
        "-1",
        "1.0",
        "3.0",
        "0x3",
        "1_0",
        "MAX",
        "Max",
        "auto",
        "latest",
        "none",
        "ovirt-9.9",
        "ovirt",
        "OVIRT-4.0",
        "\u0663",
        "\u00b3",
        "2147483648",
        "00000000002",
        "9" * 5000,
    ],
)
def test_no_caps(cap: object) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_ovirt_cap(cap)
    for alias in OVIRT_ALIASES:
        assert re.search(rf"\b{re.escape(alias)}\b", str(caught.value))
    assert '"max"' in str(caught.value)
    assert "0 to 4" in str(caught.value)
