"""A standard qemu-ga is negotiated with through libvirt: started, replaced, blocked, silent, plugged in and out."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest

from tests.lab.conftest import GuestFactory
from tests.lab.domain_xml import DIRECT_QGA_PORT, QGA_PORT, RECORD_URI, GuestSpec, channel_path
from tests.lab.guest import Guest
from tests.lab.guest_qga import install_qga, make_freezable, qga_release, signal_qga, start_qga, stop_qga
from tests.lab.host import Host
from tests.lab.hostile_qga import Script, commands_received, infos_received, silence_qga, start_scripted_qga, wait_port
from tests.lab.records import count_writes, read_record, remove_record, wait_for_qga, wait_for_record
from tests.lab.waiting import wait_for

ONE_CHANNEL = GuestSpec(channels=(QGA_PORT,), agent=None)
IMPATIENT = "[qga]\nabsent_seconds = 2\n"
DIRECT = f'[qga]\ndirect_channels = ["{DIRECT_QGA_PORT}"]\n'
UPGRADE_LIMIT_S = 2.0

StartDaemon = Callable[[str], object]


@pytest.fixture(scope="module")
def booted_guest(boot_shared_guest: GuestFactory) -> Guest:
    return boot_shared_guest(GuestSpec(channels=(QGA_PORT, DIRECT_QGA_PORT), agent=None, qga=False))


@pytest.fixture
def guest(booted_guest: Guest) -> Guest:
    """The module's guest, with no agent, and with no record that a test could take for its own."""
    silence_qga(booted_guest)
    remove_record(booted_guest)
    return booted_guest


@pytest.fixture
def start_daemon(alpha: Host, clean_hosts: None) -> Iterator[StartDaemon]:
    yield alpha.start_sidecard
    assert alpha.stop_sidecard() == 0
    assert "Traceback" not in alpha.log_text()


def wait_seconds(seconds: float) -> None:
    """Lets time pass, where passing time is the very thing that is tested."""
    end = monotonic() + seconds
    wait_for(lambda: monotonic() >= end, seconds + 5, "time to pass")


def reload(host: Host, config_text: str) -> None:
    """Gives the running daemon another configuration."""
    host.path("/etc/sidecar/sidecar.toml").write_text(config_text)
    host.sidecard.process.signal(signal.SIGHUP)  # type: ignore[union-attr]


# --- an agent comes, and is known


def test_start(start_daemon: StartDaemon, boot_guest: GuestFactory) -> None:
    start_daemon("")
    guest = boot_guest(ONE_CHANNEL)
    record = wait_for_qga(guest, "agreed", "7.2", arrivals=1)
    assert record.attributes["arrival"] == "start"
    assert record.qga == {
        "name": QGA_PORT, "dialect": "qga", "state": "agreed", "version": "7.2", "guest": qga_release(guest),
        "host": "10.0", "since": record.qga["since"],
    }  # fmt: skip


@pytest.mark.long
def test_paused_start(alpha: Host, start_daemon: StartDaemon, define_guest: GuestFactory) -> None:
    start_daemon(IMPATIENT)
    guest = define_guest(ONE_CHANNEL)
    guest.start(paused=True)
    wait_for_qga(guest, "waiting", "0", "not-heard", arrivals=1)
    wait_seconds(3)
    assert read_record(guest).verdict(QGA_PORT) == ("waiting", "0", "not-heard")  # type: ignore[union-attr]
    reload(alpha, "")
    alpha.virsh("resume", guest.name)
    wait_for_qga(guest, "agreed", "7.2", arrivals=1)


def test_daemon_comes_later(start_daemon: StartDaemon, guest: Guest) -> None:
    start_qga(guest)
    wait_port(guest, "connected")
    start_daemon("")
    record = wait_for_qga(guest, "agreed", "7.2", arrivals=1)
    assert record.attributes["arrival"] == "attach"
    assert list(record.channels) == [QGA_PORT], "a channel that is listed nowhere has no row"


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_daemon_restart_writes_nothing(
    alpha: Host, start_daemon: StartDaemon, guest: Guest, end: signal.Signals
) -> None:
    start_scripted_qga(guest)
    start_daemon("")
    wait_for_qga(guest, "agreed", "7.2")
    with count_writes(guest) as writes:
        alpha.stop_sidecard(end)
        start_daemon("")
        wait_for(lambda: infos_received(guest) == 2, 10, "the new daemon to ask")
        silence_qga(guest)
        wait_for_qga(guest, "lost", "0", "port-closed")
        assert writes() == 1


