"""Bench (d): a sidecard whose guests do nothing does nothing either, however many they are.

Many domains that were started paused, each with the channel of a QEMU guest agent, on one libvirtd. Once every record
stands nothing has to happen: no call to libvirt, no wake-up of the asyncio loop nor of a worker; and libvirt's event
thread, which answers libvirtd's keepalive, does as much as that of a bare client. Both are counted in the same windows
of half a minute, on the same libvirtd.

Pings of client and libvirtd cross each other by chance, so that equal clients differ by a third in one window. Hence
several bare clients, and sidecard may do one keepalive period's worth more than the busiest of them in each window: a
ninth bare client in its place would be over one of these limits some two times in a thousand.
"""

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import libvirt

from contrib.bench.lab_run import open_laboratory
from contrib.bench.libvirt_calls import CallLog
from contrib.bench.wakeups import Counts, can_trace, count_threads, find_event_thread, subtract, trace_calls
from tests.lab.domain_xml import QGA_PORT, RECORD_URI
from tests.lab.host import Host
from tests.lab.namespaces import InsideProcess
from tests.lab.waiting import wait_for

BARE = Path(__file__).with_name("bare_idle.py")
BARE_CLIENTS = 8
DOMAINS = 200
WINDOW_S = 30.0
# What sidecard's asyncio thread, and its workers, may be woken in all windows.
WAKE_UPS = 0
# As sidecard's own defaults.
KEEPALIVE_S, KEEPALIVE_COUNT = 5, 3

# What such a domain takes: of its 41 MiB of RSS most is shared with the others. And what is left to everybody else.
DOMAIN_MIB, SPARE_MIB = 20, 2048
STARTERS = 4
# Settled: the asyncio thread has slept for so long; one that never does is measured anyway, and fails.
QUIET_S = 10.0
SETTLE_TIMEOUT_S = 180.0

_DOMAIN = f"""\
<domain type="qemu">
  <name>@NAME@</name>
  <memory unit="MiB">16</memory>
  <os><type arch="x86_64" machine="pc">hvm</type></os>
  <devices>
    <controller type="usb" model="none"/>
    <memballoon model="none"/>
    <channel type="unix"><source mode="bind"/><target type="virtio" name="{QGA_PORT}"/></channel>
  </devices>
</domain>
"""


@dataclass(frozen=True, slots=True)
class Client:
    """A process that is connected to libvirtd, and its thread that runs libvirt's event loop."""

    pid: int
    event_thread: int


@dataclass(frozen=True, slots=True)
class Window:
    """What happened meanwhile: calls to libvirt by anybody, and what each kind of thread did."""

    calls: int
    main: Counts
    workers: Counts
    events: Counts
    bare: tuple[Counts, ...]


@dataclass(frozen=True, slots=True)
class Traced:
    """System calls of the event threads, in a window of its own: strace wakes whom it looks at."""

    events: int
    bare: tuple[int, ...]


def measure(runs: int, domains: int = DOMAINS) -> dict[str, object]:
    """``runs`` windows, one right after the other, with so many domains, or as many as there is memory for.

    Raises:
        SystemExit: There is nothing to measure.
    """
    libvirt.registerErrorHandler(_ignore, None)  # a domain without a record is counted, and no error to print
    fitting = min(domains, count_fitting())
    if not fitting:
        raise SystemExit(f"idle: no memory for a single domain beside {SPARE_MIB} MiB for everything else")
    with open_laboratory() as lab:
        host = lab.host("alpha")
        start_paused(host, fitting)
        process = host.start_sidecard()
        settled_s = wait_settled(host, process)
        sidecard, bare = _identify(process), [_identify(_start_bare(host, number)) for number in range(BARE_CLIENTS)]
        records = count_records(host)
        windows = _measure(host, sidecard, bare, runs)
        traced = _trace(sidecard, bare) if can_trace() else None
    checks = [_check("domains with a record", records, "at least", fitting), *judge(windows, traced)]
    return {
        "name": "idle",
        "domains": fitting,
        "domains_wanted": domains,
        "settled_s": settled_s,
        "runs": runs,
        "seconds": WINDOW_S,
        "checks": checks,
        "passed": all(check["passed"] for check in checks),
        "traced": traced is not None,
        "raw": [asdict(window) for window in windows],
    }


def judge(windows: list[Window], traced: Traced | None) -> list[dict[str, Any]]:
    """One row for each thing that is counted, over all windows together."""
    calls = sum(window.calls for window in windows)
    main, workers, events = (
        sum((getattr(w, kind) for w in windows), Counts()) for kind in ("main", "workers", "events")
    )
    rows = [
        _check("libvirt calls by all clients", calls, "at most", 0),
        _check("wake-ups of its asyncio thread", main.switches, "at most", WAKE_UPS),
        _check("wake-ups of its workers", workers.switches, "at most", WAKE_UPS),
        _check_event("wake-ups", events.switches, [[bare.switches for bare in w.bare] for w in windows]),
        _check_event("writes", events.writes, [[bare.writes for bare in w.bare] for w in windows]),
    ]
    if traced is not None:
        rows.append(_check_event("system calls (in one more window)", traced.events, [list(traced.bare)]))
    return rows


