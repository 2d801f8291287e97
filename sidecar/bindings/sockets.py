"""The files of the API's unix sockets: made so that they are never open to more users than is meant, and removed."""

import contextlib
import errno
import grp
import logging
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from sidecar.errors import ConfigurationError

logger = logging.getLogger(__name__)

# Clients that connect while we are busy for a moment; the limits apply to those that we take from there. asyncio takes
# so many at once, and whoever connects and hangs up all the time must not keep it busy.
BACKLOG = 16

_DIRECTORY_MODE = 0o755


@dataclass(frozen=True, slots=True)
class SocketPlace:
    """Where a socket is to be: ``key`` of the configuration, for errors; ``group`` may use it, where there is one."""

    key: str
    path: Path
    mode: int
    group: str | None = None


class SocketFile:
    """A listening socket and its file; see ``open_socket``."""

    def __init__(self, listener: socket.socket, path: Path) -> None:
        self.listener, self._path = listener, path
        self._identity = _identify(path)

    def remove(self) -> None:
        """Close the socket and remove its file, unless another has taken the place."""
        self.listener.close()
        with contextlib.suppress(OSError):
            if _identify(self._path) == self._identity:
                self._path.unlink()


def open_socket(place: SocketPlace) -> SocketFile:
    """Listen at the place; a socket that nobody serves any more gives way, and nothing else does.

    Raises:
        ConfigurationError: It cannot be; the line names key, path and reason, and nothing was left behind.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.setblocking(False)
    try:
        _make_directory(place.path.parent)
        _clear_way(place.path)
        _bind(listener, place)
    except OSError as error:
        listener.close()
        raise ConfigurationError(f"{place.key}: {place.path}: {error.strerror or error}") from error
    return SocketFile(listener, place.path)


def _make_directory(directory: Path) -> None:
    if not directory.exists():
        _make_directory(directory.parent)
        # Another may make it at the same moment; what counts is that it is there.
        with contextlib.suppress(FileExistsError):
            directory.mkdir(_DIRECTORY_MODE)
            directory.chmod(_DIRECTORY_MODE)  # whatever our umask says


def _clear_way(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.EEXIST, "something that is no socket is there")
    if _is_served(path):
        raise OSError(errno.EADDRINUSE, "another program serves it")
    path.unlink()


def _is_served(path: Path) -> bool:
    """Whether somebody listens; what we cannot find out counts as served."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(str(path)) not in (errno.ECONNREFUSED, errno.ENOENT)


def _bind(listener: socket.socket, place: SocketPlace) -> None:
    # The mode is right from the file's first moment on; the group comes before anybody can connect (``listen``).
    before = os.umask(0o777 & ~place.mode)
    try:
        listener.bind(str(place.path))
    finally:
        os.umask(before)
    try:
        group = _find_group(place)
        if group is not None:
            os.chown(place.path, -1, group, follow_symlinks=False)
        listener.listen(BACKLOG)
    except OSError:
        place.path.unlink()
        raise


def _find_group(place: SocketPlace) -> int | None:
    if place.group is None:
        return None
    try:
        return grp.getgrnam(place.group).gr_gid
    except KeyError:
        logger.warning("%s: there is no group %a: %s is root's alone", place.key, place.group, place.path)
        return None


def _identify(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino
