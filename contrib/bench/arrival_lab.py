"""What the benches of an arrival share: from the RESUMED event to the agreement, one arm against the other.

One guest migrates to and fro; the arms alternate. One observer outside both times both: it hears RESUMED on the
destination, and at each write reads the record until it shows the agreement of the destination.
"""

import functools
import statistics
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any
from xml.etree import ElementTree

import libvirt

from contrib.bench.lab_run import open_laboratory
from tests.lab.domain_xml import RECORD_URI, AgentSpec, GuestSpec, channel_state
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


class Observer:
    """Hears the events of one host's libvirtd, and when this host's agreement on the channel stands."""

    def __init__(self, host: Host, channel: str) -> None:
        self._host, self._channel = host.name, channel
        self.resumed = self.agreed = 0.0
        self._connection: Any = libvirt.open(host.uri)
        register = self._connection.domainEventRegisterAny
        self._registrations = [
            register(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_lifecycle, None),
            register(None, libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE, self._on_metadata, None),
        ]

    def forget(self) -> None:
        """Be ready for the next arrival."""
        self.resumed = self.agreed = 0.0

    def close(self) -> None:
        """Hear no more."""
        for registration in self._registrations:
            self._connection.domainEventDeregisterAny(registration)
        self._connection.close()

    def _on_lifecycle(self, _connection: Any, _domain: Any, event: int, detail: int, _opaque: Any) -> None:
        arrived = (libvirt.VIR_DOMAIN_EVENT_RESUMED, libvirt.VIR_DOMAIN_EVENT_RESUMED_MIGRATED)
        if (event, detail) == arrived:
            self.resumed, self.agreed = monotonic(), 0.0

    def _on_metadata(self, _connection: Any, domain: Any, _kind: int, _uri: str, _opaque: Any) -> None:
        with suppress(libvirt.libvirtError):
            text = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, RECORD_URI, libvirt.VIR_DOMAIN_AFFECT_LIVE)
            record = ElementTree.fromstring(text)
            states = {child.get("name"): child.get("state") for child in record if child.tag.endswith("channel")}
            right = record.get("host") == self._host and states == {self._channel: "agreed"}
            if right and self.resumed and not self.agreed:
                self.agreed = monotonic()


def measure_arrivals(bench: ArrivalBench, runs: int) -> dict[str, object]:
    """At least ``runs`` arrivals an arm; times in milliseconds, ``ratio`` of the medians.

    ``before_virsh_returned`` counts the first arm's arrivals whose record stood before ``virsh migrate`` returned.
    """
    _serve_events()
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


@functools.cache
def _serve_events() -> None:
    """Run libvirt's event loop; once in a process, however many benches there are."""
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_run_events, daemon=True).start()


def _run_events() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


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
    with _observe(alpha, bench.channel) as at_alpha, _observe(beta, bench.channel) as at_beta:
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


@contextmanager
def _observe(host: Host, channel: str) -> Iterator[Observer]:
    observer = Observer(host, channel)
    try:
        yield observer
    finally:
        observer.close()


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
    wait_for(lambda: observer.agreed, 20, f"the agreement on {destination.name} ({arm})", interval_s=0.005)
    return Sample(arm, observer.resumed, observer.agreed, returned)
