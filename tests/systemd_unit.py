"""What our systemd units say, and what systemd makes of it, by ``systemd-analyze``: it needs no running systemd."""

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

SYSTEMD_ANALYZE = "/usr/bin/systemd-analyze"

UNITS = Path(__file__).parents[1] / "contrib/systemd"
DAEMON_UNIT = UNITS / "sidecard.service"
GUEST_UNIT = UNITS / "sidecar-guest-agent.service"

Directives = Mapping[str, Sequence[str]]


def read_directives(unit: Path, section: str = "Service") -> Directives:
    """Each directive of a section with its values, in the order in which they stand there."""
    found: dict[str, list[str]] = {}
    here = ""
    for line in unit.read_text().splitlines():
        if line.startswith("["):
            here = line.strip("[]")
        elif here == section and line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def analyze(*arguments: str) -> str:
    """What ``systemd-analyze`` prints."""
    command = [SYSTEMD_ANALYZE, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def judge_exposure(unit: Path) -> tuple[float, list[str]]:
    """systemd's overall exposure level, from 0 to 10, and what adds to it, by the names in its own report."""
    rows = json.loads(analyze("security", "--offline=true", "--json=short", str(unit)))
    open_rows = [row["json_field"] for row in rows if row["set"] is False]
    total = analyze("security", "--offline=true", "--no-pager", str(unit)).rsplit(":", 1)[1]
    return float(total.split()[0]), open_rows


def allowed_calls(filters: Iterable[str]) -> set[str]:
    """The names of the system calls that these lines of ``SystemCallFilter=``, the first an allow list, let through."""
    groups = _read_groups()
    allowed = _expand("@default", groups)
    for line in filters:
        names = {name for word in line.lstrip("~").split() for name in _expand(word, groups)}
        allowed = allowed - names if line.startswith("~") else allowed | names
    return allowed


def _read_groups() -> Mapping[str, Sequence[str]]:
    """The members of each of systemd's groups: system calls, and other groups."""
    found: dict[str, list[str]] = {}
    members: list[str] = []
    for line in analyze("syscall-filter", "--no-pager").splitlines():
        if line.startswith("@"):
            members = found.setdefault(line, [])
        elif line.startswith("    ") and not line.lstrip().startswith("#"):
            members.append(line.strip())
        elif not line.startswith(" "):
            members = []  # what follows belongs to no group
    return found


def _expand(word: str, groups: Mapping[str, Sequence[str]]) -> set[str]:
    """A group's system calls, those of the groups in it included, or a single one's name."""
    if not word.startswith("@"):
        return {word}
    return {name for member in groups[word] for name in _expand(member, groups)}


def capability_numbers(names: Iterable[str]) -> set[int]:
    """The kernel's numbers of these capabilities."""
    rows = [line.split() for line in analyze("capability", "--no-pager").splitlines()[1:]]
    numbers = {row[0].upper(): int(row[1]) for row in rows}
    return {numbers[name] for name in names}
