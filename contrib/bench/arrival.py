"""Bench arm (b): from the RESUMED event to the agreement in the record, sidecard against a bare script.

One guest, whose agent answers ``refresh`` at once, migrates to and fro; the arms alternate. One observer
outside both times both: it hears RESUMED on the destination, and at each write reads the record until it shows the
agreement of the destination.
"""

import statistics
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any
from xml.etree import ElementTree

import libvirt

from tests.lab.domain_xml import OVIRT_PORT, RECORD_URI, AgentSpec, GuestSpec
from tests.lab.guest import Guest
from tests.lab.host import Host
from tests.lab.laboratory import Laboratory
from tests.lab.namespaces import InsideProcess
from tests.lab.waiting import wait_for

BARE = Path(__file__).with_name("bare_arrival.py")
LIMIT = 1.5
AGENT_MAXIMUM = 3
# Measured arrivals of an arm before the other has its turn. One goes before them unmeasured: while the arms changed,
# nobody served the guest's port, and an agent that met nobody waits a while before it looks again.
TURN = 5


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
    """Hears the events of one host's libvirtd."""

    def __init__(self, host: Host) -> None:
        self._name = host.name
        self.resumed = self.agreed = 0.0
        self._connection = libvirt.open(host.uri)
        register = self._connection.domainEventRegisterAny
        register(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_lifecycle, None)
        register(None, libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE, self._on_metadata, None)

    def _on_lifecycle(self, _connection: Any, _domain: Any, event: int, detail: int, _opaque: Any) -> None:
        arrived = (libvirt.VIR_DOMAIN_EVENT_RESUMED, libvirt.VIR_DOMAIN_EVENT_RESUMED_MIGRATED)
        if (event, detail) == arrived:
            self.resumed, self.agreed = monotonic(), 0.0

    def _on_metadata(self, _connection: Any, domain: Any, _kind: int, _uri: str, _opaque: Any) -> None:
        with suppress(libvirt.libvirtError):
            text = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, RECORD_URI, libvirt.VIR_DOMAIN_AFFECT_LIVE)
            record = ElementTree.fromstring(text)
            states = [channel.get("state") for channel in record]
            if record.get("host") == self._name and states == ["agreed"] and not self.agreed:
                self.agreed = monotonic()


def measure(runs: int) -> dict[str, object]:
    """At least ``runs`` arrivals an arm; times in milliseconds, ``ratio`` of the medians.

    ``before_virsh_returned`` counts the arrivals of sidecard's whose record stood before ``virsh migrate`` returned.
    """
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_run_events, daemon=True).start()
    lab = Laboratory()
    try:
        samples = _measure(lab, runs)
    finally:
        lab.close()
    raw = {arm: [round(s.took_ms, 2) for s in samples if s.arm == arm] for arm in ("sidecard", "bare")}
    p50 = {arm: statistics.median(values) for arm, values in raw.items()}
    ratio = p50["sidecard"] / p50["bare"]
    in_time = [sample.agreed < sample.returned for sample in samples if sample.arm == "sidecard"]
    return {
        "name": "arrival",
        "unit": "ms",
        "runs": len(in_time),
        "p50": p50,
        "ratio": ratio,
        "limit": LIMIT,
        "passed": ratio <= LIMIT and all(in_time),
        "before_virsh_returned": sum(in_time),
        "raw": raw,
    }


def _run_events() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


def _measure(lab: Laboratory, runs: int) -> list[Sample]:
    alpha, beta = lab.host("alpha"), lab.host("beta")
    observers = {host: Observer(host) for host in (alpha, beta)}
    for host in observers:
        host.install_hook()
    agent = AgentSpec(heartbeat_s=5.0, prompt=True, maximum=AGENT_MAXIMUM)
    guest = lab.guest(GuestSpec(channels=(OVIRT_PORT,), agent=agent))
    guest.define(alpha)
    guest.start()
    guest.wait_booted()
    samples: list[Sample] = []
    for turn in range(2 * -(-runs // TURN)):
        arm = ("sidecard", "bare")[turn % 2]
        stop = [_start(arm, host) for host in observers]
        for leg in range(TURN + 1):
            destination = beta if guest.here is alpha else alpha
            sample = _migrate(arm, guest, destination, observers[destination])
            if leg:
                samples.append(sample)
        for end in stop:
            end()
    return samples


def _start(arm: str, host: Host) -> Callable[[], object]:
    if arm == "sidecard":
        host.start_sidecard()
        wait_for(lambda: "connected to libvirt" in _last_start(host), 10, "sidecard to be connected")
        return host.stop_sidecard
    ready = host.root / "bare.log"
    with ready.open("w") as log:
        process: InsideProcess = host.popen([sys.executable, str(BARE), host.name, str(AGENT_MAXIMUM)], stdout=log)
    wait_for(lambda: "ready" in ready.read_text(), 10, "the bare script to be ready")
    return process.end


def _last_start(host: Host) -> str:
    return host.sidecard.log.read_text().rpartition("oVirt API up to")[2]


def _migrate(arm: str, guest: Guest, destination: Host, observer: Observer) -> Sample:
    guest.migrate(destination)
    returned = monotonic()
    wait_for(lambda: observer.agreed, 20, f"the agreement on {destination.name} ({arm})", interval_s=0.005)
    return Sample(arm, observer.resumed, observer.agreed, returned)
