"""Guests migrate while the broker is killed, restarted and paused: every event is a notification, in its order.

What there was to tell is what each daemon's own event log says to a follower on that host.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.bus.permissions import LISTENER
from tests.lab.conftest import GuestFactory
from tests.lab.domain_xml import OVIRT_PORT, QGA_PORT
from tests.lab.fleet import SIDECARCTL, Fleet
from tests.lab.guest import Guest
from tests.lab.host import Host
from tests.lab.namespaces import InsideProcess
from tests.lab.records import Record, read_record, wait_for_record
from tests.lab.waiting import wait_for

CAPPED = '[upgrade_levels]\novirt = 2\nqga = "5.2"\n'

# The broker's return is noticed within seconds; a broker that hangs is given up after a quarter of a minute.
COMPLETE_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Told:
    """What the daemons told: each to a follower on its host, and all to a listener of the bus."""

    followed: dict[str, Path]
    notified: Path

    def events(self, host: str) -> list[dict[str, Any]]:
        """A host's own log, without what a follower is told of itself, that it missed what was before."""
        return [event for event in _read(self.followed[host]) if event.get("what") != "missed"]

    def notifications(self, host: str) -> list[dict[str, Any]]:
        """What the listener got of a host, repetitions included."""
        return [line for line in _read(self.notified) if line["publisher_id"] == f"sidecar.{host}"]

    def missing(self) -> set[str]:
        """Events of which there is no notification."""
        told = {event["id"] for host in self.followed for event in self.events(host)}
        return told - {line["payload"]["id"] for host in self.followed for line in self.notifications(host)}


