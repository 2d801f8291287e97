"""Benches: an arrival while the broker is down, stands still, or comes and goes, at most 1.2 times that with a broker.

The broker runs on the first host, at the lowest priority: what is measured is what its state costs, not what its start
costs a machine with few CPUs.
"""

import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import IO

from contrib.bench.arrival_lab import ArrivalBench, measure_arrivals, start_sidecard
from sidecar.client import DEFAULT_SOCKET
from sidecar.client.unix_http import UnixConnection
from tests.broker import Broker
from tests.lab.domain_xml import OVIRT_PORT, AgentSpec
from tests.lab.guest_files.control import OWN_AGENT
from tests.lab.host import Host
from tests.lab.laboratory import Laboratory
from tests.lab.waiting import wait_for
from tests.places import Process

LIMIT = 1.2

# A broker that comes and goes is there for so long, and away for so long.
FLAP_S = 1.0


class GentlePlace:
    """Starts programs on a host at the lowest priority."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.run = host.run

    def popen(
        self,
        argv: Sequence[str],
        stdin: int | IO[str] | None = subprocess.DEVNULL,
        stdout: int | IO[str] | None = None,
        stderr: int | IO[str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Process:
        return self._host.popen(["nice", "-n", "19", *argv], stdin, stdout, stderr, env)


@dataclass
class _Bus:
    """One broker for both hosts of a laboratory."""

    broker: Broker | None = None
    users: int = 0

    def lay(self, lab: Laboratory, host: Host) -> None:
        """The first host gets it."""
        if self.broker is None:
            self.broker = Broker(lab.directory / "broker", host.address, GentlePlace(host))
            self.broker.start()

    def start(self, host: Host, spoil: "Callable[[Broker], Callable[[], None]]") -> Callable[[], None]:
        """An arm: the daemon, connected; when both hosts have theirs the broker gets spoiled, until the last ends."""
        assert self.broker is not None
        broker = self.broker
        stop = start_sidecard(host, f'[bus]\nurl = "{broker.url()}"\n')
        wait_for(lambda: is_connected(host), 60, f"{host.name} to be on the bus")
        self.users += 1
        mend = spoil(broker) if self.users == 2 else None

        def end() -> None:
            self.users -= 1
            stop()
            if mend is not None:
                mend()

        return end


def is_connected(host: Host) -> bool:
    """Whether this host's daemon says so."""
    connection = UnixConnection(str(host.path(DEFAULT_SOCKET)), 10.0)
    try:
        connection.connect()
        connection.request("GET", "/metrics")
        return b"sidecar_bus_connected 1.0" in connection.getresponse().read()
    finally:
        connection.close()


def leave(_broker: Broker) -> Callable[[], None]:
    return lambda: None


def kill(broker: Broker) -> Callable[[], None]:
    broker.kill()
    return broker.start


def pause(broker: Broker) -> Callable[[], None]:
    broker.pause()
    return broker.resume


def flap(broker: Broker) -> Callable[[], None]:
    """Killed and started again for ever."""
    enough = threading.Event()

    def come_and_go() -> None:
        while not enough.wait(FLAP_S):
            broker.kill()
            enough.wait(FLAP_S)
            broker.start()

    thread = threading.Thread(target=come_and_go)
    thread.start()

    def mend() -> None:
        enough.set()
        thread.join()

    return mend


def make_bench(name: str, spoil: Callable[[Broker], Callable[[], None]]) -> ArrivalBench:
    bus = _Bus()
    return ArrivalBench(
        name=name,
        limit=LIMIT,
        channel=OVIRT_PORT,
        agent=AgentSpec(era=OWN_AGENT, heartbeat_s=5.0),
        arms={spoil.__name__: partial(bus.start, spoil=spoil), "up": partial(bus.start, spoil=leave)},
        prepare=bus.lay,
    )


def measure_down(runs: int) -> dict[str, object]:
    """See ``measure_arrivals``."""
    return measure_arrivals(make_bench("bus-down", kill), runs)


def measure_stopped(runs: int) -> dict[str, object]:
    """Likewise."""
    return measure_arrivals(make_bench("bus-stopped", pause), runs)


def measure_flapping(runs: int) -> dict[str, object]:
    """Likewise."""
    return measure_arrivals(make_bench("bus-flapping", flap), runs)
