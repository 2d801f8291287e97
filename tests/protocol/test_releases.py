import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.protocol.releases import Release, parse_version_text

NUMBERS = st.integers(0, 999_999_999)
RELEASES = st.builds(Release, NUMBERS, NUMBERS)


@pytest.mark.parametrize(
    ("lower", "higher"),
    [
        ("1.9", "1.10"),
        ("0.15", "1.1"),
        ("2.2", "2.10"),
        ("9.1", "10.0"),
        ("9.99", "10.0"),
        ("0", "0.1"),
        ("7.2", "7.3"),
    ],
)
def test_order_is_of_numbers_not_of_text(lower: str, higher: str) -> None:
    assert Release.parse(lower) < Release.parse(higher)
    assert min(Release.parse(higher), Release.parse(lower)) == Release.parse(lower)


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("0", Release(0, 0)),
        ("0.15", Release(0, 15)),
        ("1.10", Release(1, 10)),
        ("7.2", Release(7, 2)),
        ("10.0", Release(10, 0)),
        ("99.9", Release(99, 9)),
        ("999999999.999999999", Release(999_999_999, 999_999_999)),
    ],
)
def test_parse_and_text_are_each_others_reverse(text: str, release: Release) -> None:
    assert Release.parse(text) == release
    assert str(release) == text


@given(RELEASES)
def test_every_release_survives_its_text(release: Release) -> None:
    assert Release.parse(str(release)) == release


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "00",
        "7.",
        ".2",
        "7.2.1",
        "7.2 ",
        " 7.2",
        "7.2\n",
        "+7.2",
        "-1",
        "-7.2",
        "7.-2",
        "7,2",
        "v7.2",
        "7.2rc1",
        "7_0.2",
        "0x7.2",
        "1e3.0",
        "7.1234567890",
        "1234567890.0",
        "9" * 5000 + ".0",
        "\u0667.2",
        "7.\u00b2",
        "\uff17.2",
        "latest",
        "max",
    ],
)
def test_anything_else_is_no_release(text: str) -> None:
    with pytest.raises(ValueError, match="is no release") as caught:
        Release.parse(text)
    assert str(caught.value).isascii()


def test_none_is_false_and_every_release_true() -> None:
    assert not Release(0, 0)
    for release in (Release(0, 15), Release(1, 0), Release(10, 0)):
        assert release


# What the version text of an agent begins with.


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("7.2.22", (7, 2, 22)),
        ("8.2.0 (Debian 1:8.2.0+dfsg-1)", (8, 2, 0)),
        ("2.12.0-64.el8", (2, 12, 0)),
        ("10.0.2-rc1", (10, 0, 2)),
        ("102.10.0", (102, 10, 0)),
        ("100.0.0.0", (100, 0, 0, 0)),
        ("7.2", (7, 2)),
        ("7.2.", (7, 2)),
        ("7.2.x", (7, 2)),
        ("7.2rc1", (7, 2)),
        ("1.2.3.4.5", (1, 2, 3, 4)),
        ("007.02", (7, 2)),
        (" 7.2.22", (7, 2, 22)),
        ("7.2.22\n", (7, 2, 22)),
        ("7.2.12345678901", (7, 2)),
        ("7.2.1.12345678901", (7, 2, 1)),
        ("7.2\u0663", (7, 2)),
        ("", ()),
        ("8", ()),
        ("8.", ()),
        ("v8.2.0", ()),
        ("-8.2", ()),
        ("8 .2", ()),
        ("99999999999.1", ()),
        ("1.99999999999", ()),
        ("9" * 100_000 + ".1", ()),
        ("1." + "9" * 100_000, ()),
        ("\u0667.2", ()),
        ("\u00a07.2", ()),
        ("7\n.2", ()),
        ("unknown", ()),
    ],
)
def test_version_texts(text: str, numbers: tuple[int, ...]) -> None:
    assert parse_version_text(text) == numbers


@given(st.text())
def test_any_text_gives_two_to_four_small_integers_or_none(text: str) -> None:
    numbers = parse_version_text(text)
    assert len(numbers) in (0, 2, 3, 4)
    assert all(0 <= number < 10**9 for number in numbers)


@given(st.lists(NUMBERS, min_size=2, max_size=4), st.sampled_from(["", "-rc1", " (Debian)", "+dfsg", "~bpo", "\n"]))
def test_numbers_survive_any_suffix(numbers: list[int], suffix: str) -> None:
    assert parse_version_text(".".join(map(str, numbers)) + suffix) == tuple(numbers)
