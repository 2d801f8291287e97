"""A guest migrates: to less, to more, to nothing, and not at all; renegotiated at each stop, and recorded."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import pytest

from tests.lab.conftest import GuestFactory
from tests.lab.domain_xml import OVIRT_PORT, AgentSpec, GuestSpec
from tests.lab.guest import Guest
from tests.lab.host import Host
from tests.lab.records import answers, read_record, told, wait_agreed, wait_for_verdict
from tests.lab.waiting import wait_for

ONE_CHANNEL = GuestSpec(channels=(OVIRT_PORT,))
CAPPED_TO_2 = "[upgrade_levels]\novirt = 2\n"
DEBUG = '[log]\nlevel = "debug"\n'
CAPPED_TO_0 = "[upgrade_levels]\novirt = 0\n"


@pytest.fixture
def hosts(alpha: Host, beta: Host, clean_hosts: None) -> Iterator[tuple[Host, Host]]:
    """Alpha with its daemon at 4, and beta with its hook; each test gives beta the daemon it needs."""
    for host in (alpha, beta):
        host.install_hook()
    alpha.start_sidecard()
    yield alpha, beta
    assert alpha.stop_sidecard() == 0
    for host in (alpha, beta):
        assert "Traceback" not in host.log_text()


@contextmanager
def migrating(guest: Guest, destination: Host, *options: str) -> Iterator[None]:
    """While virsh migrates it; whether that ends well is the caller's affair."""
    virsh = guest.here.popen(["virsh", *guest.migrate_command(destination, *options)], stderr=subprocess.DEVNULL)
    try:
        yield
        virsh.wait(30)
    finally:
        virsh.end()


def test_to_a_lower_host_and_back(hosts: tuple[Host, Host], boot_guest: GuestFactory) -> None:
    alpha, beta = hosts
    beta.start_sidecard(CAPPED_TO_2)
    guest = boot_guest(ONE_CHANNEL)
    wait_agreed(guest, 3, arrivals=1)
    guest.migrate(beta)
    there = wait_agreed(guest, 2, arrivals=2)
    assert there.attributes["arrival"] == "migration"
    assert there.attributes["host-uuid"] == beta.host_uuid
    assert (there.ovirt["guest"], there.ovirt["host"]) == ("3", "2")
    guest.migrate(alpha)
    back = wait_agreed(guest, 3, arrivals=3)
    assert (back.attributes["host"], back.attributes["arrival"]) == ("alpha", "migration")
    assert told(guest) == [3, 2, 3]


def test_an_original_agent_is_agreed_with_before_its_heartbeat(
    hosts: tuple[Host, Host], boot_guest: GuestFactory
) -> None:
    alpha, beta = hosts
    beta.start_sidecard()
    guest = boot_guest(GuestSpec(channels=(OVIRT_PORT,), agent=AgentSpec(era="1.0.12", heartbeat_s=5)))
    wait_agreed(guest, 3)
    took = []
    for arrivals, host in enumerate((beta, alpha, beta), 2):
        guest.migrate(host)
        inferred = wait_for_verdict(guest, "agreed", 3, "inferred", arrivals=arrivals)
        assert "guest" not in inferred.ovirt
        confirmed = wait_agreed(guest, 3, arrivals=arrivals)
        assert (confirmed.ovirt["guest"], confirmed.ovirt["since"]) == ("3", inferred.ovirt["since"])
        took.append(seconds_between(confirmed.attributes["arrived"], confirmed.ovirt["since"]))
    assert answers(guest) == [[3], [3, 3], [3, 3], [3, 3]]
    assert sorted(took)[1] < 0.5, took


def seconds_between(earlier: str, later: str) -> float:
    """Between two times of a record."""
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


@pytest.mark.parametrize("era", [*(pytest.param(era, marks=pytest.mark.long) for era in ("1.0.8", "1.0.10")), "1.0.11"])
def test_every_era_agrees_anew_at_each_stop(hosts: tuple[Host, Host], boot_guest: GuestFactory, era: str) -> None:
    alpha, beta = hosts
    beta.start_sidecard("[upgrade_levels]\novirt = 1\n")
    guest = boot_guest(GuestSpec(channels=(OVIRT_PORT,), agent=AgentSpec(era=era)))
    offer = {"1.0.8": None, "1.0.10": 1, "1.0.11": 2}[era]
    for stop, (host, maximum) in enumerate([(alpha, 4), (beta, 1), (alpha, 4)], 1):
        if host is not guest.here:
            guest.migrate(host)
        if offer is None:
            assert "guest" not in wait_for_verdict(guest, "unversioned", 0, "no-version", arrivals=stop).ovirt
        else:
            wait_agreed(guest, min(offer, maximum), arrivals=stop)
    assert told(guest) == ([] if offer is None else [min(offer, maximum) for maximum in (4, 1, 4)])


def test_to_a_host_capped_to_0_and_back(hosts: tuple[Host, Host], boot_guest: GuestFactory) -> None:
    alpha, beta = hosts
    beta.start_sidecard(CAPPED_TO_0)
    guest = boot_guest(ONE_CHANNEL)
    wait_agreed(guest, 3)
    guest.migrate(beta)
    record = wait_for_verdict(guest, "unversioned", 0, "host-capped", arrivals=2)
    assert (record.ovirt["guest"], record.ovirt["host"]) == ("3", "0")
    wait_for(lambda: guest.agent_version() == 0, 10, "the agent to fall to 0")
    assert ("refresh", {}) in guest.agent_received()
    guest.migrate(alpha)
    wait_agreed(guest, 3, arrivals=3)
    assert 0 not in told(guest)


