"""What the benches of an arrival share: from the RESUMED event to the agreement, one arm against the other.

One guest migrates to and fro; the arms alternate. One observer outside both times both: see ``arrival_observer``.
"""

import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from contrib.bench.arrival_observer import Observer, observe, serve_events
from contrib.bench.lab_run import open_laboratory
from tests.lab.domain_xml import AgentSpec, GuestSpec, channel_state
from tests.lab.guest import Guest
from tests.lab.host import Host
from tests.lab.laboratory import Laboratory
from tests.lab.namespaces import InsideProcess
from tests.lab.waiting import wait_for

# Measured arrivals of an arm before the other has its turn. One goes before them unmeasured: while the arms changed,
# nobody served the guest's port, and an agent that met nobody may wait a while before it looks again.
TURN = 5


@dataclass(frozen=True, slots=True)
class ArrivalBench:
    """One benchmark.

    Attributes:
        name: In the table.
        limit: The highest ratio of the medians.
        channel: The guest's one channel, whose agreement is waited for.
        agent: The oVirt agent on it; ``None`` for qemu-ga.
        arms: Each starts what serves a host, and gives what ends it; the ratio is the first's to the second's.
        prepare: Called once for each host, before anything is measured.
    """

    name: str
    limit: float
    channel: str
    agent: AgentSpec | None
    arms: Mapping[str, Callable[[Host], Callable[[], object]]]
    prepare: Callable[[Laboratory, Host], None] = lambda _lab, _host: None


@dataclass
class Sample:
    """One arrival; seconds on the observer's clock."""

    arm: str
    resumed: float
    agreed: float
    returned: float

    @property
    def took_ms(self) -> float:
        """From RESUMED to the agreement read."""
        return (self.agreed - self.resumed) * 1000


def measure_arrivals(bench: ArrivalBench, runs: int) -> dict[str, object]:
    """At least ``runs`` arrivals an arm; times in milliseconds, ``ratio`` of the medians.

    ``before_virsh_returned`` counts the first arm's arrivals whose record stood before ``virsh migrate`` returned.
    """
    serve_events()
    with open_laboratory() as lab:
        samples = _measure(lab, bench, runs)
    raw = {arm: [round(s.took_ms, 2) for s in samples if s.arm == arm] for arm in bench.arms}
    p50 = {arm: statistics.median(values) for arm, values in raw.items()}
    ours, theirs = bench.arms
    ratio = p50[ours] / p50[theirs]
    in_time = [sample.agreed < sample.returned for sample in samples if sample.arm == ours]
    return {
        "name": bench.name,
        "unit": "ms",
        "runs": len(in_time),
        "p50": p50,
        "ratio": ratio,
        "limit": bench.limit,
        "passed": ratio <= bench.limit and all(in_time),
        "before_virsh_returned": sum(in_time),
        "raw": raw,
    }


def _measure(lab: Laboratory, bench: ArrivalBench, runs: int) -> list[Sample]:
    alpha, beta = lab.host("alpha"), lab.host("beta")
    for host in (alpha, beta):
        host.install_hook()
        bench.prepare(lab, host)
    guest = lab.guest(GuestSpec(channels=(bench.channel,), agent=bench.agent))
    guest.define(alpha)
    guest.start()
    guest.wait_booted()
    wait_for(lambda: channel_state(guest.dumpxml(), bench.channel) == "connected", 20, "the guest's agent to be there")
    samples: list[Sample] = []
    with observe(alpha, bench.channel) as at_alpha, observe(beta, bench.channel) as at_beta:
        observers = {alpha: at_alpha, beta: at_beta}
        for turn in range(2 * -(-runs // TURN)):
            arm = list(bench.arms)[turn % 2]
            stop = [bench.arms[arm](host) for host in observers]
            for leg in range(TURN + 1):
                destination = beta if guest.here is alpha else alpha
                sample = _migrate(arm, guest, destination, observers[destination])
                if leg:
                    samples.append(sample)
            for end in stop:
                end()
    return samples


def start_sidecard(host: Host, configuration: str = "") -> Callable[[], object]:
    """An arm: the daemon as it is."""
    begin = len(host.log_text())
    host.start_sidecard(configuration)
    wait_for(lambda: "connected to libvirt" in host.log_text()[begin:], 10, "sidecard to be connected")
    return host.stop_sidecard


def start_bare(script: Path, *arguments: str) -> Callable[[Host], Callable[[], object]]:
    """An arm: a script that is given the host's name, then the arguments, and prints "ready"."""

    def start(host: Host) -> Callable[[], object]:
        ready = host.root / "bare.log"
        with ready.open("w") as log:
            process: InsideProcess = host.popen([sys.executable, str(script), host.name, *arguments], stdout=log)
        wait_for(lambda: "ready" in ready.read_text(), 10, "the bare script to be ready")
        return process.end

    return start


def _migrate(arm: str, guest: Guest, destination: Host, observer: Observer) -> Sample:
    observer.forget()
    guest.migrate(destination)
    returned = monotonic()
    what = f"the agreement on {destination.name} ({arm})"
    wait_for(lambda: guest.name in observer.agreed, 20, what, interval_s=0.005)
    return Sample(arm, observer.resumed[guest.name], observer.agreed[guest.name], returned)
