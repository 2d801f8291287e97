"""What a guest tells of itself: kept as it came, within bounds, and decoded when somebody asks for it.

A guest may tell as much as it likes, and mostly nobody asks. So whatever comes is kept as bytes: that costs 0.01 ms for
a line of 1 MiB, and no more memory than it has bytes. To decode and clean the worst 256 KiB as they come would stop
everything else for 90 ms, each time. Now nothing is decoded before somebody asks, who is trusted, and what turns out to
be unusable by then is no fact.
"""

import re
from dataclasses import dataclass

import msgspec

from sidecar.protocol.guest_text import clean_value

# Some 2 KiB are usual; 64 KiB are 500 interfaces, or 800 file systems.
FACT_LIMIT_BYTES = 64 * 1024

# Each value takes time and memory once it is decoded. Those of an honest guest have names and lengths: a sign of JSON
# every ten bytes and more.
_BYTES_A_SIGN = 8
# A short text may be denser.
_SIGNS_ALWAYS = 1024
_SIGNS = (b"[", b"{", b",")

# What JSON leaves to its readers: ours keep integers in 64 bits.
_INTEGERS = range(-(2**63), 2**64)

# A string, whole or up to where the text ends, or a sign; never matched in two ways, or it would take for ever.
_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{},]', re.DOTALL)
_CLOSING = {b"[": b"]", b"{": b"}"}
# What closes a list or object at the top, and one right below an object at the top.
_CUTTABLE = (b"]", b"}", b"]}", b"}}")


@dataclass(frozen=True, slots=True)
class FactContent:
    """JSON from a guest, of which nothing is believed yet; one that is ``truncated`` ends somewhere in the middle."""

    raw: bytes
    truncated: bool = False


def bound_content(raw: bytes, limit_bytes: int, *, cuttable: bool) -> FactContent | None:
    """What is kept of this JSON: all of it, or the beginning of it if it is ``cuttable``; ``None``: it is too large."""
    if len(raw) <= limit_bytes:
        return FactContent(raw)
    return FactContent(raw[:limit_bytes], truncated=True) if cuttable else None


def bound_value(value: object) -> FactContent | None:
    """Likewise, of a value that was decoded already; a list is cuttable."""
    return bound_content(msgspec.json.encode(value), FACT_LIMIT_BYTES, cuttable=isinstance(value, list))


def read_content(content: FactContent) -> object:
    """The value as JSON values, every text in it cleaned; of a list that was cut, the first entries.

    Raises:
        ValueError: It is no JSON, or has a number that is beyond 64 bits, or too many values, or is too deep.
    """
    signs = sum(content.raw.count(sign) for sign in _SIGNS)
    if signs > max(_SIGNS_ALWAYS, len(content.raw) // _BYTES_A_SIGN):
        raise ValueError("too many values")
    try:
        value = clean_value(msgspec.json.decode(_close(content.raw) if content.truncated else content.raw))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ValueError("no JSON that can be used") from error
    _require_moderate_integers(value)
    return value


def _close(raw: bytes) -> bytes:
    """The beginning that ends between two entries of the list or object at the top, or one right below it, and closed.

    What is cut so has whole entries alone, as many as there are.
    """
    end, ending, closing = 0, b"", b""
    for token in _TOKENS.finditer(raw):
        sign = token[0]
        if sign in _CLOSING:
            closing = _CLOSING[sign] + closing
        elif sign != b",":
            closing = closing[sign in (b"]", b"}") :]
            continue
        if closing in _CUTTABLE:
            end, ending = token.start() if sign == b"," else token.end(), closing
    return raw[:end] + ending


def _require_moderate_integers(value: object) -> None:
    if isinstance(value, int) and value not in _INTEGERS:
        raise ValueError("a number beyond 64 bits")
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _require_moderate_integers(item)
