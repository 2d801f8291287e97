"""Which file systems are mounted where, of those that can be looked at without waiting for another machine.

The kernel's own table, because psutil's leaves out what is needed: the device number, by which a bind mount is known,
and the network file systems, below which a path must not be walked.

Source: proc(5), /proc/pid/mountinfo and /proc/filesystems.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from sidecar.guest.reports.system_files import read_lines

# A container host's table is long, its local file systems are few.
MOUNTS_LIMIT = 1000

# A path through one of these waits for a server, or for a program in the guest. Some have a device all the same.
_REMOTE = frozenset(b"9p afs autofs ceph cifs fuse gfs gfs2 lustre ncpfs nfs nfs4 ocfs2 smb3 smbfs virtiofs".split())
_FUSE = b"fuse."

_ESCAPED = re.compile(rb"\\([0-7]{3})")
# Fields before the separator, after which type and source follow.
_FIELDS = 6


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the table.

    Attributes:
        device: The file system's number, as in ``8:1``.
        top: Which of its directories is mounted; ``/`` unless it is a bind mount or a subvolume.
        path: Where.
        kind: The type, such as ``ext4``.
    """

    device: bytes
    top: bytes
    path: bytes
    kind: bytes


def find_local_mounts(root: Path = Path("/"), ignored: frozenset[str] = frozenset()) -> list[Mount]:
    """Each local file system once, where it is mounted as a whole if it is, in the table's order.

    Raises:
        OSError: The kernel's tables cannot be read.
    """
    visible = {mount.path: mount for mount in _read_table(root)}  # the last one mounted there is the one seen
    # What the agent itself stands on has to answer anyway.
    barred = tuple(path + b"/" for path, mount in visible.items() if _is_remote(mount.kind) and path != b"/")
    kinds = _read_kinds(root) - {kind.encode(errors="surrogateescape") for kind in ignored}
    local = (mount for mount in visible.values() if mount.kind in kinds and not mount.path.startswith(barred))
    return list(islice(_drop_copies(local), MOUNTS_LIMIT))


def _drop_copies(mounts: Iterable[Mount]) -> Iterator[Mount]:
    chosen: dict[bytes, Mount] = {}
    for mount in mounts:
        known = chosen.get(mount.device)
        if known is None or (mount.top == b"/" and known.top != b"/"):
            chosen[mount.device] = mount
    return iter(chosen.values())


def _read_table(root: Path) -> Iterator[Mount]:
    for line in read_lines(root / "proc/self/mountinfo"):
        front, separator, back = line.partition(b" - ")
        fields, rest = front.split(b" "), back.split(b" ")
        if separator and len(fields) >= _FIELDS:
            yield Mount(fields[2], _unescape(fields[3]), _unescape(fields[4]), _unescape(rest[0]))


def _read_kinds(root: Path) -> frozenset[bytes]:
    """File systems that lie on a device, and ZFS, which keeps its devices to itself."""
    lines = (line.split(b"\t") for line in read_lines(root / "proc/filesystems"))
    kinds = frozenset(line[1] for line in lines if len(line) == 2 and (line[0] != b"nodev" or line[1] == b"zfs"))
    return frozenset(kind for kind in kinds if not _is_remote(kind))


def _is_remote(kind: bytes) -> bool:
    return kind in _REMOTE or kind.startswith(_FUSE)


def _unescape(text: bytes) -> bytes:
    """White space and backslashes stand in the table as octal numbers."""
    return _ESCAPED.sub(lambda found: bytes((int(found[1], 8) & 0xFF,)), text)
