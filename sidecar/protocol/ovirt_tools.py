"""What an agent of the oVirt dialect tells of the guest's tools: ``guest-tools`` (API 4) and ``applications``.

Source: docs/tools.md; for the entries of ``applications``, oVirt guest agent 1.0.16 (``name-version-release`` on Linux,
the programs' display names on Windows) and the names that oVirt's engine looks for.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Annotated

import msgspec

from sidecar.protocol.ovirt_messages import GUEST_TO_HOST
from sidecar.protocol.tools import NUMBER_LIMIT, Source, ToolsReport, ToolsVersion, Tristate

GUEST_TOOLS_SINCE = GUEST_TO_HOST["guest-tools"].since

# ``updated`` may be a counter or a time in any unit down to microseconds, from an agent that keeps numbers as doubles.
UPDATED_LIMIT = 2**53

# The first that a guest has is its agent. The last is ours: a guest that has both lists oVirt's for oVirt's sake.
AGENT_PACKAGES = (
    "ovirt-guest-agent-common",
    "ovirt-guest-agent",
    "rhevm-guest-agent-common",
    "rhevm-guest-agent",
    "rhev-agent",
    "RHEV-Agent64",
    "RHEV-Agent",
    "libvirt-sidecar",
)
"""Packages (on Windows: programs) that are a guest agent of oVirt's or ours, the preferred first."""

# Some 60 characters are usual; a name that is longer is nobody's honest package.
ENTRY_LIMIT_CHARACTERS = 256

# Windows keeps an entry of each version that an upgrade left behind. More than these are not looked at.
CANDIDATES_LIMIT = 64