def test_libvirtd_restart_writes_nothing(alpha: Host, start_daemon: StartDaemon, guest: Guest) -> None:
    start_scripted_qga(guest)
    start_daemon("")
    before = wait_for_qga(guest, "agreed", "7.2")
    alpha.restart_libvirtd()
    wait_for(lambda: infos_received(guest) == 2, 10, "the daemon to ask again")
    guest.shell("true")
    assert read_record(guest) == before


def test_asks_once_an_opening(start_daemon: StartDaemon, guest: Guest) -> None:
    start_daemon("")
    for _opening in range(2):
        start_scripted_qga(guest)
        wait_for_qga(guest, "agreed", "7.2")
        assert infos_received(guest) == 1
        silence_qga(guest)
        wait_for_qga(guest, "lost", "0", "port-closed")


# --- an agent is replaced, stopped, missing


@pytest.mark.parametrize(("before", "after"), [("7.2", "10.0"), ("10.0", "7.2")], ids=["upgrade", "downgrade"])
def test_replaced_in_the_guest(
    start_daemon: StartDaemon,
    guest: Guest,
    newer_qga: Path,
    time_step: Callable[[str, float], None],
    before: str,
    after: str,
) -> None:
    install_qga(guest, newer_qga)
    start_daemon("")
    start_qga(guest, installed=before == "10.0")
    first = wait_for_qga(guest, "agreed", before)
    wait_seconds(1)  # QEMU tells of one change a second: else it might not tell of this agent's end
    stop_qga(guest)
    start_qga(guest, installed=after == "10.0")
    begin = monotonic()
    record = wait_for_qga(guest, "agreed", after)
    took_s = monotonic() - begin
    time_step(f"qemu-ga {before} replaced by {after}, to the record", took_s)
    assert took_s < UPGRADE_LIMIT_S
    assert record.attributes == first.attributes, "the same run, the same arrival"
    assert record.qga["guest"].startswith(after)
    assert record.qga["host"] == "10.0"


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_agent_ends_and_comes_back(start_daemon: StartDaemon, guest: Guest, end: signal.Signals) -> None:
    start_qga(guest)
    start_daemon("")
    wait_for_qga(guest, "agreed", "7.2")
    stop_qga(guest, end)
    wait_for_qga(guest, "lost", "0", "port-closed")
    start_qga(guest)
    wait_for_qga(guest, "agreed", "7.2", arrivals=1)


def test_no_agent_is_absent_until_it_comes(start_daemon: StartDaemon, guest: Guest) -> None:
    start_daemon(IMPATIENT)
    record = wait_for_qga(guest, "absent", "0", "not-opened")
    assert "guest" not in record.qga
    start_qga(guest)
    wait_for_qga(guest, "agreed", "7.2")


@pytest.mark.parametrize("newer", [False, True], ids=["7.2", "10.0"])
def test_guest_info_blocked(start_daemon: StartDaemon, guest: Guest, newer_qga: Path, newer: bool) -> None:
    start_daemon("")
    start_qga(guest, newer_qga if newer else None, block=["guest-info"])
    record = wait_for_qga(guest, "unversioned", "0", "guest-info-blocked")
    assert "guest" not in record.qga
    stop_qga(guest)
    start_qga(guest, newer_qga if newer else None, block=["guest-exec", "guest-file-open"])
    wait_for_qga(guest, "agreed", "10.0" if newer else "7.2")


@pytest.mark.parametrize(
    ("version", "agreed", "offer"),
    [
        ("8.2.0 (Debian 1:8.2.0+dfsg-1)", ("agreed", "8.2", None), "8.2.0"),
        ("11.1.50", ("agreed", "10.0", None), "11.1.50"),
        ("102.10.0", ("agreed", "7.1", "inferred"), "102.10.0"),
        ("", ("agreed", "7.1", "inferred"), None),
        (None, ("agreed", "7.1", "inferred"), None),
    ],
    ids=["suffix", "newer", "virtio-win", "empty", "missing"],
)
def test_version_texts(
    start_daemon: StartDaemon, guest: Guest, version: str | None, agreed: tuple[str, str, str | None], offer: str | None
) -> None:
    start_daemon("")
    start_scripted_qga(guest, Script(version=version))
    assert wait_for_qga(guest, *agreed).qga.get("guest") == offer


