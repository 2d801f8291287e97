"""What either end says of bytes that it cannot use: a stable code and a short text, never an exception.

Source: docs/problems.md for the codes.
"""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum


class BadInputCode(StrEnum):
    """Stable problem codes of what the other end sent."""

    BAD_MESSAGE = "bad-message"
    BAD_VERSION = "bad-version"
    UNKNOWN_MESSAGE = "unknown-message"
    LINE_TOO_LONG = "line-too-long"


@dataclass(frozen=True, slots=True)
class BadInput:
    """The other end sent something unusable; given out once a reader and ``code``, further ones are only counted.

    ``detail`` is ASCII and short, safe for a log line.
    """

    code: BadInputCode
    detail: str


class Complaints:
    """Counts bad input by code, and gives out the first of each code alone."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: Counter[BadInputCode] = Counter()

    def complain(self, code: BadInputCode, detail: str) -> list[BadInput]:
        """One more; the event to give out, if it is the first of its code."""
        self.counts[code] += 1
        return [BadInput(code, detail)] if self.counts[code] == 1 else []
