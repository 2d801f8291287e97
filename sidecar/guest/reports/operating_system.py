"""Which operating system runs in the guest, and on how many CPUs.

Source: os-release(5), uname(2), Documentation/admin-guide/cputopology.rst of Linux.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from sidecar.guest.reports.bounds import report_text
from sidecar.guest.reports.system_files import read_lines, read_word

# A host takes an empty version or architecture for a broken message.
_UNKNOWN = "unknown"
_UNKNOWN_COUNT = -1
# More than any kernel can be built for; a range up to 2^64 is no list of CPUs.
_CPU_LIMIT = 65536

_ASSIGNMENT = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)=(.*)")
_ESCAPED = re.compile(r"\\(.)")
_RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")
# "VERSION" of those that have no codename of their own: 7 (Core).
_PARENTHESES = re.compile(r"\(([^()]+)\)")

Uname = Callable[[], os.uname_result]


def report_os_version(uname: Uname = os.uname) -> dict[str, object]:
    """os-version: the kernel's release, which on Linux is what oVirt calls so."""
    return {"version": report_text(uname().release)}


def report_os_info(root: Path = Path("/"), uname: Uname = os.uname) -> dict[str, object]:
    """os-info: every value is a text; ``version``, ``arch`` and ``type`` are never empty."""
    release = _read_os_release(root)
    kernel = uname()
    codename = release.get("VERSION_CODENAME") or _find_codename(release.get("VERSION", ""))
    texts = {
        "version": release.get("VERSION_ID") or release.get("BUILD_ID") or _UNKNOWN,
        "distribution": release.get("NAME", ""),
        "codename": codename,
        "arch": kernel.machine or _UNKNOWN,
        "type": "linux",
        "kernel": kernel.release,
    }
    return {key: report_text(text) for key, text in texts.items()}


def report_cpu_count(root: Path = Path("/")) -> dict[str, object]:
    """number-of-cpus: those on line, which is what a hotplug changes; -1 when nobody knows."""
    try:
        text = read_word(root / "sys/devices/system/cpu/online")
    except OSError:
        return {"count": os.cpu_count() or _UNKNOWN_COUNT}
    return {"count": _count_cpus(text)}


def _count_cpus(text: str) -> int:
    """The size of a list such as ``0-2,5``."""
    count = 0
    for part in text.split(","):
        found = _RANGE.fullmatch(part)
        if found is None:
            return _UNKNOWN_COUNT
        first, last = int(found[1]), int(found[2] or found[1])
        count += max(last - first + 1, 0)
    return count if 0 < count <= _CPU_LIMIT else _UNKNOWN_COUNT


def _read_os_release(root: Path) -> Mapping[str, str]:
    for name in ("etc/os-release", "usr/lib/os-release"):
        try:
            return _parse_assignments(os.fsdecode(line) for line in read_lines(root / name))
        except OSError:
            continue
    return {}


def _parse_assignments(lines: Iterable[str]) -> dict[str, str]:
    """Names and values of lines as a shell has them; comments and all that is no assignment do not count."""
    matches = (_ASSIGNMENT.fullmatch(line) for line in lines)
    return {found[1]: _unquote(found[2].strip()) for found in matches if found is not None}


def _unquote(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == "'":
        return value[1:-1]
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = value[1:-1]
    return _ESCAPED.sub(r"\1", value)


def _find_codename(version: str) -> str:
    found = _PARENTHESES.search(version)
    return found[1] if found else ""
