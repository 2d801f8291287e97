import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.protocol.ovirt_tools import (
    AGENT_PACKAGES,
    CANDIDATES_LIMIT,
    ENTRY_LIMIT_CHARACTERS,
    GUEST_TOOLS_SINCE,
    UPDATED_LIMIT,
    Applications,
    GuestTools,
    UpdatedMark,
    find_tools_version,
    parse_applications,
    parse_guest_tools,
)
from sidecar.protocol.tools import NUMBER_LIMIT, Source, ToolsReport, ToolsVersion, Tristate

TOLD: dict[str, Any] = {
    "major": 1,
    "minor": 4,
    "micro": 0,
    "build": 12,
    "installed": True,
    "notUpgradable": False,
    "updated": 7,
}
NO_NUMBERS: list[Any] = [None, "1", 1.5, 2.0, True, -1, 10**400, [], {}]
NO_BOOLEANS: list[Any] = [None, 0, 1, "true", [], {}]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def guest_tools(**changes: Any) -> bytes:
    return json.dumps({"__name__": "guest-tools", **TOLD, **changes}).encode()


def without(key: str) -> bytes:
    return json.dumps({name: value for name, value in TOLD.items() if name != key}).encode()


def version_of(line: bytes) -> tuple[str, bool]:
    report = parse_guest_tools(line).report
    assert report is not None
    return str(report.version), report.complete


# guest-tools.


def test_it_came_with_version_4() -> None:
    assert GUEST_TOOLS_SINCE == 4


def test_all_of_it() -> None:
    report = ToolsReport(Source.GUEST_TOOLS, ToolsVersion(1, 4, 0, 12), upgradable=Tristate.TRUE)
    assert parse_guest_tools(guest_tools()) == GuestTools(report, 7)


@pytest.mark.parametrize(
    ("line", "upgradable"),
    [
        (guest_tools(notUpgradable=True), Tristate.FALSE),
        (guest_tools(notUpgradable=False), Tristate.TRUE),
        (without("notUpgradable"), Tristate.UNKNOWN),
    ],
    ids=["locked", "free", "not-told"],
)
def test_whether_it_may_be_upgraded(line: bytes, upgradable: Tristate) -> None:
    report = parse_guest_tools(line).report
    assert report is not None
    assert report.upgradable is upgradable


@pytest.mark.parametrize(
    ("line", "version", "complete"),
    [
        (without("micro"), "1.4-12", True),
        (without("build"), "1.4.0", True),
        (guest_tools(micro=None, build=None), "1.4", True),
        (guest_tools(micro=-1), "1.4-12", True),  # as xapi writes what is missing
        (guest_tools(build=-1), "1.4.0", True),
        (guest_tools().replace(b"12", b" -1\t"), "1.4.0", True),
        (guest_tools(major=9, build="proto-0.5"), "9.4.0", False),
        (guest_tools(micro="0"), "1.4-12", False),
        (guest_tools(micro=0.5), "1.4-12", False),
        (guest_tools(micro=True), "1.4-12", False),
        (guest_tools(micro=-2), "1.4-12", False),
        (guest_tools(micro=[0]), "1.4-12", False),
        (guest_tools(micro={}, build=[[]]), "1.4", False),
        (guest_tools(build=NUMBER_LIMIT), f"1.4.0-{NUMBER_LIMIT}", True),
        (guest_tools(build=NUMBER_LIMIT + 1), "1.4.0", False),
        (guest_tools(build=10**400), "1.4.0", False),
    ],
)
def test_what_cannot_be_read_of_the_version_is_left_out(line: bytes, version: str, complete: bool) -> None:
    assert version_of(line) == (version, complete)


def test_tools_that_are_not_installed_need_no_version() -> None:
    assert parse_guest_tools(b'{"installed": false, "updated": 3}') == GuestTools(None, 3)
    assert parse_guest_tools(guest_tools(installed=False, major="none", updated=0)) == GuestTools(None, 0)