_PREFIXES = tuple(f"{name}{separator}" for name in AGENT_PACKAGES for separator in "- ")
# Nearly all of a thousand packages are told from these by their beginning, at less than half the cost.
_HEAD_CHARACTERS = 4
_HEADS = frozenset(name[:_HEAD_CHARACTERS] for name in AGENT_PACKAGES)
_NUMBERS = re.compile(r"(?:\d{1,10}:)?(\d{1,10})\.(\d{1,10})(?:\.(\d{1,10}))?(\.\d{1,10})?(?!\d)", re.ASCII)
_RELEASE = re.compile(r"\d{1,10}(?!\d)", re.ASCII)
# Debian's marks of a source that was packed anew; whatever else follows (~rc1, beta) says what the numbers do not.
_REPACKED = re.compile(r"[.+](?:dfsg|ds)[.\d]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class GuestTools:
    """The guest tells its tools; ``report`` is ``None`` when it says that it has none (any more).

    ``updated`` has grown when anything else has changed: see ``UpdatedMark``.
    """

    report: ToolsReport | None
    updated: int


@dataclass(frozen=True, slots=True)
class Applications:
    """The guest listed what is installed; ``report`` is that of its agent's package, ``None`` without one."""

    report: ToolsReport | None


class UpdatedMark:
    """Whether a peer's ``guest-tools`` has to be looked at: only when its ``updated`` has grown."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = -1

    def forget(self) -> None:
        """Another peer may be there, whose clock may be behind."""
        self._last = -1

    def advance(self, updated: int) -> bool:
        """Take the number; says whether it has grown."""
        grown = updated > self._last
        self._last = max(self._last, updated)
        return grown


class _GuestTools(msgspec.Struct, frozen=True):
    installed: bool
    updated: Annotated[int, msgspec.Meta(ge=0, le=UPDATED_LIMIT)]
    not_upgradable: bool | msgspec.UnsetType = msgspec.field(name="notUpgradable", default=msgspec.UNSET)
    major: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    minor: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    micro: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    build: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Applications(msgspec.Struct, frozen=True):
    applications: list[str]


_GUEST_TOOLS = msgspec.json.Decoder(_GuestTools)
_APPLICATIONS = msgspec.json.Decoder(_Applications)
_NUMBER: msgspec.json.Decoder[int] = msgspec.json.Decoder(Annotated[int, msgspec.Meta(ge=0, le=NUMBER_LIMIT)])
_OPTIONAL: msgspec.json.Decoder[int | None] = msgspec.json.Decoder(
    Annotated[int, msgspec.Meta(ge=-1, le=NUMBER_LIMIT)] | None
)
_UPGRADABLE = {True: Tristate.FALSE, False: Tristate.TRUE, msgspec.UNSET: Tristate.UNKNOWN}


def parse_guest_tools(line: bytes) -> GuestTools:
    """The content of a ``guest-tools`` line.

    ``micro`` and ``build`` that are missing, ``null`` or -1 are not told; any other that is no number (builds called
    ``proto-0.5`` are known) makes the version incomplete.

    Raises:
        msgspec.DecodeError: ``installed``, ``updated``, ``notUpgradable`` or, of tools that are installed, ``major`` or
            ``minor`` is not what it has to be.
    """
    told = _GUEST_TOOLS.decode(line)
    if not told.installed:
        return GuestTools(None, told.updated)
    major, minor = (_NUMBER.decode(b"" if raw is msgspec.UNSET else raw) for raw in (told.major, told.minor))
    (micro, micro_read), (build, build_read) = _read_optional(told.micro), _read_optional(told.build)
    version, upgradable = ToolsVersion(major, minor, micro, build), _UPGRADABLE[told.not_upgradable]
    return GuestTools(ToolsReport(Source.GUEST_TOOLS, version, micro_read and build_read, upgradable), told.updated)


def _read_optional(raw: msgspec.Raw | msgspec.UnsetType) -> tuple[int | None, bool]:
    """The number, ``None`` when it was not told; and whether what was told could be read."""
    try:
        number = None if raw is msgspec.UNSET else _OPTIONAL.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None, False
    return None if number == -1 else number, True


def parse_applications(line: bytes) -> Applications:
    """The content of an ``applications`` line.

    Raises:
        msgspec.DecodeError: ``applications`` is no list of texts.
    """
    return Applications(find_tools_version(_APPLICATIONS.decode(line).applications))


def find_tools_version(applications: Iterable[str]) -> ToolsReport | None:
    """The version of the guest's agent among what is installed, whatever the order; of several the newest.

    An entry is ``name-version-release``, or ``name version`` on Windows. The release's leading number is the build; a
    version of four numbers loses the fourth, and the release with it, which says nothing without it.
    """
    likely = [entry for entry in applications if entry[:_HEAD_CHARACTERS] in _HEADS]
    entries = (entry for entry in likely if entry.startswith(_PREFIXES) and len(entry) <= ENTRY_LIMIT_CHARACTERS)
    found = islice(filter(None, map(_read_entry, entries)), CANDIDATES_LIMIT)
    best = max(found, key=_preference, default=None)
    return None if best is None else best[1]


def _preference(found: tuple[int, ToolsReport]) -> tuple[int, list[int], bool]:
    rank, report = found
    return -rank, [-1 if number is None else number for number in report.version.numbers], report.complete


def _read_entry(entry: str) -> tuple[int, ToolsReport] | None:
    """The rank of the entry's package, and its version; ``None`` without a version."""
    rank, text = next(
        (rank, entry[len(name) + 1 :])
        for rank, name in enumerate(AGENT_PACKAGES)
        if entry.startswith(name) and entry[len(name) : len(name) + 1] in ("-", " ")
    )
    upstream, hyphen, release = text.rpartition("-") if "-" in text else (text, "", "")
    numbers, build = _NUMBERS.match(upstream), _RELEASE.match(release)
    if numbers is None:
        return None
    *parts, fourth = numbers.groups()
    rest = upstream[numbers.end() :]
    complete = (not rest or _REPACKED.fullmatch(rest) is not None) and (not hyphen or build is not None)
    suffix = f"-{build[0]}" if build is not None and fourth is None else ""
    try:
        version = ToolsVersion.parse(".".join(part for part in parts if part is not None) + suffix)
    except ValueError:
        return None
    return rank, ToolsReport(Source.APPLICATIONS, version, complete)
