"""Bench: the operation ``fleet`` over 200 hosts at most 12 times as long as over 20, one broker for both fleets.

Both are there all the time, each in a vhost of its own, and are asked in turn. Each host has its real bus process;
libvirt and guests are not there (``simulated_host``). Beside the ratio it tells how long it takes until everybody knows
everybody, and until the cap ``"auto"`` stands everywhere after a host has come to support less, and what the broker
needs.
"""

import asyncio
import os
import statistics
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
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
    """``runs`` times the operation over either fleet, in turn; milliseconds."""
    took_ms, notes = asyncio.run(_measure(runs))
    raw = {f"{count} hosts": [round(took, 1) for took in took_ms[count]] for count in (MANY, FEW)}
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
        "notes": notes,
    }


async def _measure(runs: int) -> tuple[dict[int, list[float]], list[str]]:
    took_ms: dict[int, list[float]] = {FEW: [], MANY: []}
    with tempfile.TemporaryDirectory() as directory:
        broker = Broker(Path(directory) / "broker")
        broker.start()
        try:
            notes = [f"broker: {resident_mb(broker)} MiB without hosts"]
            async with AsyncExitStack() as stack:
                fleets = {
                    count: await stack.enter_async_context(_gather(count, broker, Path(directory), notes))
                    for count in (FEW, MANY)
                }
                await _wait_quiet()
                for hosts in fleets.values():
                    await _time_fleet(hosts[-1])  # not measured: whoever has slept since the start is woken by it
                for run in range(runs):
                    for count, hosts in fleets.items():
                        took_ms[count].append(await _time_fleet(hosts[run % count]))
                notes += [await _lower(hosts) for hosts in fleets.values()]
        finally:
            broker.stop()
    return took_ms, notes


@asynccontextmanager
async def _gather(count: int, broker: Broker, directory: Path, notes: list[str]) -> AsyncIterator[list[SimulatedHost]]:
    """A fleet in a vhost of its own, in which all know all."""
    vhost = f"of-{count}"
    broker.add_vhost(vhost)
    before_mb, before = resident_mb(broker), set(list_children())
    async with _run_hosts(count, broker.url(None, vhost), directory / vhost) as hosts:
        begin = monotonic()
        await _settle(lambda: all(len(host.fleet.known.hosts) == count - 1 for host in hosts))
        known_s = monotonic() - begin
        process_mb = statistics.median(resident_of(pid) for pid in list_children() if pid not in before)
        notes.append(
            f"{count} hosts: all knew all {known_s:.1f} s after the last had started; broker {resident_mb(broker)} MiB "
            f"({before_mb} before), a bus process {process_mb:.0f} MiB"
        )
        yield hosts


async def _lower(hosts: list[SimulatedHost]) -> str:
    begin = monotonic()
    hosts[-1].support(2)
    await _settle(lambda: all(host.fleet.caps.ovirt == 2 for host in hosts[:-1]))
    took_ms = (monotonic() - begin) * 1000
    return f"{len(hosts)} hosts: the cap stood everywhere {took_ms:.0f} ms after one of them had come to support less"


async def _time_fleet(host: SimulatedHost) -> float:
    begin = monotonic()
    view = await host.ask_fleet(FLEET_TIMEOUT_S)
    took_ms = (monotonic() - begin) * 1000
    if not view.complete or len(view.hosts) <= len(host.fleet.known.hosts):
        raise SystemExit(f"{sum(not found.answered for found in view.hosts)} of {len(view.hosts)} did not answer")
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
