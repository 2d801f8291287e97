import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.protocol.fact_content import FACT_LIMIT_BYTES, FactContent, bound_content, bound_value, read_content
from sidecar.protocol.guest_text import DEPTH_LIMIT


def nested(depth: int, inner: bytes = b"") -> bytes:
    return b"[" * depth + inner + b"]" * depth


class TestReading:
    @pytest.mark.parametrize(
        ("raw", "value"),
        [
            (
                b'{"name": "vm", "n": 1, "f": 2.5, "t": true, "no": null}',
                {"name": "vm", "n": 1, "f": 2.5, "t": True, "no": None},
            ),
            (b'["a\\u0000b\\u001b[31m", "\\ufffe"]', ["a\ufffdb\ufffd[31m", "\ufffd"]),
            (b'{"a\\u0007": {"\\u009f": "\x7f"}}', {"a\ufffd": {"\ufffd": "\ufffd"}}),
            (b'{"a": 1, "a": 2}', {"a": 2}),
            (b'{"\\u0001": 1, "\\u0002": 2}', {"\ufffd": 2}),
            (b"[18446744073709551615, -9223372036854775808]", [2**64 - 1, -(2**63)]),
            (b'"\xc3\xbc\\ud83d\\ude00\\n\\t"', "\u00fc\U0001f600\n\t"),
            (b'" \\" [{,"', ' " [{,'),
        ],
        ids=range(8),
    )
    def test_what_came_is_given_back_cleaned(self, raw: bytes, value: object) -> None:
        assert read_content(FactContent(raw)) == value

    def test_the_deepest(self) -> None:
        value = read_content(FactContent(nested(DEPTH_LIMIT)))
        assert json.dumps(value).encode() == nested(DEPTH_LIMIT)

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"no",
            b'{"a": 1',
            b"[1] [2]",
            b"[1}",
            b"[NaN]",
            b"[Infinity]",
            b"[1e999]",
            b"[01]",
            b"18446744073709551616",
            b"[-9223372036854775809]",
            b'{"a": {"b": [1' + b"0" * 400 + b"]}}",
            b"1" + b"0" * 5000,
            b'"\xff"',
            b'"\\ud800"',
            b'{"\\udc00": 1}',
            b'\xef\xbb\xbf"bom"',
            nested(DEPTH_LIMIT + 1),
            nested(1000),
        ],
        ids=range(19),
    )
    def test_what_cannot_be_used(self, raw: bytes) -> None:
        with pytest.raises(ValueError, match=r"JSON|64 bits|deeper"):
            read_content(FactContent(raw))

    @pytest.mark.parametrize(
        "entry", [b"no", b"NaN", b"1e999", b"1" + b"0" * 30, b'"\xff"', b'"\\udc00"'], ids=range(6)
    )
    def test_an_entry_that_cannot_be_used_spoils_what_was_kept_and_no_more(self, entry: bytes) -> None:
        for raw in (b"[" + entry + b", 1, 2", b"[1, " + entry + b", 2"):
            with pytest.raises(ValueError, match=r"JSON|64 bits"):
                read_content(FactContent(raw, truncated=True))
        assert read_content(FactContent(b"[1, 2, " + entry, truncated=True)) == [1, 2]

    @pytest.mark.parametrize("raw", [b'"no list', b"no", b"", b"1234", b"]]]]", b"}{"])
    def test_the_beginning_of_nothing(self, raw: bytes) -> None:
        with pytest.raises(ValueError, match="JSON"):
            read_content(FactContent(raw, truncated=True))

    @pytest.mark.parametrize("entry", [b"[]", b"1", b'""', b"{}", b'","'])
    def test_more_values_than_anybody_honest_has(self, entry: bytes) -> None:
        few, many = (b"[" + b",".join([entry] * count) + b"]" for count in (300, 20_000))
        assert read_content(FactContent(few)) == [json.loads(entry)] * 300
        for truncated in (False, True):
            with pytest.raises(ValueError, match="too many values"):
                read_content(FactContent(many, truncated))

    @pytest.mark.parametrize(
        "raw", [b'["' + b'\\"' * 500_000, b'["' + b"\\\\" * 500_000, b'["' + b"]" * 1_000_000, b"[" + b"]" * 1_000_000]
    )
    def test_a_cut_text_is_gone_through_once(self, raw: bytes) -> None:
        """Going back at each quote would take minutes."""
        begun = time.process_time()
        assert read_content(FactContent(raw, truncated=True)) == []
        assert time.process_time() - begun < 5


