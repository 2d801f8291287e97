"""The host fails otherwise: a full disk, a clock that steps, a crowded spool, QEMU killed, daemons killed midway."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from signal import SIGHUP
from time import monotonic

import pytest

from tests.lab.arrival_faults import hooked, migrating, note_before, require_one_arrival, require_told, settle
from tests.lab.conftest import GuestFactory
from tests.lab.domain_xml import OVIRT_PORT, GuestSpec
from tests.lab.fault_points import Step, kill_daemon, let_go_on, start_stopping_at, step_clock, wait_stopped
from tests.lab.guest import Guest
from tests.lab.harm import Vigil, identify_qemu
from tests.lab.host import Host
from tests.lab.records import read_record, wait_agreed, wait_for_record, wait_for_verdict
from tests.lab.waiting import wait_for

DEBUG = '[log]\nlevel = "debug"\n'
HOOK = "/etc/libvirt/hooks/qemu.d/50-sidecar"
FILES = 1000
HOUR_S = 3600


@pytest.fixture(scope="module")
def shared(alpha: Host, beta: Host, boot_shared_guest: GuestFactory) -> Iterator[Guest]:
    """The module's guest, on two hosts with hooks."""
    with hooked(alpha, beta):
        yield boot_shared_guest(GuestSpec(channels=(OVIRT_PORT,)))


@pytest.fixture
def guest(alpha: Host, beta: Host, shared: Guest) -> Guest:
    """It has agreed where it is, and the other host has no daemon."""
    settle(shared, 3, alpha, beta)
    return shared


@pytest.fixture
def other(alpha: Host, beta: Host, guest: Guest) -> Host:
    """The host where it is not."""
    return beta if guest.here is alpha else alpha


def restore(guest: Guest) -> None:
    """The cheapest arrival: saved, and started again from there."""
    guest.here.virsh("managedsave", guest.name)
    guest.start()


# --- in the middle of a migration


@contextmanager
def slowly_migrating(guest: Guest, destination: Host) -> Iterator[None]:
    """The block runs while the guest is on its way and its destination's daemon is attached; then it arrives."""
    source = guest.here
    attached = destination.log_text().count("attached")
    source.virsh("migrate-setspeed", guest.name, "1")
    with migrating(guest, destination):
        wait_for(lambda: destination.log_text().count("attached") > attached, 60, "the destination to be attached")
        yield
        source.virsh("migrate-setspeed", guest.name, "1000")


@pytest.mark.parametrize("side", ["source", "destination"])
def test_daemon_killed_in_the_middle_of_a_migration(guest: Guest, other: Host, side: str) -> None:
    source, before = guest.here, note_before(guest, 3)
    victim = source if side == "source" else other
    other.start_sidecard(DEBUG)
    with Vigil(guest, source, other) as vigil:
        with vigil.moving(), slowly_migrating(guest, other):
            kill_daemon(victim)
            victim.start_sidecard(DEBUG)
        record = require_one_arrival(guest, before, 3, {}, "migration")
    assert record.attributes["arrival"] == "migration", "each daemon saw it come"
    # The source's next daemon finds the guest still there; the destination's first one had nobody to tell.
    require_told(guest, before, 3, daemons=2 if side == "source" else 1)


def test_both_daemons_killed_and_the_migration_cancelled(guest: Guest, other: Host) -> None:
    source, before = guest.here, note_before(guest, 3)
    other.start_sidecard(DEBUG)
    said = len(other.log_text())
    source.virsh("migrate-setspeed", guest.name, "1")
    with Vigil(guest, source, other) as vigil:
        with vigil.moving():
            virsh = source.popen(["virsh", *guest.migrate_command(other)], stderr=subprocess.DEVNULL)
            wait_for(lambda: "attached" in other.log_text()[said:], 60, "the destination to be attached")
            for host in (source, other):
                kill_daemon(host)
                host.start_sidecard(DEBUG)
            source.virsh("domjobabort", guest.name)
            assert virsh.wait(60) != 0
        wait_agreed(guest, 3)
        source.virsh("migrate-setspeed", guest.name, "1000")
    assert read_record(guest) == before.record
    assert "arrived" not in other.log_text()[said:]


# --- QEMU


def test_qemu_killed_and_started_under_a_daemon_that_stands(guest: Guest) -> None:
    host, before = guest.here, note_before(guest, 3)
    with Vigil(guest) as vigil, vigil.standing():
        host.virsh("managedsave", guest.name)
        host.stop_sidecard()
        start_stopping_at(host, Step.RECORD_TO_WRITE, DEBUG)
        guest.start()
        wait_stopped(host)
        host.run(["kill", "-KILL", identify_qemu(host, guest).split()[0]])
        wait_for(guest.is_off, 30, "libvirt to notice")
        assert read_record(guest, config=True) == before.record
        guest.start()
        let_go_on(host)
        guest.wait_booted()
        record = require_one_arrival(guest, before, 3, {}, "start")
    assert record.attributes["run"] != before.record.attributes["run"]