@pytest.mark.parametrize(
    "line",
    [
        *map(without, ["major", "minor", "installed", "updated"]),
        *(guest_tools(**{key: bad}) for key in ("major", "minor") for bad in NO_NUMBERS),
        *(guest_tools(updated=bad) for bad in (*NO_NUMBERS, UPDATED_LIMIT + 1)),
        *(guest_tools(**{key: bad}) for key in ("installed", "notUpgradable") for bad in NO_BOOLEANS),
        guest_tools(major=NUMBER_LIMIT + 1),
        b'{"__name__": "guest-tools"}',
        b'{"__name__": "guest-tools", "drivers": {"xenvif": "Citrix 7.2"}, "installed": true, "updated": 1}',
        b"[]",
        b"",
        b"{",
    ],
)
def test_what_is_no_guest_tools(line: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        parse_guest_tools(line)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(TOLD, JSON)))
def test_no_content_comes_to_more_than_a_decode_error(content: dict[str, Any]) -> None:
    try:
        told = parse_guest_tools(json.dumps({**TOLD, **content}).encode())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    assert 0 <= told.updated <= UPDATED_LIMIT
    assert told.report is None or ToolsVersion.parse(str(told.report.version)) == told.report.version


# Whether it has to be looked at.


def test_only_what_has_grown_is_looked_at() -> None:
    mark = UpdatedMark()
    assert [mark.advance(updated) for updated in (5, 5, 4, 5, 6, 0, 7, UPDATED_LIMIT)] == [
        True,
        False,
        False,
        False,
        True,
        False,
        True,
        True,
    ]


def test_the_first_is_looked_at_whatever_it_is() -> None:
    mark = UpdatedMark()
    assert mark.advance(0)
    assert not mark.advance(0)
    mark.advance(1_800_000_000)
    mark.forget()
    assert mark.advance(0)


# applications.


@pytest.mark.parametrize(
    ("entry", "version"),
    [
        # RPM: name-version-release.
        ("ovirt-guest-agent-common-1.0.16-1.el7", "1.0.16-1"),
        ("ovirt-guest-agent-1.0.13-1.el6", "1.0.13-1"),
        ("rhevm-guest-agent-common-1.0.12-3.el7ev", "1.0.12-3"),
        ("rhevm-guest-agent-1.0.7-11.el6ev", "1.0.7-11"),
        ("rhev-agent-2.3.17-1.el6", "2.3.17-1"),
        ("libvirt-sidecar-0.1.0-1.fc42", "0.1.0-1"),
        ("ovirt-guest-agent-common-1.0.14-9.1", "1.0.14-9"),
        ("ovirt-guest-agent-common-1.0.13-0.0.master.20170712", "1.0.13-0"),
        # Debian: name-version, with or without a revision, repacked, of an epoch, of a derivative.
        ("ovirt-guest-agent-1.0.15.dfsg-2", "1.0.15-2"),
        ("ovirt-guest-agent-1.0.11+ds1-2", "1.0.11-2"),
        ("ovirt-guest-agent-1:1.0.16-2ubuntu1", "1.0.16-2"),
        ("ovirt-guest-agent-common-1.0.16", "1.0.16"),
        ("libvirt-sidecar-0.1", "0.1"),
        # Windows: name version.
        ("RHEV-Agent64 3.2.3", "3.2.3"),
        ("RHEV-Agent 3.2.5", "3.2.5"),
        # Four numbers: what the release counts is not one of ours.
        ("ovirt-guest-agent-common-1.0.9.1-2.el6", "1.0.9"),
        ("ovirt-guest-agent-common-1.0.10.3", "1.0.10"),
    ],
)
def test_entries(entry: str, version: str) -> None:
    report = ToolsReport(Source.APPLICATIONS, ToolsVersion.parse(version))
    assert find_tools_version(["kernel-6.1.0", entry, "zsh-5.9"]) == report


