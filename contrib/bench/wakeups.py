"""How often the threads of a process were woken, and what they wrote: what the kernel counts anyway, per thread.

A thread that was not scheduled made no system call; one that was has a context switch more, voluntary (it went back to
sleep) or not. Nothing is attached to the process, so that looking does not wake anybody. Source: proc_pid_status(5),
proc_pid_io(5), proc_pid_syscall(5).
"""

import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab.waiting import wait_for

# poll and ppoll on x86-64, which the lab is made for: in these libvirt's event loop sleeps, and nothing else does.
POLLS = ("7", "271")
STRACE_TIMEOUT_S = 10.0
_SWITCHES = re.compile(r"^(?:non)?voluntary_ctxt_switches:\s*(\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Counts:
    """What threads did: context switches, and the system calls of the kind of read(2) and write(2)."""

    switches: int = 0
    reads: int = 0
    writes: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.switches + other.switches, self.reads + other.reads, self.writes + other.writes)

    def __sub__(self, other: "Counts") -> "Counts":
        return Counts(self.switches - other.switches, self.reads - other.reads, self.writes - other.writes)


def count_threads(pid: int) -> dict[int, Counts]:
    """Each thread's counts so far."""
    return {int(task.name): _count_thread(task) for task in Path(f"/proc/{pid}/task").iterdir()}


def subtract(after: dict[int, Counts], before: dict[int, Counts]) -> dict[int, Counts]:
    """What each thread did between two looks; a new one did all of its own, and one that is gone woke up to end."""
    did = {thread: counts - before.get(thread, Counts()) for thread, counts in after.items()}
    return did | {thread: Counts(switches=1) for thread in before.keys() - after.keys()}


def find_event_thread(pid: int) -> int:
    """The thread that runs libvirt's event loop: the one that sleeps in poll.

    Raises:
        TimeoutError: There is none, or more than one.
    """

    def look() -> int | None:
        found = [task for task in Path(f"/proc/{pid}/task").iterdir() if _current_call(task) in POLLS]
        return int(found[0].name) if len(found) == 1 else None

    return wait_for(look, 5, f"one thread of process {pid} to sleep in poll")


def can_trace() -> bool:
    """Whether strace is there; contrib/setup does not install it."""
    return shutil.which("strace") is not None


@contextmanager
def trace_calls(pids: Iterable[int]) -> Iterator[Counter[int]]:
    """System calls by thread during the block, in one window for all processes, filled in at its end; needs strace."""
    calls: Counter[int] = Counter()
    with tempfile.TemporaryDirectory() as work:
        log, told = Path(work, "calls"), Path(work, "told")
        processes = [f"--attach={pid}" for pid in pids]
        with told.open("w") as errors:
            strace = subprocess.Popen(["strace", "-f", "-ttt", "-o", str(log), *processes], stderr=errors)
        try:
            attached = "attached"
            wait_for(lambda: told.read_text().count(attached) >= len(processes), STRACE_TIMEOUT_S, "strace to attach")
            time.sleep(1)  # attaching wakes every thread once
            begin = time.time()
            yield calls
            end = time.time()
        finally:
            strace.send_signal(signal.SIGINT)  # it lets go of the processes and ends
            strace.wait(STRACE_TIMEOUT_S)
        for line in log.read_text(errors="replace").splitlines():
            thread, moment, call = line.split(None, 2)
            if begin <= float(moment) < end and not call.startswith(("<...", "---", "+++")):
                calls[int(thread)] += 1


def _count_thread(task: Path) -> Counts:
    switches = sum(map(int, _SWITCHES.findall((task / "status").read_text())))
    io = dict(line.split(": ") for line in (task / "io").read_text().splitlines())
    return Counts(switches, int(io["syscr"]), int(io["syscw"]))


def _current_call(task: Path) -> str:
    return (task / "syscall").read_text().split()[0]