# --- the disk


@contextmanager
def full_disk(host: Host) -> Iterator[Callable[[], None]]:
    """Spool and state are on a full file system from now on, until what is yielded is called."""
    host.stop_sidecard()
    host.run(["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=64,mode=755", "tmpfs", "/run/sidecar"])
    try:
        host.start_sidecard(DEBUG)
        wait_for(host.path("/run/sidecar/host.json").exists, 20, "the offer")
        host.run(["dd", "if=/dev/zero", "of=/run/sidecar/fill", "bs=4k"], check=False)
        yield lambda: host.path("/run/sidecar/fill").unlink()
    finally:
        host.stop_sidecard()
        host.run(["umount", "/run/sidecar"])


def test_full_disk(guest: Guest) -> None:
    host = guest.here
    with full_disk(host) as make_room, Vigil(guest) as vigil:
        before = note_before(guest, 3)
        with vigil.standing():
            restore(guest)
            require_one_arrival(guest, before, 3, {}, "restore")
        require_silent_hook(host)
        reload(host)
        wait_for(lambda: "the host's offer cannot be written" in host.log_text(), 20, "the daemon to say so")
        host.stop_sidecard()
        host.start_sidecard(DEBUG)
        again = note_before(guest, 3)
        make_room()
        reload(host)
        require_silent_hook(host)
        wait_for(lambda: not list(host.path("/run/sidecar/spool").iterdir()), 20, "the spool to be read again")
        with vigil.standing():
            restore(guest)
            require_one_arrival(guest, again, 3, {}, "restore")
    host.start_sidecard()


def require_silent_hook(host: Host) -> None:
    done = host.run([HOOK, "nobody", "started", "begin", "-"], check=False, stdin_text="<domain/>")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def reload(host: Host) -> None:
    assert host.sidecard.process is not None
    host.sidecard.process.signal(SIGHUP)


# --- the clock on the wall


def test_clock_steps(guest: Guest) -> None:
    host = guest.here
    host.stop_sidecard()
    start_stopping_at(host, None, DEBUG)
    with Vigil(guest) as vigil:
        for offset_s in (HOUR_S, -HOUR_S):
            live_through_step(guest, vigil, offset_s)
    step_clock(host, 0)
    host.stop_sidecard()


def live_through_step(guest: Guest, vigil: Vigil, offset_s: float) -> None:
    """The clock steps; verdicts, arrivals and the spool are as ever, and bear the new time."""
    before = note_before(guest, 3)
    step_clock(guest.here, offset_s)
    young = guest.here.path("/run/sidecar/spool/young")
    young.write_bytes(b"libvirt-sidecar notice 1\nstarted\n")
    agent = guest.spec.agent
    assert agent is not None
    guest.agent_stop()
    wait_for_verdict(guest, "lost", 0, "port-closed")  # a quick restart may show as none
    guest.agent_start(agent.era, agent.heartbeat_s)
    wait_for_record(guest, "a verdict of this hour", lambda record: is_near(record.ovirt["since"], offset_s))
    assert wait_agreed(guest, 3).attributes == before.record.attributes
    before = note_before(guest, 3)
    with vigil.standing():
        restore(guest)
        record = require_one_arrival(guest, before, 3, {}, "restore")
    assert is_near(record.attributes["arrived"], offset_s)
    wait_for(lambda: not young.exists(), 20, "the file that nobody finishes to be dropped")


def is_near(moment: str, offset_s: float) -> bool:
    """Whether the record's time is that of a clock that is wrong by so much."""
    return abs(datetime.fromisoformat(moment) - datetime.now(UTC) - timedelta(seconds=offset_s)) < timedelta(minutes=10)


# --- the spool


def test_a_thousand_files_in_the_spool(guest: Guest, time_step: Callable[[str, float], None]) -> None:
    host, before = guest.here, note_before(guest, 3)
    host.stop_sidecard()
    host.run(["sh", "-c", f"for n in $(seq {FILES}); do {HOOK} vm$n started begin - </dev/null; done"], timeout_s=120)
    host.run([HOOK, guest.name, "started", "begin", "-"])
    assert len(list(host.path("/run/sidecar/spool").iterdir())) > FILES
    with Vigil(guest) as vigil, vigil.standing():
        host.virsh("managedsave", guest.name)
        host.start_sidecard()
        begin = monotonic()
        guest.start()
        require_one_arrival(guest, before, 3, {}, "restore")
        time_step("from start to the record, with a thousand files in the spool", monotonic() - begin)
    wait_for(lambda: not list(host.path("/run/sidecar/spool").iterdir()), 20, "the spool to be empty")
