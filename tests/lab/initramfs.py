"""Writes a Linux initramfs: the "newc" cpio format, uncompressed.

Written here and not by cpio(1): the result depends on its inputs alone, and nothing is staged in a directory
first. Uncompressed, because under TCG unpacking costs more than reading.
"""

import stat
from pathlib import Path, PurePosixPath

_MAGIC = "070701"
_TRAILER = "TRAILER!!!"


class Archive:
    """An initramfs in the making; the directories above an entry come into being by themselves."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._names: set[str] = set()
        self._size = 0

    def add_directory(self, path: str, mode: int = 0o755) -> None:
        """Adds a directory; one that is there already stays as it is."""
        name = path.strip("/")
        if name and name not in self._names:
            self._add_parents(name)
            self._write(name, stat.S_IFDIR | mode, b"")

    def add_bytes(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Adds a regular file."""
        name = path.strip("/")
        self._add_parents(name)
        self._write(name, stat.S_IFREG | mode, data)

    def add_file(self, path: str, source: Path) -> None:
        """Adds a copy of a file of this machine, with its permissions; symlinks are followed."""
        self.add_bytes(path, source.read_bytes(), stat.S_IMODE(source.stat().st_mode))

    def add_symlink(self, path: str, target: str) -> None:
        """Adds a symbolic link."""
        name = path.strip("/")
        self._add_parents(name)
        self._write(name, stat.S_IFLNK | 0o777, target.encode())

    def __contains__(self, path: str) -> bool:
        return path.strip("/") in self._names

    def finish(self) -> bytes:
        """The whole archive."""
        self._write(_TRAILER, 0, b"")
        return b"".join(self._chunks)

    def _add_parents(self, name: str) -> None:
        for parent in reversed(PurePosixPath(name).parents):
            self.add_directory(str(parent) if str(parent) != "." else "")

    def _write(self, name: str, mode: int, data: bytes) -> None:
        if name in self._names:
            raise ValueError(f"{name} is in the archive already")
        self._names.add(name)
        encoded = name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        # inode, mode, uid, gid, links, mtime, size, device (2), special device (2), length of name, checksum
        fields = (len(self._names), mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
        self._append(_MAGIC.encode() + b"".join(b"%08X" % field for field in fields) + encoded)
        self._append(data)

    def _append(self, data: bytes) -> None:
        """Every header with its name, and every body, begins at a multiple of four."""
        padding = -(self._size + len(data)) % 4
        self._chunks.append(data + b"\0" * padding)
        self._size += len(data) + padding
