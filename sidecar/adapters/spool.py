"""The hook's spool: small files that say "look at this domain again", turned into notices.

Inotify only wakes us; what counts is what lies in the directory, so that files from before our start, an
overflow of the event queue and a directory that was made anew are no special cases. A file is a hint and never
a fact: what cannot be used is dropped with one log line a kind and scan, and a lost file costs nothing that
libvirt's events do not tell.

File format (``libvirt_hooks/qemu.d/50-sidecar`` writes it): the line ``libvirt-sidecar notice 1``, a line each
with operation and sub-operation, then the domain's raw name, which may hold newlines, ended by NUL.
"""

import asyncio
import errno
import itertools
import logging
import os
import stat
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from asyncinotify import Inotify, Mask

from sidecar.engine.notices import HookNotice
from sidecar.errors import ConfigurationError

_LOG = logging.getLogger(__name__)

_HEADER = b"libvirt-sidecar notice 1\n"
_OPERATIONS = frozenset({b"started", b"reconnect", b"stopped", b"release", b"migrate", b"restore"})

# Header, operation and a name that fits a file name (libvirt keeps a file a domain) take less than 400 bytes.
_LIMIT_BYTES = 4096
# The hook writes its file within a millisecond; one that is unfinished for this long never will be finished.
_UNFINISHED_S = 5.0
# Files a batch: equal notices of a batch become one, and the engine's back pressure is felt between batches.
_BATCH_FILES = 1024
# Files read without letting the event loop run: about 1 ms.
_CHUNK_FILES = 32
# Inotify events taken at once; what is left wakes us again.
_DRAIN_EVENTS = 512
# Between attempts while the directory cannot be used.
_RETRY_S = 2.0
# A directory that comes and goes must not make us spin.
_REARM_S = 0.05

# The end of the directory itself (IGNORED, UNMOUNT) is told unasked.
_WATCHED = Mask.CLOSE_WRITE | Mask.MOVED_TO | Mask.ATTRIB | Mask.MOVE_SELF | Mask.ONLYDIR
# Non-blocking: a FIFO must not make us wait for its writer.
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Problem(Enum):
    """Why an entry gives no notice; the text is for the log."""

    GONE = "gone before it was read"
    YOUNG = "not written to its end yet"
    ABANDONED = "never written to its end"
    IRREGULAR = "no regular file"
    FOREIGN = "owned by another user"
    LARGE = "too large"
    UNKNOWN = "of an unknown format"
    UNREADABLE = "cannot be read"


@dataclass(slots=True)
class _Batch:
    """What one look into the directory gave; with each notice the time of its newest file (ns)."""

    notices: dict[HookNotice, int] = field(default_factory=dict)
    dropped: Counter[Problem] = field(default_factory=Counter)
    is_full: bool = False
    has_young: bool = False


class Spool:
    """Watches the directory and hands each notice to ``deliver``, which may take its time (back pressure)."""

    def __init__(self, directory: Path, deliver: Callable[[HookNotice], Awaitable[None]]) -> None:
        self._directory = directory
        self._deliver = deliver
        self._stuck: set[str] = set()  # what could not be removed: passed over, and logged once only
        self._complaint = ""

    def prepare(self) -> None:
        """Create the directory (0700, missing parents 0755), or check it and mend its permissions.

        Raises:
            ConfigurationError: It is no directory, a link, another user's, or cannot be made or opened.
        """
        try:
            _create_directory(self._directory)
            os.close(_open_directory(self._directory))
        except OSError as error:
            raise ConfigurationError(f"paths.spool: {self._directory}: {error.strerror}") from error

    async def run(self) -> None:
        """Hand on what is in the spool and what comes, until cancelled; trouble with it is only logged."""
        while True:
            try:
                self._stuck.clear()
                self.prepare()
                inotify, identity = self._watch_directory()
            except (ConfigurationError, OSError) as error:
                self._complain(str(error))
                await asyncio.sleep(_RETRY_S)
                continue
            with inotify:
                await self._follow(inotify, identity)
            await asyncio.sleep(_REARM_S)

    def _watch_directory(self) -> tuple[Inotify, tuple[int, int]]:
        """Watch the directory that is at the path now; device and inode tell it from a later one."""
        fd = _open_directory(self._directory)
        try:
            inotify = Inotify(sync_timeout=0)
            try:
                inotify.add_watch(f"/proc/self/fd/{fd}", _WATCHED)
            except OSError:
                inotify.close()
                raise
            return inotify, _identify(fd)
        finally:
            # Kept open it would keep a removed directory alive, and the news of its end from us.
            os.close(fd)

    async def _follow(self, inotify: Inotify, identity: tuple[int, int]) -> None:
        """Empty the directory at every event; return when it is not the watched one any more, or unusable."""
        while (batch := await self._read_batch(identity)) is not None:
            self._complaint = ""
            for problem, count in batch.dropped.items():
                _LOG.warning("spool %a: dropped, %s: %d", str(self._directory), problem.value, count)
            for notice in sorted(batch.notices, key=batch.notices.__getitem__):
                await self._deliver(notice)
            if not batch.is_full:
                await _wait_for_event(inotify, _UNFINISHED_S if batch.has_young else None)

    async def _read_batch(self, identity: tuple[int, int]) -> _Batch | None:
        """Read and remove up to ``_BATCH_FILES`` files; ``None`` when this is not the watched directory."""
        try:
            fd = _open_directory(self._directory)
        except (ConfigurationError, OSError):
            return None  # ``prepare`` finds the same and says so
        try:
            return await self._read_files(fd) if _identify(fd) == identity else None
        except OSError as error:
            self._complain(str(error))
            return None
        finally:
            os.close(fd)

    async def _read_files(self, fd: int) -> _Batch:
        with os.scandir(fd) as entries:
            fresh = (entry.name for entry in entries if entry.name not in self._stuck)
            names = list(itertools.islice(fresh, _BATCH_FILES))
        batch = _Batch()
        removed = 0
        for index, name in enumerate(names):
            if index % _CHUNK_FILES == 0:
                await asyncio.sleep(0)
            if _read_entry(fd, name, batch):
                removed += self._remove(fd, name)
        # With nothing removed another look would find the same.
        batch.is_full = len(names) == _BATCH_FILES and removed > 0
        return batch

    def _remove(self, fd: int, name: str) -> bool:
        for remove in (os.unlink, os.rmdir):
            try:
                remove(name, dir_fd=fd)
            except FileNotFoundError:
                return True
            except OSError:
                continue
            return True
        if len(self._stuck) >= _BATCH_FILES:
            self._stuck.clear()
        self._stuck.add(name)
        return False

    def _complain(self, text: str) -> None:
        """Log trouble with the directory, once until it changes or is over."""
        if text != self._complaint:
            _LOG.error("spool unusable, libvirt's events must do: %a", text)
        self._complaint = text


