import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.protocol.guest_text import (
    DEPTH_LIMIT,
    LINE_LIMIT_CHARACTERS,
    REPLACEMENT,
    VALUES_LIMIT,
    clean_line,
    clean_text,
    clean_value,
)

# First and last of each range, written out from XML 1.0 and VDSM's filter.
REPLACED = [
    *(0x00, 0x01, 0x08),
    *(0x0B, 0x0C),
    *(0x0E, 0x1B, 0x1F),
    *(0x7F, 0x80, 0x84),
    *(0x86, 0x90, 0x9F),
    *(0xD800, 0xDBFF, 0xDC00, 0xDFFF),
    *(0xFFFE, 0xFFFF),
]
KEPT = [
    *(0x09, 0x0A, 0x0D),
    *(0x20, 0x3C, 0x7E),
    0x85,
    *(0xA0, 0xD7FF),
    *(0xE000, 0xFFFD),
    *(0x10000, 0x1FFFE, 0x1F600, 0x10FFFF),
]


@pytest.mark.parametrize("number", REPLACED, ids=hex)
def test_what_xml_forbids_or_discourages_is_replaced(number: int) -> None:
    assert clean_text(f"a{chr(number)}b") == "a\ufffdb"


@pytest.mark.parametrize("number", KEPT, ids=hex)
def test_everything_else_is_kept(number: int) -> None:
    assert clean_text(f"a{chr(number)}b") == f"a{chr(number)}b"


def test_every_character_is_on_the_right_side() -> None:
    ranges = [
        *((0x00, 0x08), (0x0B, 0x0C), (0x0E, 0x1F), (0x7F, 0x84), (0x86, 0x9F)),
        *((0xD800, 0xDFFF), (0xFFFE, 0xFFFF)),
    ]
    replaced = {number for first, last in ranges for number in range(first, last + 1)}
    cleaned = clean_text("".join(map(chr, range(0x110000))))
    changed = {number for number in range(0x110000) if cleaned[number] != chr(number)}
    assert changed == replaced
    assert {cleaned[number] for number in replaced} == {REPLACEMENT}


def test_each_character_is_replaced_by_one() -> None:
    assert clean_text("\x00\x00\ud800x") == "\ufffd\ufffd\ufffdx"


@given(st.text(st.characters()))
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    assert clean_text(clean_text(text)) == clean_text(text)
    assert len(clean_text(text)) == len(text)
    clean_text(text).encode("utf-8")


# A line of ours.


@given(st.text(st.characters()))
def test_a_line_is_printable_ascii_and_bounded(text: str) -> None:
    line = clean_line(text)
    assert line.isascii()
    assert line.isprintable()
    assert len(line) <= 10 * LINE_LIMIT_CHARACTERS


def test_a_line_says_what_it_can() -> None:
    assert clean_line("Command guest-exec has been disabled") == "Command guest-exec has been disabled"
    assert clean_line("a\nb\x1b[31m\u00fc\ud800\U0001f600") == "a\\nb\\x1b[31m\\xfc\\ud800\\U0001f600"
    assert clean_line("x" * 200) == "x" * 200
    assert clean_line("x" * 201 + "end") == "x" * 200


# Values.


def test_every_text_in_a_value_is_cleaned_keys_included() -> None:
    value = json.loads(
        '{"a\\u0000": ["\\ud800", {"\\u001b": "\\u007f"}], "n": [1, 2.5, true, null], "fine": "\\u00fc"}'
    )
    assert clean_value(value) == {
        "a\ufffd": ["\ufffd", {"\ufffd": "\ufffd"}],
        "n": [1, 2.5, True, None],
        "fine": "\u00fc",
    }


def test_of_keys_that_become_alike_the_last_stays() -> None:
    assert clean_value({"\x00": 1, "\x01": 2}) == {"\ufffd": 2}


def test_what_is_given_stays_as_it_was() -> None:
    value = {"a": ["\x00"]}
    clean_value(value)
    assert value == {"a": ["\x00"]}


def nested(depth: int, *, in_objects: bool) -> object:
    value: object = "x"
    for _ in range(depth):
        value = {"k": value} if in_objects else [value]
    return value


@pytest.mark.parametrize("in_objects", [True, False])
def test_depth_is_limited(in_objects: bool) -> None:
    fits = nested(DEPTH_LIMIT, in_objects=in_objects)
    assert clean_value(fits) == fits
    with pytest.raises(ValueError, match="deeper than 32"):
        clean_value(nested(DEPTH_LIMIT + 1, in_objects=in_objects))
    with pytest.raises(ValueError, match="deeper than 32"):
        clean_value(nested(100_000, in_objects=in_objects))


def test_the_number_of_values_is_limited() -> None:
    fits = [0] * (VALUES_LIMIT - 1)  # and the list itself
    assert clean_value(fits) == fits
    with pytest.raises(ValueError, match="more than 100000 values"):
        clean_value([*fits, 0])
    with pytest.raises(ValueError, match="more than 100000 values"):
        clean_value([[0] * 10_000 for _ in range(10)])
    with pytest.raises(ValueError, match="more than 100000 values"):
        clean_value({str(number): number for number in range(VALUES_LIMIT)})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda values: st.lists(values) | st.dictionaries(st.text(st.characters()), values),
    max_leaves=20,
)


@given(JSON)
def test_any_value_can_be_written_as_utf_8_afterwards(value: object) -> None:
    json.dumps(clean_value(value), ensure_ascii=False).encode("utf-8")
