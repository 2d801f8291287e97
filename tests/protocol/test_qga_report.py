"""What ``guest-info`` tells: the agents of several eras, and what no agent should say."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.errors import BadReplyError
from sidecar.protocol.qga_commands import QGA_COMMANDS
from sidecar.protocol.qga_report import COMMANDS_LIMIT, REPORT_LIMIT_BYTES, Report, judge_report, read_report
from sidecar.protocol.releases import Release

SIX = ["guest-ping", "guest-info", "guest-sync", "guest-sync-delimited", "guest-fsfreeze-status", "guest-fsfreeze-thaw"]
NO_VERSION = object()


def answer(version: object, *enabled: str, disabled: tuple[str, ...] = ()) -> bytes:
    listed = [{"name": name, "enabled": name in enabled, "success-response": True} for name in (*enabled, *disabled)]
    info: dict[str, object] = {"supported_commands": listed}
    if version is not NO_VERSION:
        info["version"] = version
    return json.dumps(info).encode()


# QEMU 7.2 as Debian 12 ships it: one command is blocked there, and success-response is missing for one here.
DEBIAN_12 = b"""{"version": "7.2.22", "supported_commands": [
    {"enabled": true, "name": "guest-get-cpustats", "success-response": true},
    {"enabled": true, "name": "guest-shutdown", "success-response": false},
    {"enabled": false, "name": "guest-exec", "success-response": true},
    {"enabled": true, "name": "guest-info"},
    {"enabled": true, "name": "guest-debian-special", "success-response": true},
    {"enabled": true, "name": "guest-sync", "success-response": true}]}"""


def test_a_real_answer() -> None:
    enabled = frozenset({"guest-get-cpustats", "guest-shutdown", "guest-info", "guest-sync"})
    assert read_report(DEBIAN_12) == Report("7.2.22", Release(7, 2), inferred=False, enabled=enabled, frozen=False)


def test_members_that_we_do_not_know_are_ignored() -> None:
    known = b'{"supported_commands": [{"name": "guest-ping", "enabled": true}], "version": "7.2.22"}'
    more = known.replace(b"true}", b'true, "features": [[]]}').replace(b"}]", b'}], "support": {"a": 1}')
    assert more.count(b"features") == more.count(b'support"') == 1
    assert read_report(more) == read_report(known)


@pytest.mark.parametrize(
    ("version", "offer", "named"),
    [
        ("7.2.22", "7.2.22", "7.2"),
        ("8.2.0 (Debian 1:8.2.0+dfsg-1)", "8.2.0", "8.2"),
        ("2.12.0-64.el8", "2.12.0", "2.12"),
        ("10.0.2-rc1", "10.0.2", "10.0"),
        ("0.15.0", "0.15.0", "0.15"),
        ("1.2.3.4.5", "1.2.3.4", "1.2"),
        ("7.2.22\n", "7.2.22", "7.2"),
        ("11.2.50", "11.2.50", "11.2"),
        ("102.10.0", "102.10.0", None),
        ("100.0.0.0", "100.0.0.0", None),
        ("0.12.1", "0.12.1", None),
        ("", None, None),
        (NO_VERSION, None, None),
        (None, None, None),
        (5, None, None),
        (7.2, None, None),
        (["7.2.22"], None, None),
        ({"text": "7.2.22"}, None, None),
        ("v8.2.0", None, None),
        ("8", None, None),
        ("99999999999.1", None, None),
        ("9" * 9999 + ".9", None, None),
        ("\u0667.\u0662.\u0660", None, None),
        ("unknown", None, None),
    ],
    ids=range(24),
)
def test_a_version_is_taken_or_the_agent_placed_by_its_commands(
    version: object, offer: str | None, named: str | None
) -> None:
    report = read_report(answer(version, "guest-info", "guest-exec", disabled=("guest-get-load",)))
    assert report.offer == offer
    assert report.release == (Release.parse(named) if named else Release(2, 5))
    assert report.inferred == (named is None)
    assert report.enabled == {"guest-info", "guest-exec"}


@pytest.mark.parametrize(
    ("enabled", "release"),
    [
        ((), "0.15"),
        (("guest-info",), "0.15"),
        (("guest-info", "guest-frobnicate"), "0.15"),
        (("guest-info", "guest-get-fsinfo", "guest-get-osinfo"), "2.10"),
        (("guest-get-devices", "guest-info"), "5.2"),
        (tuple(QGA_COMMANDS), "10.0"),
    ],
)
def test_the_newest_enabled_command_places_a_build_that_counts_otherwise(
    enabled: tuple[str, ...], release: str
) -> None:
    report = read_report(answer("102.10.0", *enabled))
    assert (str(report.release), report.inferred) == (release, True)


@pytest.mark.parametrize("version", ["7.2.22", "102.10.0"])
def test_absent_and_disabled_are_the_same(version: str) -> None:
    missing = ("guest-exec", "guest-exec-status", "guest-get-devices", "guest-suspend-hybrid")
    there = tuple(name for name in QGA_COMMANDS if name not in missing)
    assert read_report(answer(version, *there)) == read_report(answer(version, *there, disabled=missing))


def test_a_command_that_is_listed_twice_has_to_be_enabled_twice() -> None:
    twice = [("guest-ping", True), ("guest-exec", True), ("guest-exec", False), ("guest-ping", True)]
    for listed in (twice, twice[::-1]):
        assert judge_report("7.2", listed).enabled == {"guest-ping"}


# What no agent should say.


@pytest.mark.parametrize(
    "result",
    [
        *(b"", b"null", b"5", b"[]", b'"7.2"', b"{}", b"{", b"\xff", b"nan", b'{"version": "7.2.22"}'),
        b'{"supported_commands": null}',
        b'{"supported_commands": {}}',
        b'{"supported_commands": ["guest-ping"]}',
        b'{"supported_commands": [{"name": "guest-ping"}]}',
        b'{"supported_commands": [{"enabled": true}]}',
        b'{"supported_commands": [{"name": "guest-ping", "enabled": 1}]}',
        b'{"supported_commands": [{"name": "guest-ping", "enabled": "true"}]}',
        b'{"supported_commands": [{"name": "guest-ping", "enabled": null}]}',
        b'{"supported_commands": [{"name": 5, "enabled": true}]}',
        b'{"supported_commands": [{"name": "\\ud800", "enabled": true}]}',
        b'{"supported_commands": [{"name": "\xed\xa0\x80", "enabled": true}]}',
        b'{"supported_commands": [], "version": NaN}',
        b'{"supported_commands": [], "version": "\\ud800"}',
        b'{"supported_commands": [], "more": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"supported_commands": ' + b"[" * 100_000,
        b'{"supported_commands": []}{}',
    ],
    ids=range(26),
)
def test_anything_else_is_a_bad_reply(result: bytes) -> None:
    with pytest.raises(BadReplyError) as caught:
        read_report(result)
    assert str(caught.value).isascii()
    assert len(str(caught.value)) < 2100


def test_the_number_of_commands_is_limited() -> None:
    names = [f"guest-x{number}" for number in range(COMMANDS_LIMIT)]
    assert COMMANDS_LIMIT == 1024
    assert read_report(answer("7.2.22", *names)).enabled == frozenset()
    with pytest.raises(BadReplyError, match="1025 commands"):
        read_report(answer("7.2.22", *names, "guest-one-more"))


def test_the_size_is_limited() -> None:
    fits = answer("7.2.22", "guest-ping").ljust(REPORT_LIMIT_BYTES)
    assert REPORT_LIMIT_BYTES == 256 * 1024
    assert read_report(fits).offer == "7.2.22"
    with pytest.raises(BadReplyError, match="262145 bytes"):
        read_report(fits + b" ")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda values: st.lists(values) | st.dictionaries(st.text(st.characters()), values),
)
COMMANDS = st.lists(
    JSON | st.fixed_dictionaries({"name": st.sampled_from(SIX) | JSON, "enabled": st.booleans() | JSON})
)


@settings(max_examples=200, deadline=None)
@given(
    st.binary()
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.builds(
        lambda version, listed: json.dumps({"version": version, "supported_commands": listed}), JSON, COMMANDS
    ).map(str.encode)
)
def test_whatever_a_guest_says_is_a_report_or_a_bad_reply(result: bytes) -> None:
    try:
        report = read_report(result)
    except BadReplyError:
        return
    assert report.enabled <= set(QGA_COMMANDS)
    assert report.release >= Release(0, 15)


# Frozen guests.

OLD_LIST = tuple(name for name, command in QGA_COMMANDS.items() if command.since <= Release(7, 2))


@pytest.mark.parametrize(
    ("version", "listed"), [("7.2.22", OLD_LIST), ("10.0.2", tuple(QGA_COMMANDS)), ("102.10.0", (*OLD_LIST, "guest-x"))]
)
@pytest.mark.parametrize("blocked", [(), ("guest-sync",), ("guest-info", "guest-sync-delimited")])
def test_a_frozen_agent_disables_all_but_six(version: str, listed: tuple[str, ...], blocked: tuple[str, ...]) -> None:
    enabled = tuple(name for name in SIX if name not in blocked)
    report = read_report(answer(version, *enabled, disabled=tuple({*listed} - {*enabled})))
    assert report.frozen
    assert report.enabled == set(enabled)
    assert report.offer == version


@pytest.mark.parametrize(
    "enabled",
    [
        tuple(QGA_COMMANDS),
        tuple(name for name in QGA_COMMANDS if name not in ("guest-exec", "guest-file-open")),
        tuple(name for name in QGA_COMMANDS if not name.startswith("guest-fsfreeze")),
        ("guest-ping", "guest-info"),
        ("guest-info",),
        (),
        ("guest-info", "guest-fsfreeze-status", "guest-fsfreeze-freeze", "guest-fsfreeze-thaw"),
        (*SIX, "guest-exec"),
    ],
    ids=range(8),
)
def test_lists_of_what_is_allowed_or_blocked_are_no_freeze(enabled: tuple[str, ...]) -> None:
    disabled = tuple(name for name in QGA_COMMANDS if name not in enabled)
    assert not read_report(answer("7.2.22", *enabled, disabled=disabled)).frozen


def test_an_agent_that_has_nothing_but_the_six_is_not_frozen() -> None:
    assert not read_report(answer("7.2.22", *SIX)).frozen
    assert not read_report(answer("7.2.22", *SIX[1:], disabled=("guest-ping",))).frozen
