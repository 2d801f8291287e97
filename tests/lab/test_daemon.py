"""The daemon and libvirtd restart, hang and are killed: nothing is counted twice, nothing is lost."""

import signal
from collections.abc import Iterator
from time import monotonic

import pytest

from tests.lab.conftest import GuestFactory
from tests.lab.domain_xml import OVIRT_PORT, RECORD_URI, GuestSpec
from tests.lab.host import Host
from tests.lab.records import read_record, wait_agreed, wait_for_verdict
from tests.lab.waiting import wait_for

ONE_CHANNEL = GuestSpec(channels=(OVIRT_PORT,))
DEBUG = '[log]\nlevel = "debug"\n'


@pytest.fixture
def host(alpha: Host, clean_hosts: None) -> Iterator[Host]:
    alpha.install_hook()
    alpha.start_sidecard(DEBUG)
    yield alpha
    assert alpha.stop_sidecard() == 0
    assert "Traceback" not in alpha.log_text()


@pytest.mark.parametrize("end", [pytest.param(signal.SIGTERM, marks=pytest.mark.long), signal.SIGKILL])
def test_daemon_restart_counts_and_writes_nothing(host: Host, boot_guest: GuestFactory, end: signal.Signals) -> None:
    guest = boot_guest(ONE_CHANNEL)
    before = wait_agreed(guest, 3, arrivals=1)
    told = len(guest.agent_received())
    host.stop_sidecard(end)
    said = len(host.log_text())
    host.start_sidecard(DEBUG)
    wait_for(lambda: len(guest.agent_received()) == told + 2, 10, "refresh and api-version of the new daemon")
    assert read_record(guest) == before
    assert "agreed" not in host.log_text()[said:], "the record was right already"
    guest.agent_stop()
    wait_for_verdict(guest, "lost", 0, "port-closed", arrivals=1)


def test_new_cap_renegotiates_at_once(host: Host, boot_guest: GuestFactory) -> None:
    guest = boot_guest(ONE_CHANNEL)
    wait_agreed(guest, 3)
    daemon = host.sidecard.process
    assert daemon is not None
    for cap, version in (('"ovirt-3.5"', 1), (4, 3)):
        host.path("/etc/sidecar/sidecar.toml").write_text(f"[upgrade_levels]\novirt = {cap}\n")
        daemon.signal(signal.SIGHUP)
        wait_agreed(guest, version, arrivals=1)
    host.path("/etc/sidecar/sidecar.toml").write_text("[upgrade_levels]\novirt = 'no such release'\n")
    daemon.signal(signal.SIGHUP)
    wait_for(lambda: "configuration not reloaded" in host.log_text(), 5, "the refusal")
    wait_agreed(guest, 3, arrivals=1)


@pytest.mark.long
@pytest.mark.parametrize("kill", [False, True])
def test_libvirtd_restart_is_no_arrival(host: Host, boot_guest: GuestFactory, kill: bool) -> None:
    guest = boot_guest(ONE_CHANNEL)
    before = wait_agreed(guest, 3, arrivals=1)
    received = guest.agent_received()
    host.restart_libvirtd(kill=kill)
    wait_for(lambda: host.log_text().count("connected to libvirt on") == 2, 20, "the daemon to be connected again")
    assert guest.agent_received() == received, "the channel was kept"
    assert read_record(guest) == before
    guest.agent_restart()
    wait_agreed(guest, 3, arrivals=1)
    newcomer = boot_guest(ONE_CHANNEL)
    wait_agreed(newcomer, 3, arrivals=1)


@pytest.mark.long
def test_libvirtd_that_hangs(host: Host, boot_guest: GuestFactory) -> None:
    host.stop_sidecard()
    host.start_sidecard("[libvirt]\nkeepalive_seconds = 1\n")
    guest = boot_guest(ONE_CHANNEL)
    wait_agreed(guest, 3, arrivals=1)
    assert host.libvirtd.process is not None
    host.libvirtd.process.signal(signal.SIGSTOP)
    wait_for(lambda: "connection to libvirt lost" in host.log_text(), 20, "keepalive to give it up")
    connections = host.log_text().count("connected to libvirt on")
    host.libvirtd.process.signal(signal.SIGCONT)
    wait_for(lambda: host.log_text().count("connected to libvirt on") > connections, 20, "the daemon to be back")
    guest.agent_restart()
    wait_agreed(guest, 3, arrivals=1)
    host.libvirtd.process.signal(signal.SIGSTOP)
    begin = monotonic()
    assert host.stop_sidecard() == 0
    assert monotonic() - begin < 5, "a stop that does not wait for libvirtd"
    host.libvirtd.process.signal(signal.SIGCONT)
    host.start_sidecard(DEBUG)


def test_daemon_starts_without_libvirt(host: Host, boot_guest: GuestFactory) -> None:
    host.stop_sidecard()
    host.stop_libvirtd()
    host.start_sidecard(DEBUG)
    wait_for(lambda: "cannot connect to libvirt" in host.log_text(), 10, "the daemon to say so")
    host.start_libvirtd()
    guest = boot_guest(ONE_CHANNEL)
    wait_agreed(guest, 3, arrivals=1)


def test_somebody_removes_the_record(host: Host, boot_guest: GuestFactory) -> None:
    guest = boot_guest(ONE_CHANNEL)
    wait_agreed(guest, 3, arrivals=1)
    host.virsh("metadata", guest.name, RECORD_URI, "--remove", "--live", "--config")
    assert read_record(guest) is None
    guest.agent_stop()
    wait_for_verdict(guest, "lost", 0, "port-closed", arrivals=1)


def test_domain_with_an_odd_name(host: Host, boot_guest: GuestFactory) -> None:
    guest = boot_guest(GuestSpec(name="a b;$(id)'\"&", channels=(OVIRT_PORT,)))
    wait_agreed(guest, 3, arrivals=1)
    host.virsh("managedsave", guest.name)
    guest.start()
    wait_agreed(guest, 3, arrivals=2)


def test_a_crash_is_in_the_log(host: Host) -> None:
    assert host.stop_sidecard(signal.SIGSEGV) in (-signal.SIGSEGV, 128 + signal.SIGSEGV)
    host.start_sidecard()
    assert "Fatal Python error: Segmentation fault" in host.log_text()
    assert "in virEventRunDefaultImpl" in host.log_text()  # libvirt's binding by name, whichever thread was in it
