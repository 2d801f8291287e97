"""A guest with both agents moves: each dialect is agreed anew at each stop, whatever its agent lives through."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.conftest import GuestFactory
from tests.lab.domain_xml import OVIRT_PORT, QGA_PORT, GuestSpec
from tests.lab.guest import Guest
from tests.lab.guest_qga import install_qga, make_freezable, start_qga, stop_qga
from tests.lab.host import Host
from tests.lab.hostile_qga import Script, infos_received, silence_qga, start_scripted_qga, wait_port
from tests.lab.records import Record, read_record, wait_for_qga, wait_for_record
from tests.lab.waiting import wait_for

CAPPED = '[upgrade_levels]\novirt = 2\nqga = "5.2"\n'
IMPATIENT = "[qga]\nabsent_seconds = 2\n"
NO_AGENT = GuestSpec(channels=(QGA_PORT,), agent=None, qga=False)


@pytest.fixture
def hosts(alpha: Host, beta: Host, clean_hosts: None) -> Iterator[tuple[Host, Host]]:
    """Alpha with its daemon, uncapped, and beta with its hook; each test gives beta the daemon it needs."""
    for host in (alpha, beta):
        host.install_hook()
    alpha.start_sidecard()
    yield alpha, beta
    assert alpha.stop_sidecard() == 0
    for host in (alpha, beta):
        assert "Traceback" not in host.log_text()


def wait_both(guest: Guest, ovirt: int, qga: str, arrivals: int) -> Record:
    """The record once both channels are agreed, at these versions and this arrival."""

    def accept(record: Record) -> bool:
        both = {OVIRT_PORT: ("agreed", str(ovirt), None), QGA_PORT: ("agreed", qga, None)}
        return record.arrivals == arrivals and {name: record.verdict(name) for name in record.channels} == both

    return wait_for_record(guest, f"both agreed at {ovirt} and {qga} (arrivals {arrivals})", accept)


@pytest.mark.parametrize(
    "postcopy", [pytest.param(False, id="precopy"), pytest.param(True, id="postcopy", marks=pytest.mark.long)]
)
def test_both_dialects_to_a_lower_host_and_back(
    hosts: tuple[Host, Host], boot_guest: GuestFactory, postcopy: bool
) -> None:
    alpha, beta = hosts
    beta.start_sidecard(CAPPED)
    guest = boot_guest()
    wait_both(guest, 3, "7.2", arrivals=1)
    guest.migrate(beta, postcopy=postcopy)
    there = wait_both(guest, 2, "5.2", arrivals=2)
    assert (there.attributes["host"], there.attributes["arrival"]) == ("beta", "migration")
    assert (there.qga["host"], there.ovirt["host"]) == ("5.2", "2")
    guest.migrate(alpha, postcopy=postcopy)
    back = wait_both(guest, 3, "7.2", arrivals=3)
    assert back.qga["host"] == "10.0"
    assert guest.is_running()


def test_asked_once_an_arrival(hosts: tuple[Host, Host], boot_guest: GuestFactory) -> None:
    alpha, beta = hosts
    beta.start_sidecard(CAPPED)
    guest = boot_guest(NO_AGENT)
    start_scripted_qga(guest)
    for stop, (host, version) in enumerate([(alpha, "7.2"), (beta, "5.2"), (alpha, "7.2")], 1):
        if host is not guest.here:
            guest.migrate(host)
        wait_for_qga(guest, "agreed", version, arrivals=stop)
        assert infos_received(guest) == stop


@pytest.mark.long
def test_managed_save_and_restore(hosts: tuple[Host, Host], boot_guest: GuestFactory) -> None:
    alpha, _beta = hosts
    guest = boot_guest()
    wait_both(guest, 3, "7.2", arrivals=1)
    alpha.virsh("managedsave", guest.name)
    guest.start()
    assert wait_both(guest, 3, "7.2", arrivals=2).attributes["arrival"] == "restore"


def test_frozen_guest_migrates(hosts: tuple[Host, Host], boot_guest: GuestFactory) -> None:
    alpha, beta = hosts
    beta.start_sidecard(CAPPED)
    guest = boot_guest()
    first = wait_both(guest, 3, "7.2", arrivals=1)
    make_freezable(guest)
    alpha.virsh("domfsfreeze", guest.name)
    guest.migrate(beta)
    frozen = wait_for_qga(guest, "waiting", "0", "guest-frozen", arrivals=2)
    assert frozen.qga["guest"] == first.qga["guest"], "what it offers is told already"
    beta.virsh("domfsthaw", guest.name)
    wait_both(guest, 2, "5.2", arrivals=2)


def test_upgraded_while_nobody_looks(hosts: tuple[Host, Host], boot_guest: GuestFactory, newer_qga: Path) -> None:
    alpha, beta = hosts
    guest = boot_guest()
    first = wait_both(guest, 3, "7.2", arrivals=1)
    install_qga(guest, newer_qga)
    guest.migrate(beta)
    stop_qga(guest)
    wait_port(guest, "disconnected")
    start_qga(guest, installed=True)
    wait_port(guest, "connected")
    assert read_record(guest) == first, "the record of the host before, which a reader can tell by its host-uuid"
    beta.start_sidecard()
    wait_both(guest, 3, "10.0", arrivals=2)
    alpha.stop_sidecard(signal.SIGKILL)
    guest.migrate(alpha)
    stop_qga(guest)
    start_qga(guest)
    alpha.start_sidecard()
    wait_both(guest, 3, "7.2", arrivals=3)


@pytest.mark.long
def test_replaced_right_after_it_moved(hosts: tuple[Host, Host], boot_guest: GuestFactory, newer_qga: Path) -> None:
    _alpha, beta = hosts
    beta.start_sidecard()
    guest = boot_guest()
    install_qga(guest, newer_qga)
    wait_both(guest, 3, "7.2", arrivals=1)
    guest.migrate(beta)
    stop_qga(guest, signal.SIGKILL)
    start_qga(guest, installed=True)
    wait_both(guest, 3, "10.0", arrivals=2)


def test_agent_that_died_before_the_move(hosts: tuple[Host, Host], boot_guest: GuestFactory) -> None:
    _alpha, beta = hosts
    beta.start_sidecard(IMPATIENT)
    guest = boot_guest()
    wait_both(guest, 3, "7.2", arrivals=1)
    silence_qga(guest)
    wait_for_qga(guest, "lost", "0", "port-closed", arrivals=1)
    guest.migrate(beta)
    record = wait_for_qga(guest, "absent", "0", "not-opened", arrivals=2)
    assert "guest" not in record.qga, "what it said on another host is no offer here"
    start_qga(guest)
    wait_both(guest, 3, "7.2", arrivals=2)


@pytest.mark.long
def test_killed_right_when_it_is_asked(hosts: tuple[Host, Host], boot_guest: GuestFactory) -> None:
    _alpha, beta = hosts
    beta.start_sidecard()
    guest = boot_guest(NO_AGENT)
    start_scripted_qga(guest, Script(dies_at_info=2))
    wait_for_qga(guest, "agreed", "7.2", arrivals=1)
    guest.migrate(beta)
    wait_for_qga(guest, "lost", "0", "port-closed", arrivals=2)
    assert infos_received(guest) == 2
    start_qga(guest)
    wait_for_qga(guest, "agreed", "7.2", arrivals=2)


def test_cancelled_migration_disturbs_nobody(hosts: tuple[Host, Host], boot_guest: GuestFactory) -> None:
    alpha, beta = hosts
    beta.start_sidecard(CAPPED)
    guest = boot_guest(NO_AGENT)
    start_scripted_qga(guest)
    first = wait_for_qga(guest, "agreed", "7.2", arrivals=1)
    virsh = alpha.popen(
        ["virsh", *guest.migrate_command(beta, "--bandwidth", "1")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: "Time elapsed" in alpha.virsh("domjobinfo", guest.name), 20, "the migration to run")
    alpha.virsh("domjobabort", guest.name)
    assert virsh.wait(30) != 0
    wait_for(lambda: not beta.virsh("list", "--all", "--name").split(), 20, "beta to be empty again")
    assert read_record(guest) == first
    assert infos_received(guest) == 1
    guest.migrate(beta)
    wait_for_qga(guest, "agreed", "5.2", arrivals=2)
