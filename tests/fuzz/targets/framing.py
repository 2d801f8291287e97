"""Framing: however a stream is cut, the same lines come of it, at the same bytes, and memory stays bounded.

The input: two bytes for the limit, a few that say where to cut, an LF, and the stream.
"""

from itertools import accumulate, pairwise

from sidecar.protocol.framing import LINE_LIMIT_BYTES, LineSplitter

WORDS = (b"\n", b"\n\n", b"\r\n", b'{"__name__": "echo"}\n', b"xxxxxxxx")


# Byte by byte, it takes time.
LENGTH_LIMIT_BYTES = 1024


def check(data: bytes) -> None:
    """Cut as the input says, byte by byte, and not at all, against lines that were found otherwise."""
    head, _, stream = data[:LENGTH_LIMIT_BYTES].partition(b"\n")
    limit = 1 + int.from_bytes(head[:2]) % 300
    cuts = [at for at in accumulate(head[2:]) if at < len(stream)]
    pieces = [stream[begin:end] for begin, end in pairwise([0, *cuts, len(stream)])]
    expected = read_lines(stream, limit)
    assert split(pieces, limit) == expected
    assert split([stream], limit) == expected
    assert split([stream[at : at + 1] for at in range(len(stream))], limit) == expected
    assert None not in split([stream], LINE_LIMIT_BYTES)


def read_lines(stream: bytes, limit: int) -> list[bytes | None]:
    """Each line with its LF is held against the limit; of the rest only that it is too long already is told."""
    *lines, rest = stream.split(b"\n")
    told: list[bytes | None] = [line if len(line) < limit else None for line in lines]
    return [*told, None] if len(rest) >= limit and rest else told


def split(pieces: list[bytes], limit: int) -> list[bytes | None]:
    """What comes of these pieces, with a look at what is kept between them."""
    splitter = LineSplitter(limit)
    lines: list[bytes | None] = []
    for piece in pieces:
        lines += splitter.receive_data(piece)
        assert len(splitter._partial) < limit
    return lines
