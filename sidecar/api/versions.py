"""Versions of the bridge's API, ``MAJOR.MINOR``, by oslo.messaging's rules: same major, minor not above the other's.

History (what each minor brought):

* 1.0  ``host``, ``list``, ``show``, ``guest``, ``messages``, ``can_send``, ``send``, ``renegotiate``,
       ``can_send_version``.
* 1.1  ``wait`` and ``events``: nobody has to poll.
* 1.2  ``preflight`` and ``doctor``: what a migration would cost, and what is wrong with a host.
* 1.3  ``summary``, ``preflight_to``, ``fleet``, ``fleet_forget``, ``fleet_preflight``: many hosts that know each other.

A minor adds operations, optional arguments or keys of results, and takes nothing away: whoever reads a result ignores
the keys that it does not know, and whoever calls sends nothing newer than the version that the other end serves. What
would break a caller is a new major. Each operation's row (``operations``) says with which version it came.

Source: docs/api.md.
"""

import re
from dataclasses import dataclass
from typing import Self

_TEXT = re.compile(r"(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class ApiVersion:
    """A version of the API; compared as two integers, so that 1.10 is above 1.9."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """From ``MAJOR.MINOR`` in decimal digits, without leading zeros.

        Raises:
            ValueError: The text is anything else; the error says so in one line.
        """
        found = _TEXT.fullmatch(text)
        if found is None:
            raise ValueError(f"{text[:32]!a} is no version of the API: expected MAJOR.MINOR, such as {API_VERSION}")
        return cls(int(found[1]), int(found[2]))

    def serves(self, wanted: "ApiVersion") -> bool:
        """Whether an end of this version understands what came with ``wanted``."""
        return self.major == wanted.major and self.minor >= wanted.minor


API_VERSION = ApiVersion(1, 3)
"""What this code serves and speaks."""