def test_agent_of_before_ids(start_daemon: StartDaemon, guest: Guest) -> None:
    start_daemon("")
    start_scripted_qga(guest, Script(version="2.11.1", ids="rejected"))
    wait_for_qga(guest, "agreed", "2.11")


def test_cap(alpha: Host, start_daemon: StartDaemon, guest: Guest) -> None:
    start_qga(guest)
    start_daemon('[upgrade_levels]\nqga = "5.2"\n')
    record = wait_for_qga(guest, "agreed", "5.2")
    assert (record.qga["guest"], record.qga["host"]) == (qga_release(guest), "5.2")
    reload(alpha, '[upgrade_levels]\nqga = "debian-10"\n')
    wait_for_qga(guest, "agreed", "3.1")
    reload(alpha, "[upgrade_levels]\nqga = 0\n")
    record = wait_for_qga(guest, "unversioned", "0", "host-capped")
    assert (record.qga["guest"], record.qga["host"]) == (qga_release(guest), "0")
    reload(alpha, "")
    wait_for_qga(guest, "agreed", "7.2", arrivals=1)


# --- an agent that is there and cannot be judged


def test_stopped_agent_is_silent_and_comes_back(alpha: Host, start_daemon: StartDaemon, guest: Guest) -> None:
    start_qga(guest)
    start_daemon("")
    wait_for_qga(guest, "agreed", "7.2")
    signal_qga(guest, signal.SIGSTOP)
    alpha.restart_libvirtd()
    wait_for_qga(guest, "lost", "0", "agent-silent")
    signal_qga(guest, signal.SIGCONT)
    wait_for_qga(guest, "agreed", "7.2", arrivals=1)


def test_frozen_while_libvirtd_or_sidecard_restarts(
    alpha: Host, start_daemon: StartDaemon, boot_guest: GuestFactory
) -> None:
    start_daemon("")
    guest = boot_guest(ONE_CHANNEL)
    first = wait_for_qga(guest, "agreed", "7.2")
    make_freezable(guest)
    alpha.virsh("domfsfreeze", guest.name)
    alpha.restart_libvirtd()
    record = wait_for_qga(guest, "agreed", "7.2", "guest-frozen")
    assert record.qga["guest"] == first.qga["guest"], "who it is, libvirtd's restart or not"
    alpha.stop_sidecard()
    remove_warning(guest)
    start_daemon("")
    wait_for_qga(guest, "agreed", "7.2", "guest-frozen")
    alpha.virsh("domfsthaw", guest.name)
    record = wait_for_qga(guest, "agreed", "7.2")
    assert record.attributes == first.attributes


def remove_warning(guest: Guest) -> None:
    """What is seen after it is what the next daemon has found out."""
    record = guest.record()
    assert record is not None
    plain = record.replace(' reason="guest-frozen"', "")
    guest.here.virsh("metadata", guest.name, RECORD_URI, "--live", "--config", "--key", "sidecar", "--set", plain)


def test_frozen_on_arrival(alpha: Host, start_daemon: StartDaemon, boot_guest: GuestFactory) -> None:
    guest = boot_guest(ONE_CHANNEL)
    wait_port(guest, "connected")
    make_freezable(guest)
    alpha.virsh("domfsfreeze", guest.name)
    start_daemon("")
    wait_for_qga(guest, "waiting", "0", "guest-frozen")
    alpha.virsh("domfsthaw", guest.name)
    wait_for_qga(guest, "agreed", "7.2")


@contextmanager
def other_client(guest: Guest) -> Iterator[None]:
    """While another client of libvirt waits, up to a minute, for the agent's answer to a guest-ping."""
    command = ["virsh", "qemu-agent-command", "--timeout", "60", guest.name, '{"execute":"guest-ping"}']
    asked = len(commands_received(guest))
    with (guest.here.root / "other.log").open("w") as log:
        program = guest.here.popen(command, stdout=log, stderr=log)
        try:
            wait_for(lambda: commands_received(guest)[asked:] == ["guest-ping"], 5, "the agent to have been asked")
            yield
        finally:
            program.end()


