"""Which packages are installed: of those that a host cares about, or of all.

dpkg's database is read as it is, a line at a time, because it has many megabytes and the agent has not; rpm is asked.

Source: dpkg(1) and deb822(5) for the database, rpm(8) for the query.
"""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from sidecar.guest.reports.bounds import bound_items, report_text
from sidecar.guest.reports.child_output import NOT_FOUND, run_program
from sidecar.guest.reports.system_files import open_regular

DEFAULT_PATTERNS = (
    # Kernels, as Red Hat, SUSE, and Debian call them.
    *("kernel", "kernel-core", "kernel-default", "linux-image*"),
    # What makes a guest a good guest: agents, ours first, and drivers of its console.
    *("libvirt-sidecar*", "ovirt-guest-agent*", "rhevm-guest-agent*", "qemu-guest-agent", "qemu-ga"),
    *("xe-guest-utilities*", "open-vm-tools", "spice-vdagent"),
    *("xserver-xorg-video-qxl", "xorg-x11-drv-qxl"),
)
"""What oVirt's agent reports unless it is told otherwise, with the guest tools that exist beside it."""

# A desktop with everything has 5000.
PACKAGES_LIMIT = 10_000
_NAME_CHARACTERS = 256

# A database of 5000 packages has 10 MB; reading more than this would keep a CPU busy for seconds.
_STATUS_LIMIT_BYTES = 128 * 1024 * 1024
# No field that we want is longer; the rest of a longer line is dropped.
_LINE_LIMIT_BYTES = 64 * 1024
_FIELDS = (b"Package:", b"Status:", b"Version:")
# dpkg counts those that wait for a trigger as configured.
_INSTALLED = frozenset((b"installed", b"triggers-awaited", b"triggers-pending"))

# Where rpm keeps its database: an rpm without one (as busybox has) knows nothing.
_RPM_DATABASES = ("var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm")
_RPM = ("rpm", "-qa", "--qf", "%{name}\t%{version}-%{release}\n")
# With a cold cache, on a slow disk; another rpm that holds the database makes it wait.
_RPM_LIMIT_S = 20.0
_RPM_LIMIT_BYTES = 2 * 1024 * 1024

_Package = tuple[bytes, bytes]


def report_packages(patterns: Sequence[str] = DEFAULT_PATTERNS, root: Path = Path("/")) -> dict[str, object]:
    """applications: ``name-version`` of the packages whose name one of the shell patterns fits, sorted.

    Raises:
        OSError: The database cannot be read, or rpm failed. Without either there are none, and no error.
    """
    fits = _compile(patterns)
    wanted = (
        f"{_decode(name)}-{_decode(version)}"
        for name, version in _find_installed(root)
        if fits.fullmatch(_decode(name))
    )
    return {"applications": bound_items(sorted(set(islice(wanted, PACKAGES_LIMIT))), PACKAGES_LIMIT)}


def _compile(patterns: Sequence[str]) -> re.Pattern[str]:
    import fnmatch

    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns) or "(?!)")


def _decode(text: bytes) -> str:
    return report_text(text.decode(errors="replace"), _NAME_CHARACTERS)


def _find_installed(root: Path) -> Iterator[_Package]:
    """What dpkg has installed, or rpm where dpkg has nothing: either may be there as a mere tool."""
    is_empty = True
    for package in _read_dpkg(root / "var/lib/dpkg/status"):
        is_empty = False
        yield package
    if is_empty and any((root / database).is_dir() for database in _RPM_DATABASES):
        yield from _ask_rpm()


def _read_dpkg(status: Path) -> Iterator[_Package]:
    """The installed packages of dpkg's database, which is replaced as a whole: an open one does not change."""
    try:
        file = open_regular(status)
    except FileNotFoundError:
        return
    with file:
        for paragraph in _read_paragraphs(file):
            name, version = paragraph.get(b"Package"), paragraph.get(b"Version")
            # Three words: what is wanted, whether that is in order, and how it is.
            state = paragraph.get(b"Status", b"").rpartition(b" ")[2]
            if name and version and state in _INSTALLED:
                yield name, version


def _read_paragraphs(file: BinaryIO) -> Iterator[dict[bytes, bytes]]:
    """The fields that we want of each paragraph."""
    fields: dict[bytes, bytes] = {}
    for line in _read_lines(file):
        if line == b"\n":
            yield fields
            fields = {}
        elif line.startswith(_FIELDS):
            name, _, value = line.partition(b":")
            fields[name] = value.strip()
    yield fields


def _read_lines(file: BinaryIO) -> Iterator[bytes]:
    """The beginning of each line, with its LF if that is within the limit."""
    left = _STATUS_LIMIT_BYTES
    is_start = True
    for line in iter(partial(file.readline, _LINE_LIMIT_BYTES), b""):
        left -= len(line)
        if left < 0:
            raise OSError(f"the database has more than {_STATUS_LIMIT_BYTES} bytes")
        if is_start:
            yield line
        is_start = line.endswith(b"\n")


def _ask_rpm() -> Iterator[_Package]:
    output = run_program(_RPM, _RPM_LIMIT_S, _RPM_LIMIT_BYTES)
    if output.status == NOT_FOUND:
        return
    if output.status != 0:
        raise OSError(f"rpm ended with status {output.status}")
    for line in output.data.splitlines():
        name, _, version = line.partition(b"\t")
        if name and version:
            yield name, version