@pytest.mark.parametrize(
    ("entry", "version"),
    [
        ("ovirt-guest-agent-1.0.16~rc1-1", "1.0.16-1"),
        ("ovirt-guest-agent-common-1.0.16rc1-2.el7", "1.0.16-2"),
        ("ovirt-guest-agent-1.0.x-3", "1.0-3"),
        ("ovirt-guest-agent-1.0.16-r1", "1.0.16"),
        ("ovirt-guest-agent-1.0.16-proto-0.5", "1.0.16-0"),
        ("ovirt-guest-agent-1.0.16-" + "9" * 20, "1.0.16"),
        ("ovirt-guest-agent-1.0.16-", "1.0.16"),
        ("ovirt-guest-agent-1.0.9.1.7-3", "1.0.9"),
    ],
)
def test_entries_that_say_more_than_can_be_compared(entry: str, version: str) -> None:
    assert find_tools_version([entry]) == ToolsReport(Source.APPLICATIONS, ToolsVersion.parse(version), complete=False)


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "kernel-6.1.0",
        "my-ovirt-guest-agent-1.0.16",
        "ovirt-guest-agent",
        "ovirt-guest-agent-",
        "ovirt-guest-agent-1",
        "ovirt-guest-agent-1-2",
        "ovirt-guest-agent-v1.0",
        "ovirt-guest-agent1.0.16",
        "ovirt-guest-agent-pam-module-1.0.16-1.el7",
        "ovirt-guest-agent_1.0.16",
        "ovirt-guest-agent-\u0661.\u0660",
        "RHEV-Agent",
        "RHEV-Agent-Service",
        f"ovirt-guest-agent-1.{NUMBER_LIMIT + 1}",
        f"ovirt-guest-agent-1.0-{NUMBER_LIMIT + 1}",
        "ovirt-guest-agent-" + "1" * 30 + ".0",
        "ovirt-guest-agent-1.0-1" + "x" * ENTRY_LIMIT_CHARACTERS,
    ],
)
def test_no_entries(entry: str) -> None:
    assert find_tools_version([entry]) is None
    assert find_tools_version([entry, "ovirt-guest-agent-1.0.16"]) == find_tools_version(["ovirt-guest-agent-1.0.16"])


@pytest.mark.parametrize(
    ("entries", "version"),
    [
        # Windows leaves earlier ones behind.
        (["RHEV-Agent64 3.2.3", "RHEV-Tools 3.2.4", "RHEV-Agent64 3.2.10", "RHEV-Agent64 3.2.2"], "3.2.10"),
        (["ovirt-guest-agent-9.9.9", "ovirt-guest-agent-common-1.0.16-1"], "1.0.16-1"),
        (["libvirt-sidecar-9.9.9", "rhev-agent-2.3.17"], "2.3.17"),
        (["ovirt-guest-agent-1.0", "ovirt-guest-agent-1.0.0", "ovirt-guest-agent-1.0.0-0"], "1.0.0-0"),
    ],
)
def test_of_several_the_choice_is_the_same_in_any_order(entries: list[str], version: str) -> None:
    for order in (entries, entries[::-1], sorted(entries)):
        report = find_tools_version(order)
        assert report is not None
        assert str(report.version) == version


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b'{"applications": null}',
        b'{"applications": "ovirt-guest-agent-1.0"}',
        b'{"applications": [1]}',
        b'{"applications": ["ovirt-guest-agent-1.0", null]}',
        b'{"applications": [["ovirt-guest-agent-1.0"]]}',
        b'{"applications": {"ovirt-guest-agent": "1.0"}}',
        b'{"applications": ["ovirt-guest-agent-1.0"',
        b'{"applications": ["\\ud800"]}',
    ],
)
def test_what_is_no_list_of_applications(line: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        parse_applications(line)


def test_an_empty_list_is_one_without_an_agent() -> None:
    assert parse_applications(b'{"applications": []}') == Applications(None)


SCRAPS = st.sampled_from([*AGENT_PACKAGES, "-", " ", ".", ":", "~", "1", "0", "99999999999", "el7", "dfsg", "\u0661"])


@settings(max_examples=200)
@given(st.lists(st.text(max_size=30) | st.lists(SCRAPS, max_size=10).map("".join), max_size=10))
def test_any_list_comes_to_a_version_or_none(entries: list[str]) -> None:
    report = find_tools_version(entries)
    assert report is None or ToolsVersion.parse(str(report.version)) == report.version


HOSTILE = {
    "agents": '"ovirt-guest-agent-1.0.16-1",',
    "almost": '"ovirt-guest-agent-1.0.x~' + "1." * 80 + '-1",',
    "empty": '"",',
    "short": '"o",',
    "long": '"' + "ovirt-guest-agent-" * 20 + '",',
}


@pytest.mark.parametrize("entry", HOSTILE.values(), ids=HOSTILE)
def test_a_list_as_long_as_a_line_may_be_is_cheap(entry: str) -> None:
    entries = entry * (1_000_000 // len(entry))
    line = f'{{"__name__": "applications", "applications": [{entries[:-1]}]}}'.encode()
    start = time.process_time()
    parse_applications(line)
    assert time.process_time() - start < 0.5  # a guest sends one in 8 s


def test_more_candidates_than_the_limit_are_not_looked_at() -> None:
    entries = [f"ovirt-guest-agent-1.{number}" for number in range(CANDIDATES_LIMIT + 1)]
    report = find_tools_version(entries)
    assert report is not None
    assert report.version == ToolsVersion(1, CANDIDATES_LIMIT - 1)
