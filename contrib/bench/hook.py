"""Bench (a): the installed hook against a shell that does nothing; at most 1.5 times its time.

The hook is the file that ``sidecarctl hooks install`` writes, its spool is on a tmpfs as /run is, and both arms are
started as libvirt starts a hook: posix_spawn, a small environment, wait. The arms alternate, so that whatever else
the machine does hits both.
"""

import contextlib
import io
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from contrib.bench.bare_hook import COMMAND as BARE_COMMAND
from sidecar.cli import main as sidecarctl

LIMIT = 1.5
_WARM_UP_RUNS = 20
_ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/"}
# Emptied now and then, as the daemon would.
_SPOOL_FILES = 50


def measure(runs: int) -> dict[str, object]:
    """Time both arms ``runs`` times each, alternating; times in microseconds, ``ratio`` of the medians."""
    with _install_hook() as (hook, spool):
        arms = {"hook": (str(hook), "vm1", "started", "begin", "-"), "bare": BARE_COMMAND}
        times: dict[str, list[float]] = {name: [] for name in arms}
        for run in range(_WARM_UP_RUNS + runs):
            for name, command in arms.items():
                elapsed_us = _time_run(command)
                if run >= _WARM_UP_RUNS:
                    times[name].append(elapsed_us)
            if run % _SPOOL_FILES == 0:
                _empty(spool)
    p50 = {name: statistics.median(values) for name, values in times.items()}
    ratio = p50["hook"] / p50["bare"]
    return {
        "name": "hook",
        "unit": "us",
        "runs": runs,
        "p50": p50,
        "ratio": ratio,
        "limit": LIMIT,
        "passed": ratio <= LIMIT,
        "raw": times,
    }


@contextlib.contextmanager
def _install_hook() -> Iterator[tuple[Path, Path]]:
    with tempfile.TemporaryDirectory() as work, tempfile.TemporaryDirectory(dir=_find_tmpfs()) as memory:
        spool, configuration = Path(memory, "spool"), Path(work, "sidecar.toml")
        spool.mkdir(0o700)
        configuration.write_text(f'[paths]\nspool = "{spool}"\n')
        with contextlib.redirect_stdout(io.StringIO()):
            code = sidecarctl.main(["hooks", "install", "--hooks-dir", f"{work}/hooks", f"--config={configuration}"])
        if code:
            raise SystemExit("the hook could not be installed")
        hook = Path(work, "hooks/qemu.d/50-sidecar")
        _time_run((str(hook), "vm1", "started", "begin", "-"))
        if not list(spool.iterdir()):
            raise SystemExit("the hook left no file: nothing to measure")
        yield hook, spool


def _find_tmpfs() -> str | None:
    """A directory on a tmpfs; ``None``, the default for temporary files, where there is none."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    tmpfs = {fields[1] for fields in mounts if fields[2] == "tmpfs"}
    return next((path for path in ("/run", "/dev/shm") if path in tmpfs and os.access(path, os.W_OK)), None)


def _time_run(command: tuple[str, ...]) -> float:
    start_ns = time.perf_counter_ns()
    pid = os.posix_spawn(command[0], command, _ENVIRONMENT)
    _, status = os.waitpid(pid, 0)
    elapsed_us = (time.perf_counter_ns() - start_ns) / 1000
    if status:
        raise SystemExit(f"{command[0]}: wait status {status}")
    return elapsed_us


def _empty(spool: Path) -> None:
    for file in spool.iterdir():
        file.unlink()