def test_to_a_host_without_a_sidecar_and_back(hosts: tuple[Host, Host], boot_guest: GuestFactory) -> None:
    alpha, beta = hosts
    guest = boot_guest(ONE_CHANNEL)
    first = wait_agreed(guest, 3)
    guest.migrate(beta)
    guest.shell("true")
    assert read_record(guest) == first, "the record of the host before, which a reader can tell by its host-uuid"
    guest.migrate(alpha)
    back = wait_agreed(guest, 3, arrivals=2)
    assert back.attributes["run"] != first.attributes["run"]
    assert told(guest) == [3, 3]


def test_post_copy(hosts: tuple[Host, Host], boot_guest: GuestFactory) -> None:
    _alpha, beta = hosts
    beta.start_sidecard(CAPPED_TO_2)
    guest = boot_guest(ONE_CHANNEL)
    wait_agreed(guest, 3)
    guest.migrate(beta, postcopy=True)
    assert wait_agreed(guest, 2, arrivals=2).attributes["arrival"] == "migration"


def test_offline_migration_is_no_arrival(hosts: tuple[Host, Host], boot_guest: GuestFactory) -> None:
    alpha, beta = hosts
    beta.start_sidecard(CAPPED_TO_2)
    guest = boot_guest(ONE_CHANNEL)
    first = wait_agreed(guest, 3)
    alpha.virsh("destroy", guest.name)
    guest.migrate(beta, offline=True)
    assert read_record(guest, config=True) == first
    guest.start()
    assert wait_agreed(guest, 2, arrivals=2).attributes["arrival"] == "start"


def test_cancelled_migration_leaves_no_trace(hosts: tuple[Host, Host], boot_guest: GuestFactory) -> None:
    alpha, beta = hosts
    beta.start_sidecard(CAPPED_TO_2 + DEBUG)
    guest = boot_guest(ONE_CHANNEL)
    first = wait_agreed(guest, 3)
    received = guest.agent_received()
    with migrating(guest, beta, "--bandwidth", "1"):
        wait_for(lambda: beta.virsh("list", "--all", "--name").split(), 20, "the guest to be expected on beta")
        wait_for(lambda: "attached" in beta.log_text(), 10, "beta's daemon to be attached before the guest")
        alpha.virsh("domjobabort", guest.name)
    wait_for(lambda: not beta.virsh("list", "--all", "--name").split(), 20, "beta to be empty again")
    assert read_record(guest) == first
    assert guest.agent_received() == received, "no disturbance at the source"
    assert "arrived" not in beta.log_text()
    guest.migrate(beta)
    wait_agreed(guest, 2, arrivals=2)


def test_refused_migration_leaves_no_trace(hosts: tuple[Host, Host], boot_guest: GuestFactory) -> None:
    _alpha, beta = hosts
    beta.start_sidecard(CAPPED_TO_2)
    guest = boot_guest(ONE_CHANNEL)
    first = wait_agreed(guest, 3)
    refusal = beta.path("/etc/libvirt/hooks/qemu.d/60-refuse")
    refusal.write_text('#!/bin/sh\n[ "$2" != migrate ] || { echo not today >&2; exit 1; }\n')
    refusal.chmod(0o755)
    with pytest.raises(RuntimeError, match="not today"):
        guest.migrate(beta)
    refusal.unlink()
    assert guest.is_running()
    assert read_record(guest) == first
    guest.migrate(beta)
    wait_agreed(guest, 2, arrivals=2)


def test_daemon_killed_before_and_started_after(hosts: tuple[Host, Host], boot_guest: GuestFactory) -> None:
    _alpha, beta = hosts
    beta.start_sidecard(CAPPED_TO_2)
    beta.stop_sidecard(signal.SIGKILL)
    guest = boot_guest(ONE_CHANNEL)
    first = wait_agreed(guest, 3)
    guest.migrate(beta)
    assert list(beta.path("/run/sidecar/spool").iterdir()), "the hook left word while the daemon was down"
    assert read_record(guest) == first
    beta.start_sidecard(CAPPED_TO_2)
    wait_agreed(guest, 2, arrivals=2)
    wait_for(lambda: not list(beta.path("/run/sidecar/spool").iterdir()), 5, "the spool to be empty")


@pytest.mark.long
def test_many_times_to_and_fro(hosts: tuple[Host, Host], boot_guest: GuestFactory) -> None:
    alpha, beta = hosts
    beta.start_sidecard(CAPPED_TO_2)
    guest = boot_guest(ONE_CHANNEL)
    wait_agreed(guest, 3)
    for trip in range(3):
        guest.migrate(beta)
        guest.migrate(alpha)
        assert wait_agreed(guest, 3).arrivals == 3 + 2 * trip


def test_paused_guest_migrates_paused(hosts: tuple[Host, Host], boot_guest: GuestFactory) -> None:
    alpha, beta = hosts
    beta.start_sidecard(CAPPED_TO_2 + DEBUG)
    guest = boot_guest(ONE_CHANNEL)
    first = wait_agreed(guest, 3)
    alpha.virsh("suspend", guest.name)
    guest.migrate(beta)
    wait_for(lambda: "attached" in beta.log_text(), 5, "beta's daemon to be attached")
    assert read_record(guest) == first, "it arrives when it resumes"
    beta.virsh("resume", guest.name)
    assert wait_agreed(guest, 2, arrivals=2).attributes["arrival"] == "migration"
