"""QEMU releases, ``MAJOR.MINOR``: the versions of the QGA dialect, compared as numbers."""

import re
from dataclasses import dataclass
from typing import Self

# MAJOR.MINOR with at most two more integers; each fits every reader's 32-bit integer. What follows (a distribution's
# suffix) may be anything but a further digit.
_INTEGER = r"\d{1,9}"
_VERSION = re.compile(rf"\s*({_INTEGER})\.({_INTEGER})(?:\.({_INTEGER}))?(?:\.({_INTEGER}))?(?!\d)", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Release:
    """A QEMU release; ``Release(0, 0)`` is none."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}" if self else "0"

    def __bool__(self) -> bool:
        return (self.major, self.minor) != (0, 0)

    @classmethod
    def parse(cls, text: str) -> Self:
        """From ``MAJOR.MINOR`` in ASCII digits; ``"0"`` is none.

        Raises:
            ValueError: The text is anything else.
        """
        if text == "0":
            return cls(0, 0)
        if re.fullmatch(rf"{_INTEGER}\.{_INTEGER}", text, re.ASCII) is None:
            raise ValueError(f"{text!a} is no release")
        major, _, minor = text.partition(".")
        return cls(int(major), int(minor))


def parse_version_text(text: str) -> tuple[int, ...]:
    """The two to four dotted integers that a version text begins with, its suffix dropped; empty when it has none."""
    found = _VERSION.match(text)
    return () if found is None else tuple(int(number) for number in found.groups() if number is not None)