class TestBounds:
    def test_what_fits_is_kept_as_it_is(self) -> None:
        for cuttable in (False, True):
            assert bound_content(b"[1,2]", 5, cuttable=cuttable) == FactContent(b"[1,2]")

    def test_what_does_not_fit_is_cut_or_dropped(self) -> None:
        assert bound_content(b"[1,2]", 4, cuttable=False) is None
        content = bound_content(b"[1,2]", 4, cuttable=True)
        assert content == FactContent(b"[1,2", truncated=True)
        assert read_content(content) == [1]

    def test_a_value_that_was_decoded(self) -> None:
        assert bound_value({"host-name": "vm"}) == FactContent(b'{"host-name":"vm"}')
        assert bound_value("x" * (FACT_LIMIT_BYTES - 2)) is not None
        assert bound_value("x" * (FACT_LIMIT_BYTES - 1)) is None
        assert bound_value({"users": ["x" * 100] * 1000}) is None
        content = bound_value(["x" * 100] * 1000)
        assert content is not None
        assert content.truncated
        assert len(content.raw) == FACT_LIMIT_BYTES
        assert read_content(content) == ["x" * 100] * 636  # 103 bytes each, and the bracket


def test_an_object_in_an_object_is_cut_likewise() -> None:
    mapping = {f"serial-{number:02}": {"name": "vda"} for number in range(9)}
    raw = json.dumps({"mapping": mapping, "disks": []}).encode()
    value = read_content(FactContent(raw[: raw.index(b"serial-03") + 20], truncated=True))
    assert value == {"mapping": {f"serial-0{number}": {"name": "vda"} for number in range(3)}}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.sampled_from(["", "a", '"', "\\", "],[", "}{:"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from('a"]}{[,'), inner, max_size=3),
    max_leaves=6,
)


def fitting(entries: list[Any], room: int, mark: bytes = b", ") -> int:
    """How many entries, each with the comma after it, fit into so many bytes."""
    count = 0
    for entry in entries[:-1]:
        room -= len(json.dumps(entry)) + (len(mark) if count else 1)
        if room < 0:
            break
        count += 1
    return count


@settings(max_examples=200, deadline=None)
@given(st.lists(JSON, max_size=8), st.integers(1, 200))
def test_a_list_is_cut_to_its_first_entries(entries: list[Any], limit: int) -> None:
    raw = json.dumps(entries).encode()
    content = bound_content(raw, limit, cuttable=True)
    assert content is not None
    if content.truncated:
        assert read_content(content) == entries[: fitting(entries, limit - 1)]
    else:
        assert read_content(content) == entries


@settings(max_examples=200, deadline=None)
@given(st.lists(JSON, max_size=8), st.sampled_from(["last", "first", "between"]), st.integers(1, 60))
def test_a_list_in_an_object_is_cut_to_its_first_entries(entries: list[Any], place: str, limit: int) -> None:
    """What comes before it stays, what comes after it goes."""
    before = {} if place == "first" else {"name": "x"}
    after = {} if place == "last" else {"zone": "y"}
    head = json.dumps({**before, "list": []})[:-2].encode()
    raw = json.dumps({**before, "list": entries, **after}).encode()
    content = bound_content(raw, len(head) + limit, cuttable=True)
    assert content is not None
    if not content.truncated:
        assert read_content(content) == {**before, "list": entries, **after}
    elif len(content.raw) < len(head + json.dumps(entries).encode()):
        assert read_content(content) == {**before, "list": entries[: fitting(entries, limit)]}


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | st.text('{}[]",:\\1a ', max_size=60).map(str.encode), st.booleans())
def test_whatever_came_reading_it_fails_in_one_way_alone(raw: bytes, truncated: bool) -> None:
    try:
        value = read_content(FactContent(raw, truncated))
    except ValueError:
        return
    json.dumps(value, allow_nan=False).encode()
