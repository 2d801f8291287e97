import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.protocol.tools import (
    NUMBER_LIMIT,
    Source,
    ToolsReport,
    ToolsState,
    ToolsVersion,
    Tristate,
    compare,
    is_up_to_date,
    judge,
    read_qga_version,
)

ABSENT, UNKNOWN, OLD, LOCKED, CURRENT, NEWER = ToolsState
parse = ToolsVersion.parse

NUMBERS = st.integers(0, 3) | st.integers(0, NUMBER_LIMIT)
VERSIONS = st.builds(ToolsVersion, NUMBERS, NUMBERS, st.none() | NUMBERS, st.none() | NUMBERS)
REPORTS = st.builds(ToolsReport, st.sampled_from(Source), VERSIONS, st.booleans(), st.sampled_from(Tristate))


def report(version: str, upgradable: Tristate = Tristate.TRUE, *, complete: bool = True) -> ToolsReport:
    return ToolsReport(Source.GUEST_TOOLS, parse(version), complete, upgradable)


# Versions.


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("1.4", ToolsVersion(1, 4)),
        ("1.4.0", ToolsVersion(1, 4, 0)),
        ("1.4-12", ToolsVersion(1, 4, None, 12)),
        ("1.4.0-12", ToolsVersion(1, 4, 0, 12)),
        ("0.0.0-0", ToolsVersion(0, 0, 0, 0)),
        (f"{NUMBER_LIMIT}.{NUMBER_LIMIT}.{NUMBER_LIMIT}-{NUMBER_LIMIT}", ToolsVersion(*[NUMBER_LIMIT] * 4)),
    ],
)
def test_versions(text: str, version: ToolsVersion) -> None:
    assert parse(text) == version
    assert str(version) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1.",
        ".4",
        "1.4.",
        "1.4-",
        "1.4.0.7",
        "1.4-0-1",
        "1.4.0-proto-0.5",
        "1.4.-1",
        "-1.4",
        "+1.4",
        "v1.4",
        "1.4 ",
        " 1.4",
        "1.4\n",
        "1,4",
        "1.4.0-12.el7",
        "1e0.4",
        "1_0.4",
        "\u0661.\u0664",
        "\uff11.\uff14",
        "1.\u00b2",
        f"1.{NUMBER_LIMIT + 1}",
        f"1.4-{NUMBER_LIMIT + 1}",
        "1." + "4" * 5000,
    ],
)
def test_no_versions(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no version|has a number over") as caught:
        parse(text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@given(VERSIONS)
def test_a_version_there_and_back(version: ToolsVersion) -> None:
    assert parse(str(version)) == version


def test_the_sources_from_the_best_to_the_last() -> None:
    assert [(source.value, source.rank) for source in Source] == [("guest-tools", 0), ("applications", 1), ("qga", 2)]


@pytest.mark.parametrize(
    ("offer", "version"),
    [
        ("7.2.22", "7.2.22"),
        ("7.2", "7.2"),
        ("5.2.0.11", "5.2.0"),
        ("110.0.2", "110.0.2"),
        (None, None),
        ("", None),
        ("7", None),
        (f"7.{NUMBER_LIMIT + 1}", None),
    ],
)
def test_what_a_qemu_guest_agent_calls_itself(offer: str | None, version: str | None) -> None:
    assert read_qga_version(offer) == (None if version is None else ToolsReport(Source.QGA, parse(version)))


# Comparing.


@pytest.mark.parametrize(
    ("version", "current", "state"),
    [
        ("1.4.0-12", "1.4.0-12", CURRENT),
        # The first difference decides.
        ("1.4.0-12", "2.0.0-0", OLD),
        ("2.0.0-0", "1.4.0-12", NEWER),
        ("1.3.9-99", "1.4.0-12", OLD),
        ("1.4.1-0", "1.4.0-12", NEWER),
        ("1.4.0-11", "1.4.0-12", OLD),
        ("1.4.0-13", "1.4.0-12", NEWER),
        # By number, not by text.
        ("1.10", "1.9", NEWER),
        ("1.9", "1.10", OLD),
        # What the host does not name does not matter.
        ("1.4.0-12", "1.4", CURRENT),
        ("1.4.7", "1.4", CURRENT),
        ("1.4.7-3", "1.4.7", CURRENT),
        ("1.4.0-12", "1.4-12", CURRENT),
        ("1.4-11", "1.4-12", OLD),
        ("1.4.0-11", "1.4-12", OLD),
        # Nobody said what the 3 is to be compared with.
        ("1.4.3-2", "1.4-12", UNKNOWN),
        ("1.4.3-12", "1.4-12", CURRENT),
        ("1.4.3-13", "1.4-12", NEWER),
        # What the guest did not tell is 0 where that is asked for, and unknown otherwise.
        ("1.4", "1.4.0", CURRENT),
        ("1.4", "1.4.0-0", CURRENT),
        ("1.4-3", "1.4.0-3", CURRENT),
        ("1.4", "1.4.1", UNKNOWN),
        ("1.4-3", "1.4.1-2", UNKNOWN),
        ("1.4.0", "1.4.0-12", UNKNOWN),
        ("1.5", "1.4.1-2", NEWER),
        ("1.3", "1.4.1-2", OLD),
    ],
)
def test_compare(version: str, current: str, state: ToolsState) -> None:
    assert compare(parse(version), parse(current)) is state


@given(VERSIONS, VERSIONS)
def test_old_needs_a_number_that_is_proven_smaller(version: ToolsVersion, current: ToolsVersion) -> None:
    if compare(version, current) is not OLD:
        return
    for told, wanted in zip(version.numbers, current.numbers, strict=True):
        if wanted is None:
            assert not told
        elif (told or 0) != wanted:
            assert told is not None
            assert told < wanted
            return
    pytest.fail("every number is as it has to be")


@given(VERSIONS, VERSIONS)
def test_what_is_newer_here_is_never_newer_there(one: ToolsVersion, other: ToolsVersion) -> None:
    assert not (compare(one, other) is NEWER and compare(other, one) in (NEWER, CURRENT))
    assert not (compare(one, other) is OLD and compare(other, one) is OLD)


@given(VERSIONS)
def test_every_version_is_current_by_itself(version: ToolsVersion) -> None:
    assert compare(version, version) is CURRENT


# The verdict.

VERDICTS = [
    # The report, what is current, the state, whether it is up to date.
    (None, "1.4", ABSENT, None),
    (report("1.4"), None, UNKNOWN, "unknown"),
    (report("1.4", Tristate.FALSE), None, UNKNOWN, "true"),
    (report("1.4"), "1.4.1", UNKNOWN, "unknown"),
    (report("1.3", complete=False), "1.4", UNKNOWN, "unknown"),
    (report("1.5", complete=False), "1.4", UNKNOWN, "unknown"),
    (report("1.3", Tristate.FALSE, complete=False), "1.4", UNKNOWN, "true"),
    (report("1.3"), "1.4", OLD, "false"),
    (report("1.3", Tristate.UNKNOWN), "1.4", OLD, "false"),
    (report("1.3", Tristate.FALSE), "1.4", LOCKED, "true"),
    (report("1.4"), "1.4", CURRENT, "true"),
    (report("1.4", Tristate.FALSE), "1.4", CURRENT, "true"),
    (report("1.5"), "1.4", NEWER, "true"),
    (report("1.5", Tristate.UNKNOWN), "1.4", NEWER, "true"),
    (report("1.5", Tristate.FALSE), "1.4", NEWER, "true"),
]


@pytest.mark.parametrize(("told", "current", "state", "up_to_date"), VERDICTS)
def test_the_verdict(told: ToolsReport | None, current: str | None, state: ToolsState, up_to_date: str | None) -> None:
    version = None if current is None else parse(current)
    assert judge(told, version) is state
    if told is not None:
        assert is_up_to_date(told, version) == up_to_date


def test_every_state_is_reached() -> None:
    assert {state for _, _, state, _ in VERDICTS} == set(ToolsState)


@given(REPORTS, st.none() | VERSIONS)
def test_nobody_is_told_to_upgrade_what_is_locked_down_or_not_proven_old(
    told: ToolsReport, current: ToolsVersion | None
) -> None:
    verdict = is_up_to_date(told, current)
    if told.upgradable is Tristate.FALSE:
        assert verdict is Tristate.TRUE
    elif current is None or not told.complete:
        assert verdict is Tristate.UNKNOWN
    else:
        assert (verdict is Tristate.FALSE) == (compare(told.version, current) is OLD)
