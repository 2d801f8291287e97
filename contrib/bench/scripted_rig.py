"""Scripted guests on real unix sockets, and what serves their channels: each in a process of its own, given orders."""

import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from contrib.bench import scripted_arms
from contrib.bench.scripted_peers import serve_peers
from tests.lab.waiting import wait_for

ARMS: dict[str, Callable[..., None]] = {"sidecard": scripted_arms.serve_ours, "bare": scripted_arms.serve_bare}
COUNTS = (1, 10, 100, 1000)

ORDER_TIMEOUT_S = 180.0

# The highest of the usual ones. A real-time process shares a CPU with its like in turns of 100 ms, and stands for 50 ms
# in each second that it would use up: stalls that would be measured as ours.
NICENESS = -20

# A process that was spawned knows of the parent only what it is given, and its memory is its own.
_CONTEXT = multiprocessing.get_context("spawn")


class Worker:
    """A process that obeys orders, one at a time."""

    def __init__(self, serve: Callable[..., None], *arguments: object) -> None:
        """Returns once it is ready."""
        self._orders, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=serve, args=(theirs, *arguments), daemon=True)
        self._process.start()
        theirs.close()
        self.finish()

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process.pid is not None
        return self._process.pid

    def hurry(self) -> None:
        """From now on it goes before what else the machine does, for what is timed by the clock on the wall."""
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, self.pid, NICENESS)

    @property
    def cpu_s(self) -> float:
        """The CPU time of all its threads so far; nobody is woken."""
        return time.clock_gettime((~self.pid << 3) | 2)  # clock_getcpuclockid(3), which Python does not have

    def order(self, method: str, *arguments: object) -> Any:
        """Have it done, and wait for what comes of it."""
        self.begin(method, *arguments)
        return self.finish()

    def begin(self, method: str, *arguments: object) -> None:
        """Have it done; ``finish`` is what comes of it."""
        self._orders.send((method, *arguments))

    def finish(self) -> Any:
        """What came of the last order.

        Raises:
            SystemExit: The process has died, or hangs.
        """
        try:
            if self._orders.poll(ORDER_TIMEOUT_S):
                return self._orders.recv()
        except EOFError:
            pass
        raise SystemExit("a process of the bench does not answer")

    def end(self) -> None:
        """It ends by itself when nobody orders any more."""
        self._orders.close()
        self._process.join(ORDER_TIMEOUT_S)


@contextmanager
def open_peers(count: int, facts: bytes = b"") -> Iterator[tuple[Worker, list[str]]]:
    """So many guests, and the paths of their channels."""
    directory = Path(tempfile.mkdtemp(prefix="sidecar-bench-"))
    paths = [str(directory / f"{index}.sock") for index in range(count)]
    try:
        peers = Worker(serve_peers, paths, facts)
        try:
            yield peers, paths
        finally:
            peers.end()
    finally:
        shutil.rmtree(directory)


@contextmanager
def open_arm(arm: str) -> Iterator[Worker]:
    """What serves channels, which has none yet."""
    worker = Worker(ARMS[arm])
    try:
        yield worker
    finally:
        worker.end()


@contextmanager
def serve_all(arm: str, peers: Worker, paths: Sequence[str]) -> Iterator[Worker]:
    """What serves all these channels, on which all is agreed; afterwards the guests have seen it go."""
    with open_arm(arm) as worker:
        worker.order("connect", paths, peers.pid)
        yield worker
    wait_alone(peers)


def wait_alone(peers: Worker) -> None:
    """Returns when no guest has a host any more."""
    wait_for(lambda: not peers.order("count"), ORDER_TIMEOUT_S, "the guests to be without a host")
