import sys
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.protocol.framing import LINE_LIMIT_BYTES, LineSplitter

LIMIT = 16  # with its LF: 15 bytes and LF pass


def chunks(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """Cut into pieces of the given sizes, over and over."""
    start = 0
    while start < len(data):
        for size in sizes:
            yield data[start : start + size]
            start += size


def split(pieces: Iterator[bytes] | list[bytes], limit: int = LIMIT) -> list[bytes | None]:
    splitter = LineSplitter(limit)
    return [line for piece in pieces for line in splitter.receive_data(piece)]


def reference(data: bytes, limit: int = LIMIT) -> list[bytes | None]:
    """What the whole stream means, however it was cut."""
    *lines, rest = data.split(b"\n")
    found: list[bytes | None] = [line if len(line) < limit else None for line in lines]
    return [*found, None] if len(rest) >= limit else found


def test_the_limit_is_vdsms() -> None:
    assert LINE_LIMIT_BYTES == 1_048_576


@pytest.mark.parametrize("lead", [0, 1, 4095], ids=lambda lead: f"lead{lead}")
@pytest.mark.parametrize("chunk", [4096, 65536, 1_000_003, 1 << 21])
@pytest.mark.parametrize(("over", "passes"), [(-1, True), (0, True), (1, False)])
def test_the_exact_limit(over: int, passes: bool, chunk: int, lead: int) -> None:
    line = b"x" * (LINE_LIMIT_BYTES - 1 + over)
    stream = b"l" * lead + b"\n" + line + b"\n" + b"good\n"
    lines = split(chunks(stream, [chunk]), LINE_LIMIT_BYTES)
    assert lines == [b"l" * lead, line if passes else None, b"good"]


@pytest.mark.parametrize("length", range(LIMIT + 3))
@pytest.mark.parametrize("size", range(1, LIMIT + 3))
def test_the_limit_does_not_depend_on_the_cut(length: int, size: int) -> None:
    stream = b"x" * length + b"\n" + b"good\n"
    expected: bytes | None = b"x" * length if length + 1 <= LIMIT else None
    assert split(chunks(stream, [size])) == [expected, b"good"]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([b"\n", b"a", b"\r\n", b"\x00", b"\xc3\xa4", b"x" * 7, b"y" * 40]), max_size=30),
    st.lists(st.integers(1, 20), min_size=1, max_size=6),
)
def test_any_cut_gives_the_same_lines(parts: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(parts)
    assert split(chunks(stream, sizes)) == reference(stream)


def test_an_endless_line_is_reported_once_and_costs_no_memory() -> None:
    splitter = LineSplitter()
    piece, reported, held = b"z" * 65536, [], []
    for _ in range(64):  # 4 MiB
        reported += splitter.receive_data(piece)
        held.append(sys.getsizeof(splitter._partial))
    assert reported == [None]
    assert max(held) <= 2 * LINE_LIMIT_BYTES
    assert held[-1] < 1024  # what was dropped is not kept either
    assert splitter.receive_data(b"still the same line\ngood\n") == [b"good"]


def test_two_long_lines_are_two_reports() -> None:
    assert split([b"x" * 40 + b"\n" + b"y" * 40 + b"\n" + b"good\n"]) == [None, None, b"good"]


def test_a_long_line_is_reported_when_it_gets_too_long_not_at_its_end() -> None:
    splitter = LineSplitter(LIMIT)
    assert splitter.receive_data(b"x" * (LIMIT - 1)) == []
    assert splitter.receive_data(b"x") == [None]
    assert splitter.receive_data(b"\n") == []
    assert splitter.receive_data(b"good\n") == [b"good"]


def test_cr_stays_and_empty_lines_are_lines() -> None:
    assert split([b"a\r\n\n\r\n", b"", b"b\n"]) == [b"a\r", b"", b"\r", b"b"]


def test_a_character_cut_in_two_is_whole_again() -> None:
    assert split([b"\xc3", b"\xa4\n"]) == ["ä".encode()]
