"""How full the guest's file systems are, and under which names it has the disks that the host knows by their serials.

Source: statvfs(3); Documentation/ABI of Linux for ``serial`` (virtio-blk, NVMe, MMC) and ``vpd_pg80`` (SCSI).
"""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from sidecar.guest.reports.bounds import bound_items, report_text
from sidecar.guest.reports.mounts import Mount, find_local_mounts
from sidecar.guest.reports.system_files import read_bytes, read_word

# A guest has at most some hundred disks; loop devices and the like have no serial.
DISKS_LIMIT = 1000
# virtio-blk gives 20 characters, SCSI's page 252.
SERIAL_LIMIT_CHARACTERS = 256

# Where each kind of disk has its serial as a text.
_SERIALS = ("serial", "device/serial")
# The page has it behind a header of this size, whose last two bytes are its length.
_PAGE = "device/vpd_pg80"
_PAGE_HEADER_BYTES = 4


def report_disks(ignored: frozenset[str] = frozenset(), root: Path = Path("/")) -> dict[str, object]:
    """disks-usage: sizes in bytes, and the device of each serial. A mount point that cannot be looked at is left out.

    Raises:
        OSError: The mount table cannot be read.
    """
    rows = (_measure(root, mount) for mount in find_local_mounts(root, ignored))
    disks = bound_items((row for row in rows if row is not None), DISKS_LIMIT)
    named = bound_items(islice(_find_serials(root), DISKS_LIMIT), DISKS_LIMIT)
    # Two paths to one disk have its serial both: the first one serves.
    return {"disks": disks, "mapping": {serial: {"name": device} for serial, device in reversed(named)}}


def _measure(root: Path, mount: Mount) -> dict[str, object] | None:
    try:
        found = os.statvfs(os.fsencode(root).rstrip(b"/") + mount.path)
    except (OSError, ValueError):
        return None
    return {
        "path": report_text(os.fsdecode(mount.path)),
        "fs": report_text(os.fsdecode(mount.kind)),
        "total": found.f_blocks * found.f_frsize,
        "used": (found.f_blocks - found.f_bfree) * found.f_frsize,
    }


def _find_serials(root: Path) -> Iterator[tuple[str, str]]:
    """Pairs of serial and device; none where the kernel shows no disks."""
    try:
        names = sorted(os.listdir(root / "sys/block"))
    except OSError:
        return
    for name in names:
        serial = report_text(_read_serial(root / "sys/block" / name), SERIAL_LIMIT_CHARACTERS)
        if serial:
            # The kernel writes a slash in a device's name as an exclamation mark.
            yield serial, report_text("/dev/" + name.replace("!", "/"))


def _read_serial(disk: Path) -> str:
    for name in _SERIALS:
        try:
            serial = read_word(disk / name)
        except OSError:
            continue
        if serial:
            return serial
    return _read_page(disk)


def _read_page(disk: Path) -> str:
    try:
        page = read_bytes(disk / _PAGE)
    except OSError:
        return ""
    length = int.from_bytes(page[_PAGE_HEADER_BYTES - 2 : _PAGE_HEADER_BYTES], "big")
    return os.fsdecode(page[_PAGE_HEADER_BYTES:][:length].strip(b" \t\r\n\0"))
