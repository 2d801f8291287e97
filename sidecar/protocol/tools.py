"""The tools that a guest runs: their version, whether they may be upgraded, and whether they are up to date.

The rules:

* Numbers are compared with those that the host's configuration calls current, one by one; the first difference decides.
* "Old" needs a number that is proven smaller. What the guest did not tell, or told in a way that cannot be read, is
  ``unknown``, and so is everything without a configured version.
* Tools that the guest calls not upgradable are up to date, always: nobody is told to upgrade what is locked down.

Source: docs/tools.md.
"""

import re
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Self

# What every peer's signed 32-bit integer holds.
NUMBER_LIMIT = 2**31 - 1

UPGRADE_LOCK = "/etc/pv-drivers-not-upgradable"
"""The file in a guest whose presence says that its tools are not to be upgraded; what is in it does not matter."""

_NUMBER = r"([0-9]{1,10})"
_VERSION = re.compile(rf"{_NUMBER}\.{_NUMBER}(?:\.{_NUMBER})?(?:-{_NUMBER})?")


class Source(StrEnum):
    """Who told the version (``tools/@source``), the best first."""

    GUEST_TOOLS = "guest-tools"
    APPLICATIONS = "applications"
    QGA = "qga"

    @property
    def rank(self) -> int:
        """0 for the best; a guest that tells by several is shown by the best of them."""
        return list(Source).index(self)


class Tristate(StrEnum):
    """An answer that may not be known (``tools/@upgradable``, ``tools/@up-to-date``)."""

    TRUE = "true"
    FALSE = "false"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ToolsVersion:
    """``MAJOR.MINOR[.MICRO][-BUILD]``, each 0 to ``NUMBER_LIMIT``; ``None`` is a number that was not told."""

    major: int
    minor: int
    micro: int | None = None
    build: int | None = None

    def __str__(self) -> str:
        micro = "" if self.micro is None else f".{self.micro}"
        build = "" if self.build is None else f"-{self.build}"
        return f"{self.major}.{self.minor}{micro}{build}"

    @property
    def numbers(self) -> tuple[int, int, int | None, int | None]:
        """The four, the most significant first."""
        return self.major, self.minor, self.micro, self.build

    @classmethod
    def parse(cls, text: str) -> Self:
        """From the text that ``str()`` gives, and nothing else but leading zeros.

        Raises:
            ValueError: The text is anything else.
        """
        found = _VERSION.fullmatch(text)
        if found is None:
            raise ValueError(f"{text[:64]!a} is no version")
        major, minor, micro, build = (None if number is None else int(number) for number in found.groups())
        assert major is not None
        assert minor is not None
        if any(number is not None and number > NUMBER_LIMIT for number in (major, minor, micro, build)):
            raise ValueError(f"{text!a} has a number over {NUMBER_LIMIT}")
        return cls(major, minor, micro, build)


@dataclass(frozen=True, slots=True)
class ToolsReport:
    """What one source tells of the guest's tools.

    Attributes:
        source: Who told it.
        version: The numbers that could be read.
        complete: Whether these are all that was told; otherwise the version is shown, and compared with nothing.
        upgradable: Whether the tools may be upgraded.
    """

    source: Source
    version: ToolsVersion
    complete: bool = True
    upgradable: Tristate = Tristate.UNKNOWN


class ToolsState(Enum):
    """What a host makes of a guest's tools."""

    ABSENT = "the guest told of no tools"
    UNKNOWN = "there are tools, and nothing proves them old or current"
    OLD = "they are older than what is current"
    OLD_NOT_UPGRADABLE = "they are older, and the guest keeps them so"
    CURRENT = "every number that the host names is theirs"
    NEWER = "they are newer than the host knows"


def judge(report: ToolsReport | None, current: ToolsVersion | None) -> ToolsState:
    """What to make of a report on a host that calls this version current; ``None``: there is none."""
    if report is None:
        return ToolsState.ABSENT
    if current is None or not report.complete:
        return ToolsState.UNKNOWN
    state = compare(report.version, current)
    if state is ToolsState.OLD and report.upgradable is Tristate.FALSE:
        return ToolsState.OLD_NOT_UPGRADABLE
    return state


def is_up_to_date(report: ToolsReport, current: ToolsVersion | None) -> Tristate:
    """``tools/@up-to-date``; false only for tools that are proven old and not known to be locked down."""
    if report.upgradable is Tristate.FALSE:
        return Tristate.TRUE
    match judge(report, current):
        case ToolsState.CURRENT | ToolsState.NEWER:
            return Tristate.TRUE
        case ToolsState.OLD:
            return Tristate.FALSE
    return Tristate.UNKNOWN


def compare(version: ToolsVersion, current: ToolsVersion) -> ToolsState:
    """``OLD``, ``CURRENT``, ``NEWER``, or ``UNKNOWN`` where a number that decides was not told.

    Numbers that ``current`` does not name do not matter; of those that it names, 0 is what was not told.
    """
    unnamed = False
    for told, wanted in zip(version.numbers, current.numbers, strict=True):
        if wanted is None:
            unnamed |= bool(told)
        elif told is None and wanted:
            return ToolsState.UNKNOWN
        elif (told or 0) > wanted:
            return ToolsState.NEWER
        elif (told or 0) < wanted:
            # 1.4.3-2 is not older than 1.4-12 because of its build: nobody said what its 3 is to be compared with.
            return ToolsState.UNKNOWN if unnamed else ToolsState.OLD
    return ToolsState.CURRENT


def read_qga_version(offer: str | None) -> ToolsReport | None:
    """The report in what a QEMU guest agent calls itself (``channel/@guest``); a fourth number is dropped.

    ``None``: it told none, or one whose numbers are too large.
    """
    try:
        return ToolsReport(Source.QGA, ToolsVersion.parse(".".join((offer or "").split(".")[:3])))
    except ValueError:
        return None
