"""Text that a guest chose, made fit for our logs, XML and users: one set of characters, filtered once, after decoding.

Filtered are the characters that XML 1.0 forbids or discourages, as VDSM does: a name with one of them in it made whole
hosts unavailable there.

Source: docs/protocol.md; VDSM's filter of guest data, XML 1.0 (fifth edition), section 2.2.
"""

import re
from collections.abc import Iterator

REPLACEMENT = "\ufffd"

_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")

# What of a guest's words goes into one line of ours.
LINE_LIMIT_CHARACTERS = 200

# No honest answer of an agent is deeper, or has more values, than these; both bound what walking through one costs.
DEPTH_LIMIT = 32
VALUES_LIMIT = 100_000


def clean_text(text: str) -> str:
    """The text with U+FFFD for every character that must not be there."""
    return _FORBIDDEN.sub(REPLACEMENT, text)


def clean_line(text: str) -> str:
    """The text's beginning as one printable line in ASCII, for a log or an error."""
    return text[:LINE_LIMIT_CHARACTERS].encode("unicode_escape").decode("ascii")


def clean_value(value: object) -> object:
    """A decoded JSON value with every text in it cleaned, keys included; of keys that become alike the last stays.

    Raises:
        ValueError: Deeper than ``DEPTH_LIMIT``, or more than ``VALUES_LIMIT`` values.
    """
    return _clean(value, iter(range(VALUES_LIMIT)), DEPTH_LIMIT)


def _clean(value: object, budget: Iterator[int], depth: int) -> object:
    if next(budget, None) is None:
        raise ValueError(f"more than {VALUES_LIMIT} values")
    if isinstance(value, str):
        return clean_text(value)
    if not isinstance(value, dict | list):
        return value
    if not depth:
        raise ValueError(f"nested deeper than {DEPTH_LIMIT}")
    if isinstance(value, list):
        return [_clean(item, budget, depth - 1) for item in value]
    return {clean_text(key): _clean(item, budget, depth - 1) for key, item in value.items()}
