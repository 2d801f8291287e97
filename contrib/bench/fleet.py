"""Bench: the operation ``fleet`` over 200 hosts at most 12 times as long as over 20, one broker for all of them.

Each host has its real bus process; libvirt and guests are not there (``simulated_host``). Beside the ratio it tells how
long it takes until everybody knows everybody, and until the cap ``"auto"`` stands everywhere after a host has come to
support less, and what the broker needs.
"""

import asyncio
import os
import statistics
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

from contrib.bench.simulated_host import SimulatedHost
from tests.broker import Broker

FEW, MANY = 20, 200
LIMIT = 12.0
FLEET_TIMEOUT_S = 60.0
SETTLE_TIMEOUT_S = 180.0

# Of the CPUs' time, and no more, is used before anything is timed.
QUIET = 0.4

# Each process takes most of a second of a CPU to start.
STARTS_AT_A_TIME = 8


def measure(runs: int) -> dict[str, object]:
    """``runs`` times the operation over either fleet; milliseconds."""
    figures = {count: asyncio.run(_measure(count, runs)) for count in (FEW, MANY)}
    raw = {f"{count} hosts": [round(took, 1) for took in figures[count].took_ms] for count in (MANY, FEW)}
    p50 = {arm: statistics.median(values) for arm, values in raw.items()}
    ratio = p50[f"{MANY} hosts"] / p50[f"{FEW} hosts"]
    return {
        "name": "fleet",
        "unit": "ms",
        "runs": runs,
        "p50": p50,
        "ratio": ratio,
        "limit": LIMIT,
        "passed": ratio <= LIMIT,
        "raw": raw,
        "notes": [figures[count].note for count in (FEW, MANY)],
    }


class _Figures:
    """Of one fleet."""

    def __init__(self) -> None:
        self.took_ms: list[float] = []
        self.note = ""


async def _measure(count: int, runs: int) -> _Figures:
    figures = _Figures()
    with tempfile.TemporaryDirectory() as directory:
        broker = Broker(Path(directory) / "broker")
        broker.start()
        try:
            empty_mb = resident_mb(broker)
            async with _run_hosts(count, broker.url(), Path(directory)) as hosts:
                begin = monotonic()
                await _settle(lambda: all(len(host.fleet.known.hosts) == count - 1 for host in hosts))
                known_s = monotonic() - begin
                await _wait_quiet()
                for run in range(runs):
                    figures.took_ms.append(await _time_fleet(hosts[run % count], count))
                begin = monotonic()
                hosts[-1].support(2)
                await _settle(lambda: all(host.fleet.caps.ovirt == 2 for host in hosts[:-1]))
                figures.note = (
                    f"{count} hosts: all knew all {known_s:.1f} s after the last had started; the cap stood everywhere "
                    f"{(monotonic() - begin) * 1000:.0f} ms after a host came to support less; "
                    f"broker {resident_mb(broker)} MiB ({empty_mb} before); "
                    f"a bus process {statistics.median(map(resident_of, list_children())):.0f} MiB"
                )
        finally:
            broker.stop()
    return figures


async def _time_fleet(host: SimulatedHost, count: int) -> float:
    begin = monotonic()
    view = await host.ask_fleet(FLEET_TIMEOUT_S)
    took_ms = (monotonic() - begin) * 1000
    if not view.complete or len(view.hosts) != count:
        raise SystemExit(f"{sum(not found.answered for found in view.hosts)} of {count} hosts did not answer")
    return took_ms


@asynccontextmanager
async def _run_hosts(count: int, url: str, directory: Path) -> AsyncIterator[list[SimulatedHost]]:
    hosts = [SimulatedHost(f"host{number:03}", url, directory / f"host{number:03}") for number in range(count)]
    async with asyncio.TaskGroup() as group:
        tasks = []
        for number, host in enumerate(hosts):
            tasks.append(group.create_task(host.run()))
            started = hosts[: max(0, number + 1 - STARTS_AT_A_TIME)]
            await _settle(lambda started=started: all(other.connected for other in started))  # type: ignore[misc]  # a default binds it now
        await _settle(lambda: all(host.connected for host in hosts))
        yield hosts
        for task in tasks:
            task.cancel()


async def _wait_quiet() -> None:
    """Until the machine is idle for the most part: everybody answers who greets, which takes all of two CPUs."""
    async with asyncio.timeout(SETTLE_TIMEOUT_S):
        while await _measure_busy() > QUIET:
            pass


async def _measure_busy() -> float:
    """The part of all CPUs' time that was used in a second."""
    before = read_cpu_times()
    await asyncio.sleep(1.0)
    spent = [after - earlier for after, earlier in zip(read_cpu_times(), before, strict=True)]
    return 1.0 - (spent[3] + spent[4]) / sum(spent)


def read_cpu_times() -> list[int]:
    """user, nice, system, idle, iowait, …"""
    return [int(count) for count in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]


async def _settle(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SETTLE_TIMEOUT_S):
        while not condition():  # noqa: ASYNC110  # hundreds of objects that know nothing of this
            await asyncio.sleep(0.01)


def list_children() -> list[int]:
    """The bus processes, and the broker's two."""
    return [int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]


def resident_mb(broker: Broker) -> int:
    assert broker.pid is not None
    return resident_of(broker.pid)


def resident_of(pid: int) -> int:
    """MiB of memory of a process, what it shares with others counted in proportion."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) // 1024
    raise SystemExit(f"no memory is told of process {pid}, we are {os.getpid()}")
