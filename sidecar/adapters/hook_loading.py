"""Whether libvirt runs the hook: it looks for hooks when it starts and at SIGHUP, and runs none unless it saw one then.

Nothing tells what libvirt saw. What can be seen is evidence: a hook has run since libvirt started, or there was one
when it did. After a SIGHUP alone there is neither, until the next hook runs.

Source: libvirt's ``src/util/virhook.c``; proc_pid_stat(5).
"""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Touched by sidecard at each notice of the hook's, in its state directory.
SEEN_NAME = "hook-seen"

RUN = Path("/run")
PROC = Path("/proc")

_DAEMONS = ("libvirtd", "virtqemud")

# Field 22 of proc_pid_stat(5), counted from the one after the command in parentheses, which is field 3.
_START_TIME = 22 - 3


@dataclass(frozen=True, slots=True)
class LibvirtProcess:
    """The libvirt daemon that runs QEMU domains here, and when it started (seconds since the epoch)."""

    name: str
    pid: int
    started_at: float


def note_hook_run(state: Path) -> None:
    """A hook of ours has run: remember when, for ``is_hook_loaded``. A state directory that is gone is no matter."""
    with contextlib.suppress(OSError):
        (state / SEEN_NAME).touch(0o644)


def find_libvirt(run: Path = RUN, proc: Path = PROC) -> LibvirtProcess | None:
    """The running libvirt daemon, by its pid file; ``None``: it does not run, and looks for hooks when it starts."""
    for name in _DAEMONS:
        for file in (run / f"{name}.pid", run / "libvirt" / f"{name}.pid"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                pid = int(file.read_bytes())
                if (proc / str(pid) / "comm").read_bytes().strip() == name.encode():
                    return LibvirtProcess(name, pid, _started_at(proc / str(pid)))
    return None


def is_hook_loaded(libvirt: LibvirtProcess, hooks_directory: Path, state: Path, spool: Path) -> bool:
    """Whether there is evidence that this libvirt looks for hooks at every event."""
    seen = _times([state / SEEN_NAME])
    with contextlib.suppress(OSError):
        seen = [*seen, *_times(spool.iterdir())]  # what a daemon that is down has not read yet
    if any(at > libvirt.started_at for at in seen):
        return True
    scripts = [hooks_directory / "qemu", *(hooks_directory / "qemu.d").glob("*")]
    return any(at < libvirt.started_at for at in _times(path for path in scripts if os.access(path, os.X_OK)))


def _times(paths: "Iterator[Path] | list[Path]") -> list[float]:
    """When each of the files was changed last, permissions included."""
    times = []
    for path in paths:
        with contextlib.suppress(OSError):
            times.append(path.stat().st_ctime)
    return times


def _started_at(process: Path) -> float:
    ticks = int((process / "stat").read_bytes().rpartition(b")")[2].split()[_START_TIME])
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age_s
