"""Bench (a): the installed hook against a shell that does nothing; at most 1.5 times its time.

At ``migrate`` the hook reads the incoming XML, to look for a policy; with 16 KB of it, which names none, it may take 3
times as long as an empty script that is given the same.

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
MIGRATE_LIMIT = 3.0
_WARM_UP_RUNS = 20
_ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/"}
# Emptied now and then, as the daemon would.
_SPOOL_FILES = 50
# The size of a real domain's XML; what else is in it does not matter, as long as it names no policy.
_XML = b"<domain type='kvm'>" + b"<disk type='file' device='disk'/>\n" * 481 + b"</domain>\n"


def measure(runs: int) -> dict[str, object]:
    """Time the hook at ``started`` and the bare shell ``runs`` times each; microseconds, ``ratio`` of the medians."""
    with _install_hook() as (hook, spool):
        arms = {"hook": (str(hook), "vm1", "started", "begin", "-"), "bare": BARE_COMMAND}
        result = _compare("hook", arms, b"", spool, runs, LIMIT)
        growth = {str(count): _time_among(arms["hook"], spool, count, runs // 4) for count in (1, 10, 100, 1000)}
    return {**result, "growth": growth, "growth_of": "us with so many guests' files in the spool"}


def measure_migrate(runs: int) -> dict[str, object]:
    """Likewise at ``migrate``, with 16 KB of XML, against an empty script."""
    with _install_hook() as (hook, spool), tempfile.TemporaryDirectory() as work:
        empty = Path(work, "empty")
        empty.write_text("#!/bin/sh\nexit 0\n")
        empty.chmod(0o755)
        step = ("vm1", "migrate", "begin", "-")
        return _compare(
            "hook-migrate", {"hook": (str(hook), *step), "empty": (str(empty), *step)}, _XML, spool, runs, MIGRATE_LIMIT
        )


def _compare(
    name: str, arms: dict[str, tuple[str, ...]], stdin: bytes, spool: Path, runs: int, limit: float
) -> dict[str, object]:
    ours, theirs = arms
    times: dict[str, list[float]] = {arm: [] for arm in arms}
    for run in range(_WARM_UP_RUNS + runs):
        for arm, command in arms.items():
            elapsed_us = _time_run(command, stdin)
            if run >= _WARM_UP_RUNS:
                times[arm].append(elapsed_us)
        if run % _SPOOL_FILES == 0:
            _empty(spool)
    p50 = {arm: statistics.median(values) for arm, values in times.items()}
    ratio = p50[ours] / p50[theirs]
    return {
        "name": name,
        "unit": "us",
        "runs": runs,
        "p50": p50,
        "ratio": ratio,
        "limit": limit,
        "passed": ratio <= limit,
        "raw": times,
    }


def _time_among(command: tuple[str, ...], spool: Path, count: int, runs: int) -> float:
    """Median microseconds of the hook where so many files wait for a daemon that is down."""
    _empty(spool)
    for number in range(count):
        (spool / f"waiting-{number}").touch()
    elapsed_us = [_time_run(command, b"") for _ in range(max(1, runs))]
    _empty(spool)
    return round(statistics.median(elapsed_us))


@contextlib.contextmanager
def _install_hook() -> Iterator[tuple[Path, Path]]:
    with tempfile.TemporaryDirectory() as work, tempfile.TemporaryDirectory(dir=_find_tmpfs()) as memory:
        spool, configuration = Path(memory, "spool"), Path(work, "sidecar.toml")
        spool.mkdir(0o700)
        configuration.write_text(f'[paths]\nspool = "{spool}"\nstate = "{memory}"\n')
        with contextlib.redirect_stdout(io.StringIO()):
            code = sidecarctl.main(["hooks", "install", "--hooks-dir", f"{work}/hooks", f"--config={configuration}"])
        if code:
            raise SystemExit("the hook could not be installed")
        hook = Path(work, "hooks/qemu.d/50-sidecar")
        _time_run((str(hook), "vm1", "started", "begin", "-"), b"")
        if not list(spool.iterdir()):
            raise SystemExit("the hook left no file: nothing to measure")
        yield hook, spool


def _find_tmpfs() -> str | None:
    """A directory on a tmpfs; ``None``, the default for temporary files, where there is none."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    tmpfs = {fields[1] for fields in mounts if fields[2] == "tmpfs"}
    return next((path for path in ("/run", "/dev/shm") if path in tmpfs and os.access(path, os.W_OK)), None)


def _time_run(command: tuple[str, ...], stdin: bytes) -> float:
    """Microseconds; ``stdin`` must fit into a pipe, so that nobody has to feed it."""
    reader, writer = os.pipe()
    os.write(writer, stdin)
    os.close(writer)
    start_ns = time.perf_counter_ns()
    pid = os.posix_spawn(command[0], command, _ENVIRONMENT, file_actions=[(os.POSIX_SPAWN_DUP2, reader, 0)])
    _, status = os.waitpid(pid, 0)
    elapsed_us = (time.perf_counter_ns() - start_ns) / 1000
    os.close(reader)
    if status:
        raise SystemExit(f"{command[0]}: wait status {status}")
    return elapsed_us


def _empty(spool: Path) -> None:
    for file in spool.iterdir():
        file.unlink()