async def _wait_for_event(inotify: Inotify, limit_s: float | None) -> None:
    """Wait for the next event, or so long, and take what came with it: one look answers them all.

    With nothing to expect nothing wakes us. That the spool's parent is renamed, or something mounted over it, is not
    noticed then: hooks are hints, and libvirt's events tell the same.
    """
    try:
        async with asyncio.timeout(limit_s):
            await inotify.get()
    except TimeoutError:
        return
    for _ in itertools.islice(inotify, _DRAIN_EVENTS):
        pass


def _create_directory(directory: Path) -> None:
    """Create it and its missing parents, whatever the umask; one that exists is left alone."""
    missing = list(itertools.takewhile(lambda path: not path.exists(), directory.parents))
    for path, mode in [(parent, 0o755) for parent in reversed(missing)] + [(directory, 0o700)]:
        try:
            path.mkdir(mode)
        except FileExistsError:
            continue
        path.chmod(mode)


def _open_directory(directory: Path) -> int:
    """Open the spool itself, check its owner and mend its permissions; the caller closes it."""
    if directory.is_symlink():
        raise ConfigurationError(f"paths.spool: {directory}: expected a directory, found a symbolic link")
    fd = os.open(directory, _OPEN_DIRECTORY)
    try:
        _check_directory(directory, fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _check_directory(directory: Path, fd: int) -> None:
    found = os.fstat(fd)
    if found.st_uid != os.geteuid():
        raise ConfigurationError(f"paths.spool: {directory}: expected our own, it belongs to uid {found.st_uid}")
    if mode := found.st_mode & 0o077:
        os.fchmod(fd, 0o700)
        _LOG.warning("spool %a: was open to others (mode ..%02o), now 0700", str(directory), mode)


def _identify(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def _read_entry(fd: int, name: str, batch: _Batch) -> bool:
    """Add what the entry says to the batch; whether it shall be removed now."""
    data, changed_ns = _read_regular(fd, name)
    found = data if isinstance(data, Problem) else parse_notice(data)
    if found is Problem.YOUNG and not 0 <= time.time_ns() - changed_ns < _UNFINISHED_S * 1e9:
        found = Problem.ABANDONED
    match found:
        case HookNotice():
            batch.notices[found] = max(changed_ns, batch.notices.get(found, 0))
        case Problem.YOUNG:
            batch.has_young = True
            return False
        case Problem.GONE:
            return False
        case _:
            batch.dropped[found] += 1
    return True


def _read_regular(fd: int, name: str) -> tuple[bytes | Problem, int]:
    """The bytes of a regular file of our own, and when it was last changed (ns since the epoch)."""
    try:
        file = os.open(name, _OPEN_FILE, dir_fd=fd)
    except FileNotFoundError:
        return Problem.GONE, 0
    except OSError as error:  # ELOOP: a symbolic link; ENXIO: a socket
        irregular = error.errno in (errno.ELOOP, errno.ENXIO)
        return Problem.IRREGULAR if irregular else Problem.UNREADABLE, 0
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            return Problem.IRREGULAR, 0
        if found.st_uid != os.geteuid():
            return Problem.FOREIGN, 0
        data = os.read(file, _LIMIT_BYTES + 1)
        return Problem.LARGE if len(data) > _LIMIT_BYTES else data, found.st_ctime_ns
    except OSError:
        return Problem.UNREADABLE, 0
    finally:
        os.close(file)


def parse_notice(data: bytes) -> HookNotice | Problem:
    """The notice in a file's bytes, or what is wrong with them; ``YOUNG`` when they may be a beginning."""
    if not data.startswith(_HEADER[: len(data)]):
        return Problem.UNKNOWN
    if not data.endswith(b"\0"):
        return Problem.YOUNG
    lines = data[:-1].split(b"\n", 3)
    if len(lines) != 4 or lines[1] not in _OPERATIONS or not lines[3] or b"\0" in lines[3]:
        return Problem.UNKNOWN
    try:
        return HookNotice(domain=lines[3].decode(), operation=lines[1].decode())
    except UnicodeDecodeError:
        return Problem.UNKNOWN
