"""Bench: an arrival while 50 clients follow events and read none of them, at most 1.15 times the time without them."""

import socket
from collections.abc import Callable

from contrib.bench.arrival_lab import ArrivalBench, measure_arrivals, start_sidecard
from sidecar.client import DEFAULT_SOCKET
from tests.lab.domain_xml import OVIRT_PORT, AgentSpec
from tests.lab.guest_files.control import OWN_AGENT
from tests.lab.host import Host

SUBSCRIBERS = 50


def start_subscribed(host: Host) -> Callable[[], object]:
    """An arm: the daemon, and clients that ask for all events, take the header of the answer, and then nothing."""
    stop = start_sidecard(host)
    clients = [subscribe(host) for _ in range(SUBSCRIBERS)]

    def end() -> None:
        for client in clients:
            client.close()
        stop()

    return end


def subscribe(host: Host) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(str(host.path(DEFAULT_SOCKET)))
    client.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    if not client.recv(12).endswith(b" 200"):
        raise SystemExit("a subscriber was refused")
    return client


BENCH = ArrivalBench(
    name="subscribers",
    limit=1.15,
    channel=OVIRT_PORT,
    agent=AgentSpec(era=OWN_AGENT, heartbeat_s=5.0),
    arms={f"{SUBSCRIBERS} slow": start_subscribed, "none": start_sidecard},
)


def measure(runs: int) -> dict[str, object]:
    """See ``measure_arrivals``."""
    return measure_arrivals(BENCH, runs)