@pytest.mark.long
def test_another_client_holds_an_agents_job_and_no_agent_is_polled(
    alpha: Host, start_daemon: StartDaemon, guest: Guest, boot_guest: GuestFactory
) -> None:
    calm = boot_guest(GuestSpec(channels=(QGA_PORT,), agent=None, qga=False))
    start_scripted_qga(calm)
    start_scripted_qga(guest, Script(delays_s=[0, 36]))
    wait_port(guest, "connected")
    alpha.virsh("qemu-agent-command", guest.name, '{"execute":"guest-ping"}')
    with other_client(guest):
        start_daemon("")
        wait_for_qga(calm, "agreed", "7.2", timeout_s=5)
        wait_for_qga(guest, "waiting", "0", "agent-job-held", timeout_s=34)
        assert "guest-info" not in commands_received(guest)
        wait_for_qga(guest, "agreed", "7.2", timeout_s=20)
    assert [command for command in commands_received(calm) if command != "guest-sync"] == ["guest-info"]


# --- channels come and go


def test_plugged_in_and_out(start_daemon: StartDaemon, boot_guest: GuestFactory) -> None:
    start_daemon(IMPATIENT)
    guest = boot_guest(GuestSpec(channels=(), agent=None))
    for plugging in range(2):
        assert (read_record(guest) is None) == (plugging == 0)
        guest.plug(QGA_PORT)
        wait_for_record(guest, "a row of the new channel", lambda record: QGA_PORT in record.channels)
        wait_for(lambda: guest.shell_status(f"test -e /dev/virtio-ports/{QGA_PORT}")[0] == 0, 5, "the port")
        start_qga(guest)
        wait_for_qga(guest, "agreed", "7.2", arrivals=1)
        stop_qga(guest)
        wait_for_qga(guest, "lost", "0", "port-closed")
        guest.unplug(QGA_PORT)
        wait_for_record(guest, "the row to be gone", lambda record: not record.channels)
        restart_daemon(guest.here)


def restart_daemon(host: Host) -> None:
    """A new daemon has all of its writes before it, of which each domain has six a minute."""
    assert host.stop_sidecard() == 0
    host.start_sidecard(IMPATIENT)


def test_channel_that_is_dialled_directly(start_daemon: StartDaemon, guest: Guest, newer_qga: Path) -> None:
    start_daemon(DIRECT)
    start_qga(guest, port=DIRECT_QGA_PORT)
    start_qga(guest, newer_qga)
    record = wait_for_qga(guest, "agreed", "7.2", channel=DIRECT_QGA_PORT)
    assert record.channels[DIRECT_QGA_PORT]["guest"] == qga_release(guest)
    wait_for_qga(guest, "agreed", "10.0")
    stop_qga(guest, port=DIRECT_QGA_PORT)
    record = wait_for_qga(guest, "lost", "0", "port-closed", channel=DIRECT_QGA_PORT)
    assert record.verdict(QGA_PORT) == ("agreed", "10.0", None)
    start_qga(guest, installed=True, port=DIRECT_QGA_PORT)
    wait_for_qga(guest, "agreed", "10.0", channel=DIRECT_QGA_PORT)


OTHER_PROGRAM = r"""
import socket, sys, time
channel = socket.socket(socket.AF_UNIX)
channel.connect(sys.argv[1])
answers = channel.makefile("rb")
while True:
    channel.sendall(b'{"execute":"guest-ping"}\n')
    if b"return" in answers.readline():
        print("served", flush=True)
    time.sleep(0.5)
"""


@contextmanager
def other_program(guest: Guest) -> Iterator[Callable[[], Sequence[str]]]:
    """Another program that talks to the agent over the channel's socket; tells how often it was served."""
    path = channel_path(guest.dumpxml(), DIRECT_QGA_PORT)
    log = guest.here.root / "other.log"
    with log.open("w") as output:
        program = guest.here.popen(["/usr/bin/python3", "-c", OTHER_PROGRAM, path], stdout=output)
        try:
            yield lambda: log.read_text().splitlines()
        finally:
            program.end()


def test_another_program_holds_the_directly_dialled_channel(start_daemon: StartDaemon, guest: Guest) -> None:
    start_qga(guest, port=DIRECT_QGA_PORT)
    with other_program(guest) as served:
        wait_for(served, 10, "the other program to be served")
        start_daemon(DIRECT)
        wait_for_qga(guest, "waiting", "0", "socket-busy", channel=DIRECT_QGA_PORT)
        so_far = len(served())
        wait_for(lambda: len(served()) > so_far + 2, 10, "the other program to be served on")