def _check_event(what: str, value: int, bare: list[list[int]]) -> dict[str, Any]:
    """``bare`` holds the clients' numbers by window."""
    busiest = sum(max(clients) for clients in bare)
    limit = busiest + ceil(busiest * KEEPALIVE_S / (WINDOW_S * len(bare)))
    return _check(
        f"{what} of its event thread", value, "at most", limit, [sum(each) for each in zip(*bare, strict=True)]
    )


def _check(what: str, value: int, relation: str, limit: int, bare: list[int] | None = None) -> dict[str, Any]:
    passed = value <= limit if relation == "at most" else value >= limit
    return {"what": what, "value": value, "relation": relation, "limit": limit, "bare": bare or [], "passed": passed}


# --- domains and clients


def count_fitting() -> int:
    """How many of the domains there is memory for."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    available_kib = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    return max(0, (available_kib // 1024 - SPARE_MIB) // DOMAIN_MIB)


def start_paused(host: Host, number: int) -> None:
    """Define so many domains and start them paused."""
    local = threading.local()

    def start(name: str) -> None:
        if not hasattr(local, "connection"):
            local.connection = libvirt.open(host.uri)
        domain = local.connection.defineXML(_DOMAIN.replace("@NAME@", name))
        domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)

    with ThreadPoolExecutor(STARTERS) as pool:
        list(pool.map(start, [f"idle{index}" for index in range(number)]))


def wait_settled(host: Host, sidecard: InsideProcess) -> float:
    """Wait until its asyncio thread, which takes part in everything, sleeps; how long it worked."""
    wait_for(lambda: "connected to libvirt" in host.log_text(), 60, "sidecard to be connected")
    pid = _pid_of(sidecard)
    begin = last = time.monotonic()
    seen = count_threads(pid)[pid]
    while time.monotonic() - last < QUIET_S and last - begin < SETTLE_TIMEOUT_S:
        time.sleep(0.25)
        now = count_threads(pid)[pid]
        if now != seen:
            last, seen = time.monotonic(), now
    return round(last - begin, 1)


def count_records(host: Host) -> int:
    """The domains whose live XML and configuration hold a record of this host's on the channel."""
    connection: Any = libvirt.open(host.uri)
    with closing(connection):
        return sum(_has_record(domain, host.name) for domain in connection.listAllDomains())


def _has_record(domain: Any, host: str) -> bool:
    try:
        for copy in (libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG):
            record = ElementTree.fromstring(domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, RECORD_URI, copy))
            channels = [(child.get("name"), child.get("state")) for child in record if child.tag.endswith("channel")]
            if record.get("host") != host or channels != [(QGA_PORT, "waiting")]:
                return False
    except libvirt.libvirtError:
        return False
    return True


def _start_bare(host: Host, number: int) -> InsideProcess:
    ready = host.root / f"bare-{number}.log"
    with ready.open("w") as log:
        process = host.popen([sys.executable, str(BARE), str(KEEPALIVE_S), str(KEEPALIVE_COUNT)], stdout=log)
    wait_for(lambda: "ready" in ready.read_text(), 10, "a bare client to be ready")
    return process


def _identify(process: InsideProcess) -> Client:
    pid = _pid_of(process)
    return Client(pid, find_event_thread(pid))


def _pid_of(process: InsideProcess) -> int:
    pid = process.pid
    if pid is None:
        raise SystemExit(f"has ended with {process.poll()}: {' '.join(process.argv)}")
    return pid


def _ignore(*_error: object) -> None:
    pass


# --- counting


def _measure(host: Host, sidecard: Client, bare: list[Client], runs: int) -> list[Window]:
    log = CallLog(host)
    log.start()
    _prove(host, log)
    windows, before = [], _look(log, sidecard, bare)
    for _ in range(runs):
        time.sleep(WINDOW_S)
        after = _look(log, sidecard, bare)
        windows.append(_compare(before, after, sidecard, bare))
        before = after
    _prove(host, log)
    return windows


def _look(log: CallLog, sidecard: Client, bare: list[Client]) -> tuple[int, list[dict[int, Counts]]]:
    return log.count(), [count_threads(client.pid) for client in (sidecard, *bare)]


def _compare(
    before: tuple[int, list[dict[int, Counts]]],
    after: tuple[int, list[dict[int, Counts]]],
    sidecard: Client,
    bare: list[Client],
) -> Window:
    ours, *theirs = (subtract(now, then) for now, then in zip(after[1], before[1], strict=True))
    main, events = ours.pop(sidecard.pid), ours.pop(sidecard.event_thread)
    workers = sum(ours.values(), Counts())
    others = tuple(did[client.event_thread] for did, client in zip(theirs, bare, strict=True))
    return Window(after[0] - before[0], main, workers, events, others)


def _prove(host: Host, log: CallLog) -> None:
    """Make a call, which must be seen: a count of zero shall mean none."""
    before = log.count()
    with closing(libvirt.open(host.uri)) as connection:
        connection.getLibVersion()
    wait_for(lambda: log.count() > before, 5, "a call of our own in libvirtd's log")
    time.sleep(1)


def _trace(sidecard: Client, bare: list[Client]) -> Traced:
    with trace_calls([client.pid for client in (sidecard, *bare)]) as calls:
        time.sleep(WINDOW_S)
    return Traced(calls[sidecard.event_thread], tuple(calls[client.event_thread] for client in bare))
