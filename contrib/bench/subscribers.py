"""Bench: an arrival while 50 clients follow events and read none of them, at most 1.15 times the time without them.

Before the first arrival so many events have happened that every one of the 50 has its buffers full.
"""

import fcntl
import select
import socket
import struct
import termios
from collections.abc import Callable
from contextlib import suppress

from contrib.bench.arrival_lab import ArrivalBench, measure_arrivals, start_sidecard
from sidecar.api.problems import ProblemError
from sidecar.client import DEFAULT_SOCKET, Client
from tests.lab.domain_xml import OVIRT_PORT, AgentSpec, GuestSpec
from tests.lab.guest_files.control import OWN_AGENT
from tests.lab.host import Host
from tests.lab.laboratory import Laboratory
from tests.lab.waiting import wait_for

SUBSCRIBERS = 50

# The kernel takes about a hundred small pieces for a socket that nobody reads, asyncio 64 KiB more.
EVENTS = 600

# A follower that takes nothing is cut off after this long, which is not what is measured here.
PATIENT = "[limits]\nidle_seconds = 3600\n"


def define_silent(lab: Laboratory, host: Host) -> None:
    """A domain that stands: what is sent to it is refused, and each refusal is an event."""
    guest = lab.guest(GuestSpec(name=f"silent-{host.name}", channels=(OVIRT_PORT,)))
    guest.define(host)
    guest.start(paused=True)


def start_subscribed(host: Host) -> Callable[[], object]:
    """An arm: the daemon, and clients that ask for all events, take the header of the answer, and then nothing."""
    stop = start_sidecard(host, PATIENT)
    path = str(host.path(DEFAULT_SOCKET))
    clients = [subscribe(path) for _ in range(SUBSCRIBERS)]
    with Client(path) as client:
        wait_for(lambda: [d for d in client.list() if d.name == f"silent-{host.name}"], 10, "the silent domain")
        for _ in range(EVENTS):
            with suppress(ProblemError):
                client.send(f"silent-{host.name}", "lock-screen")
    unread = [count_unread(client) for client in clients]
    if min(unread) < EVENTS * 10:
        raise SystemExit(f"a subscriber has read: {unread}")

    def end() -> None:
        gone = [client for client in clients if is_gone(client)]
        for client in clients:
            client.close()
        stop()
        if gone:
            raise SystemExit(f"{len(gone)} subscribers were cut off")

    return end


def subscribe(path: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    client.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    if not client.recv(12).endswith(b" 200"):
        raise SystemExit("a subscriber was refused")
    return client


def count_unread(client: socket.socket) -> int:
    """How many bytes wait in the kernel for the client to read them."""
    (unread,) = struct.unpack("i", fcntl.ioctl(client, termios.FIONREAD, bytes(4)))
    return int(unread)


def is_gone(client: socket.socket) -> bool:
    poll = select.poll()
    poll.register(client, select.POLLRDHUP)
    return bool(poll.poll(0))


def start_plain(host: Host) -> Callable[[], object]:
    """The other arm."""
    return start_sidecard(host, PATIENT)


BENCH = ArrivalBench(
    name="subscribers",
    limit=1.15,
    channel=OVIRT_PORT,
    agent=AgentSpec(era=OWN_AGENT, heartbeat_s=5.0),
    arms={f"{SUBSCRIBERS} slow": start_subscribed, "none": start_plain},
    prepare=define_silent,
)


def measure(runs: int) -> dict[str, object]:
    """See ``measure_arrivals``."""
    return measure_arrivals(BENCH, runs)
