"""Caps that are the fleet's: a host that joins lowers them, a broker that is away does nothing, an hour raises them."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.lab.api import api
from tests.lab.conftest import GuestFactory
from tests.lab.fleet import Fleet
from tests.lab.guest import Guest
from tests.lab.host import Host
from tests.lab.records import wait_agreed, wait_for_qga
from tests.lab.waiting import wait_for

AUTO = '[upgrade_levels]\novirt = "auto"\nqga = "auto"\n'
CAPPED = '[upgrade_levels]\novirt = 2\nqga = "5.2"\n'
IN_SHORT_HOURS = "import sidecar.protocol.auto_cap\nsidecar.protocol.auto_cap.RAISE_S = 3.0"
"""sidecard as it is, but for how long the fleet has to support more before a cap rises."""


@pytest.fixture(scope="module")
def guest(fleet: Fleet, boot_shared_guest: GuestFactory) -> Guest:
    """The module's guest on alpha, which offers what the fleet allows, as does beta."""
    alpha, beta, _ = fleet.hosts
    for host in (alpha, beta):
        fleet.start(host, AUTO)
    fleet.wait_joined(alpha, beta)
    guest = boot_shared_guest()
    wait_agreed(guest, 3, arrivals=1)
    wait_for_qga(guest, "agreed", "7.2", arrivals=1)
    return guest


def maximum(host: Host) -> int | str:
    """What a host offers its guests now."""
    with api(host) as client:
        return client.host().dialects["ovirt"].maximum


def wait_for_maximum(host: Host, version: int) -> None:
    """Return when a host offers this."""
    wait_for(lambda: maximum(host) == version, 30, f"{host.name} to offer {version}", interval_s=0.1)


def test_a_host_that_joins_with_less_lowers_the_others(fleet: Fleet, guest: Guest) -> None:
    alpha, beta, gamma = fleet.hosts
    assert (maximum(alpha), maximum(beta)) == (4, 4)
    fleet.start(gamma, CAPPED)
    record = wait_agreed(guest, 2, arrivals=1)
    assert (record.ovirt["guest"], record.ovirt["host"]) == ("3", "2")
    assert wait_for_qga(guest, "agreed", "5.2", arrivals=1).qga["host"] == "5.2"
    wait_for_maximum(beta, 2)
    cap = fleet.look(alpha).caps["ovirt"]
    assert (cap.lowest, cap.held_by, cap.maximum, cap.auto, cap.raise_at) == (2, "gamma", 2, True, None)
    assert "ovirt is capped to 2 now, which gamma supports at most; it was 4" in alpha.log_text()
    kept = fleet.sidecarctl(alpha, "preflight", guest.name, "--host", "gamma")
    assert kept.returncode == 0, "that is what the cap is for"


def test_a_broker_that_is_away_changes_nothing(fleet: Fleet, guest: Guest) -> None:
    alpha, beta, gamma = fleet.hosts
    fleet.broker.node.kill()
    gamma.stop_sidecard()
    alpha.stop_sidecard()
    fleet.start(alpha, AUTO)
    assert maximum(alpha) == 2, "it was on disk"
    guest.migrate(beta)
    assert wait_agreed(guest, 2, arrivals=2).ovirt["host"] == "2"
    guest.migrate(alpha)
    assert wait_agreed(guest, 2, arrivals=3).ovirt["host"] == "2"
    fleet.broker.node.start()
    fleet.wait_joined(alpha, beta)
    assert (maximum(alpha), maximum(beta)) == (2, 2), "gamma is silent, and counts"


def test_forgetting_the_lowest_host_raises_the_cap_an_hour_later(fleet: Fleet, guest: Guest) -> None:
    alpha, beta, _ = fleet.hosts
    assert fleet.sidecarctl(beta, "fleet", "forget", "gamma").returncode == 0
    fleet.wait_forgotten(alpha, "gamma")
    cap = fleet.look(alpha).caps["ovirt"]
    assert (cap.lowest, cap.maximum) == (4, 2)
    assert cap.raise_at is not None
    wait_s = datetime.fromisoformat(cap.raise_at) - datetime.now(UTC)
    assert timedelta(minutes=58) < wait_s <= timedelta(hours=1)
    wait_agreed(guest, 2, arrivals=3)
    for host in (alpha, beta):
        host.stop_sidecard()
        fleet.start(host, AUTO, patch=IN_SHORT_HOURS)
    record = wait_agreed(guest, 3, timeout_s=40)
    assert (record.arrivals, record.ovirt["host"]) == (3, "4")
    assert wait_for_qga(guest, "agreed", "7.2", arrivals=3).qga["host"] == "10.0"
    wait_for_maximum(beta, 4)