@pytest.fixture(scope="module")
def told(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """Alpha, beta and gamma on the bus, beta with older caps, and everybody listening from the beginning."""
    directory = tmp_path_factory.mktemp("told")
    told = Told({host.name: directory / host.name for host in fleet.hosts}, directory / "notified")
    processes = [fleet.listen(told.notified, LISTENER)]
    for host in fleet.hosts:
        fleet.start(host, CAPPED if host.name == "beta" else "")
        processes.append(follow(host, told.followed[host.name]))
    fleet.wait_joined()
    yield told
    for process in processes:
        process.end()


@pytest.fixture(scope="module")
def guests(told: Told, boot_shared_guest: GuestFactory) -> list[Guest]:
    """Two guests on alpha, agreed."""
    guests = [boot_shared_guest() for _ in range(2)]
    for guest in guests:
        wait_both(guest, 3, "7.2", 1)
    return guests


def follow(host: Host, output: Path) -> InsideProcess:
    """A follower of a host's own events; returns when none can escape it any more."""
    with output.open("w") as lines:
        process = host.popen([SIDECARCTL, "events", "--after", "none", "--json"], stdout=lines)
    wait_for(output.read_text, 20, f"the events of {host.name}")
    return process


def wait_both(guest: Guest, ovirt: int, qga: str, arrivals: int) -> Record:
    """The record once both channels are agreed, at these versions and this arrival."""

    def accept(record: Record) -> bool:
        both = {OVIRT_PORT: ("agreed", str(ovirt), None), QGA_PORT: ("agreed", qga, None)}
        return record.arrivals == arrivals and {name: record.verdict(name) for name in record.channels} == both

    return wait_for_record(guest, f"both agreed at {ovirt} and {qga} (arrivals {arrivals})", accept)


def migrate(guest: Guest, destination: Host, ovirt: int, qga: str) -> None:
    """Migrate it, and return once both channels are agreed there, at these versions."""
    arrivals = count_arrivals(guest) + 1
    guest.migrate(destination)
    wait_both(guest, ovirt, qga, arrivals)


def count_arrivals(guest: Guest) -> int:
    record = read_record(guest)
    assert record is not None
    return record.arrivals


@contextmanager
def migrating(guest: Guest, destination: Host) -> Iterator[None]:
    """While virsh migrates it."""
    virsh = guest.here.popen(["virsh", "--quiet", *guest.migrate_command(destination)])
    yield
    assert virsh.wait(60) == 0
    guest.moved_to(destination)


@contextmanager
def paused(fleet: Fleet) -> Iterator[None]:
    """While the broker hangs."""
    fleet.broker.node.pause()
    try:
        yield
    finally:
        fleet.broker.node.resume()


def test_a_broker_that_is_there(fleet: Fleet, told: Told, guests: list[Guest]) -> None:
    _, beta, _ = fleet.hosts
    migrate(guests[0], beta, 2, "5.2")
    check_all_told(told, guests)
    for host in told.followed:
        ids = [line["message_id"] for line in told.notifications(host)]
        assert len(ids) == len(set(ids)), "nothing is repeated without a reason"


def test_a_broker_that_is_killed_under_a_migration(fleet: Fleet, told: Told, guests: list[Guest]) -> None:
    _, beta, gamma = fleet.hosts
    before = [count_arrivals(guest) for guest in guests]
    with migrating(guests[0], gamma), migrating(guests[1], beta):
        fleet.broker.node.kill()
    wait_both(guests[0], 3, "7.2", before[0] + 1)
    wait_both(guests[1], 2, "5.2", before[1] + 1)
    fleet.broker.node.start()
    check_all_told(told, guests)


@pytest.mark.long
def test_a_daemon_that_restarts_while_the_broker_is_down(fleet: Fleet, told: Told, guests: list[Guest]) -> None:
    alpha, beta, gamma = fleet.hosts
    for guest in guests:
        if guest.here is not gamma:
            migrate(guest, gamma, 3, "7.2")
    fleet.broker.node.kill()
    migrate(guests[1], alpha, 3, "7.2")
    wait_for(lambda: "agreed" in json.dumps(told.events("alpha")[-3:]), 10, "alpha's follower to see it")
    alpha.stop_sidecard()
    fleet.start(alpha)
    migrate(guests[0], beta, 2, "5.2")
    assert told.missing()
    fleet.broker.node.start()
    check_all_told(told, guests)


def test_a_broker_that_hangs(fleet: Fleet, told: Told, guests: list[Guest]) -> None:
    """Wherever the tests before it left the two."""
    with paused(fleet):
        for guest in guests:
            destination = next(host for host in fleet.hosts if host.name != "beta" and host is not guest.here)
            migrate(guest, destination, 3, "7.2")
        assert told.missing()
    check_all_told(told, guests)


def check_all_told(told: Told, guests: list[Guest]) -> None:
    """Complete and in order, up to where the guests are now; repetitions are what they repeat."""
    for guest in guests:
        wait_for(
            partial(has_followed, told, guest), 10, f"the follower on {guest.here.name} to see {guest.name} agreed"
        )
    wait_for(lambda: not told.missing(), COMPLETE_TIMEOUT_S, "every event to be a notification", interval_s=0.1)
    for host in told.followed:
        notified = told.notifications(host)
        first: dict[str, dict[str, Any]] = {}
        for line in notified:
            known = first.setdefault(line["message_id"], line)
            assert known["payload"] == line["payload"]
        assert len({line["payload"]["id"] for line in first.values()}) == len(first)
        events = told.events(host)
        own = {event["id"] for event in events}
        in_order = [line["payload"] for line in first.values() if line["payload"]["id"] in own]
        for domain in {event["domain"] for event in events}:
            expected = [event for event in events if event["domain"] == domain]
            assert [{**event, "host": host} for event in expected] == [
                payload for payload in in_order if payload["domain"] == domain
            ]


def has_followed(told: Told, guest: Guest) -> bool:
    """Whether the follower on its host has seen what the guest's record says now."""
    record = read_record(guest)
    versions = {name: row["version"] for name, row in record.channels.items()} if record is not None else {}
    agreed = [event for event in told.events(guest.here.name) if event["domain"] == guest.name and "channels" in event]
    return bool(agreed) and {row["name"]: row["version"] for row in agreed[-1]["channels"]} == versions


def _read(path: Path) -> list[dict[str, Any]]:
    whole, _, _ = path.read_text().rpartition("\n")
    documents = [json.loads(line) for line in whole.splitlines()]
    return [document for document in documents if isinstance(document, dict)]
