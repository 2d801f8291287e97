"""Child processes with a time limit, none of which anybody waits for: the loop is told when one has ended.

A child's end makes its pidfd readable. One that takes too long is killed with its process group, and counts as ended
then: what hangs in a system call, on a dead file server for instance, may never end.
"""

import contextlib
import logging
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

logger = logging.getLogger(__name__)

# A host may ask for much at once; an honest one does not ask for more than one or two things at a time.
RUNNING_LIMIT = 8

# What is killed is gone at once, unless it hangs in a system call; nobody who stops the agent waits for that.
CLOSE_S = 0.3

_INFINITY = float("inf")

Ended = Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    name: str
    kill_at: float
    ended: Ended | None
    """``None``: it was told already."""


class Programs:
    """Starts, watches and ends child processes; everything happens in ``start``, ``reap`` and ``tick``."""

    def __init__(self, epoll: select.epoll) -> None:
        self._epoll = epoll
        self._children: dict[int, _Child] = {}

    def start(
        self,
        command: Sequence[str] | Sequence[bytes],
        limit_s: float,
        ended: Ended,
        *,
        stdin: bytes = b"",
        extra: Mapping[str, str],
    ) -> bool:
        """Start a program; false when it could not be started, which is logged.

        Args:
            command: The program, as a path or found on ``PATH``, and its arguments.
            limit_s: After so many seconds it is killed.
            ended: Called once when it has ended, however it did, or has been killed.
            stdin: What it reads.
            extra: Environment variables beside our own.
        """
        name = os.fsdecode(command[0])
        if len(self._children) >= RUNNING_LIMIT:
            logger.warning("%s: not started: %d programs run already", name, RUNNING_LIMIT)
            return False
        try:
            with _hold(stdin) as file:
                process = subprocess.Popen(
                    command,
                    stdin=file,
                    stdout=subprocess.DEVNULL,
                    env={**os.environ, **extra},
                    start_new_session=True,
                )
        except (OSError, ValueError) as error:
            logger.warning("%s: not started: %s", name, error)
            return False
        pidfd = os.pidfd_open(process.pid)
        self._epoll.register(pidfd, select.EPOLLIN)
        self._children[pidfd] = _Child(process, name, time.monotonic() + limit_s, ended)
        return True

    @property
    def deadline(self) -> float:
        """When ``tick`` wants to be called: monotonic seconds; infinity while nothing runs."""
        return min((child.kill_at for child in self._children.values()), default=_INFINITY)

    def tick(self, now: float) -> None:
        """Kill what has had its time."""
        for pidfd, child in list(self._children.items()):
            if now >= child.kill_at and child.ended is not None:
                logger.warning("%s: killed: it did not end in time", child.name)
                _kill(child.process.pid)
                self._children[pidfd] = replace(child, kill_at=_INFINITY, ended=None)
                child.ended()

    def reap(self, fd: int) -> bool:
        """An event on this descriptor: whether it was a child's, which has ended then."""
        child = self._children.pop(fd, None)
        if child is None:
            return False
        self._epoll.unregister(fd)
        os.close(fd)
        status = child.process.wait()
        if child.ended is not None:
            if status != 0:
                logger.warning("%s: ended with status %d", child.name, status)
            child.ended()
        return True

    def close(self) -> None:
        """Kill what runs still; nobody is told."""
        for child in self._children.values():
            _kill(child.process.pid)
        end = time.monotonic() + CLOSE_S
        for child in self._children.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(max(0.0, end - time.monotonic()))


def _hold(data: bytes) -> BinaryIO:
    """A file of no file system that holds the data: a pipe would make us wait where it takes less than all."""
    file = os.fdopen(os.memfd_create("stdin"), "w+b")
    file.write(data)
    file.seek(0)
    return file


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
