"""sidecard as confined as its unit says: all of it works, on sockets of other users and with the bus, too."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.broker import reason_against
from tests.lab import confined
from tests.lab.api import api
from tests.lab.conftest import GuestFactory
from tests.lab.domain_xml import DIRECT_QGA_PORT, OVIRT_PORT, QGA_PORT, AgentSpec, GuestSpec
from tests.lab.fleet import CLIENT_FILE
from tests.lab.guest import Guest
from tests.lab.guest_files.control import OWN_AGENT
from tests.lab.guest_qga import start_qga
from tests.lab.host import Host
from tests.lab.laboratory import Laboratory
from tests.lab.records import read_record, wait_agreed, wait_for_qga
from tests.lab.sidecard import PROGRAMS
from tests.lab.waiting import wait_for
from tests.systemd_unit import DAEMON_UNIT, capability_numbers, read_directives

CONFINED = [sys.executable, str(Path(confined.__file__)), str(DAEMON_UNIT)]
SIDECARD = [*CONFINED, str(PROGRAMS / "sidecard")]
SIDECARCTL = str(PROGRAMS / "sidecarctl")
STRANGER = 65534
DOORS = {"api.sock": "660 libvirt", "api-ro.sock": "666 root", "host.json": "644 root", "spool": "700 root"}
SPEC = GuestSpec(channels=(OVIRT_PORT, QGA_PORT, DIRECT_QGA_PORT), agent=AgentSpec(era=OWN_AGENT, heartbeat_s=1.0))
CONFIG = f'[qga]\ndirect_channels = ["{DIRECT_QGA_PORT}"]\n'

# What a program that is not confined may do, a word each; it prints those that it could. Each is tried in a process of
# its own, and leaves nothing behind but a file below /run/sidecar.
POWERS = """
import ctypes, mmap, os, socket
from pathlib import Path

def require(held):
    if not held:
        raise OSError

def call(name, *arguments):
    require(getattr(ctypes.CDLL(None), name)(*arguments) == 0)

FILE = "/run/sidecar/written"
powers = {
    "write /run/sidecar": Path(FILE).touch,
    **{f"write {name}": lambda name=name: require(os.access(name, os.W_OK)) for name in ("/etc", "/run", "/tmp")},
    "tune the kernel": lambda: require(os.access("/proc/sys/kernel/hostname", os.W_OK)),
    "give away": lambda: os.chown(FILE, -1, 33),
    "set-user-id": lambda: os.chmod(FILE, 0o4755),
    "be somebody else": lambda: os.setuid(33),
    "code in data": lambda: mmap.mmap(-1, 4096, prot=7),
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "unix": lambda: socket.socket(socket.AF_UNIX),
    "inet": lambda: socket.socket(socket.AF_INET),
    "namespace": lambda: call("unshare", 0x20000),
    "trace": lambda: call("ptrace", 0, 0, 0, 0),
    "name the host": lambda: socket.sethostname(socket.gethostname()),
    "read the kernel's log": lambda: os.close(os.open("/dev/kmsg", os.O_RDONLY)),
}
for name, power in powers.items():
    if os.fork() == 0:
        try:
            power()
        except OSError:
            os._exit(1)
        os.write(1, name.encode() + b"\\n")
        os._exit(0)
    os.wait()
"""
NEEDED = {"write /run/sidecar", "give away", "unix", "inet"}
TAKEN = {
    *(f"write {name}" for name in ("/etc", "/run", "/tmp")),
    "tune the kernel",
    "set-user-id",
    "be somebody else",
    "code in data",
    "netlink",
    "namespace",
    "trace",
    "name the host",
    "read the kernel's log",
}


@pytest.fixture
def host(alpha: Host, clean_hosts: None) -> Iterator[Host]:
    alpha.install_hook()
    yield alpha
    assert "Traceback" not in alpha.log_text()
    assert "not permitted" not in alpha.log_text()
    assert "Read-only file system" not in alpha.log_text()


def test_the_stand_in_for_systemd_takes_away_what_it_should(host: Host) -> None:
    could = host.run([*CONFINED, sys.executable, "-c", POWERS]).stdout.split("\n")[:-1]
    assert set(could) == NEEDED
    plain = host.run([sys.executable, "-c", POWERS]).stdout.split("\n")[:-1]
    assert set(plain) == NEEDED | TAKEN


def test_guests_arrive_are_asked_and_leave(host: Host, beta: Host, boot_guest: GuestFactory) -> None:
    beta.install_hook()
    beta.start_sidecard(CONFIG, SIDECARD)
    guest = boot_guest(SPEC)
    start_qga(guest, port=DIRECT_QGA_PORT)
    give_away_sockets(guest)
    host.start_sidecard(CONFIG, SIDECARD)
    assert_confined(host)
    wait_all_agreed(guest)
    guest.migrate(beta)
    wait_all_agreed(guest, arrivals=2)
    guest.migrate(host)
    wait_all_agreed(guest, arrivals=3)
    ask_everything(host, guest)
    assert host.path("/run/sidecar/hook-seen").exists(), "a hook's file was read"
    for each in (host, beta):
        assert each.stop_sidecard() == 0
        assert "not permitted" not in each.log_text()


def give_away_sockets(guest: Guest) -> None:
    """As on a host where QEMU is a user of its own: nobody but its owner may connect."""
    for channel in (OVIRT_PORT, DIRECT_QGA_PORT):
        path = guest.channel_socket(channel)
        os.chown(path, STRANGER, STRANGER)
        path.chmod(0o700)


def assert_confined(host: Host) -> None:
    """Of the daemon that runs: what the kernel says of it is what the unit says."""
    process = host.sidecard.process
    assert process is not None
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    kept = capability_numbers(read_directives(DAEMON_UNIT)["CapabilityBoundingSet"][0].split())
    assert {status["CapEff"], status["CapBnd"]} == {f"{sum(1 << number for number in kept):016x}"}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def wait_all_agreed(guest: Guest, **expected: int) -> None:
    wait_agreed(guest, 4, **expected)
    wait_for_qga(guest, "agreed", "7.2")

    def direct_is_agreed() -> bool:
        record = read_record(guest)
        return record is not None and record.channels[DIRECT_QGA_PORT]["state"] == "agreed"

    wait_for(direct_is_agreed, 30, "the agent that is dialled")


def ask_everything(host: Host, guest: Guest) -> None:
    """Both agents; the doctor, who looks at the hook and its helper; each door; a reload."""
    with api(host) as client:
        assert client.send(guest.name, "guest-get-osinfo", channel=QGA_PORT).reply
        assert client.send(guest.name, "guest-ping", channel=DIRECT_QGA_PORT).reply == {}
        assert client.send(guest.name, "echo", {"a": 1}).channel == OVIRT_PORT
        assert client.guest(guest.name).facts
        assert [finding.code for finding in client.doctor().findings] == []
    look_at_the_doors(host)
    assert host.sidecard.process is not None
    host.sidecard.process.signal(signal.SIGHUP)
    wait_for(lambda: "configuration reloaded" in host.log_text(), 20, "the configuration to be read again")


def look_at_the_doors(host: Host) -> None:
    """Another user reads; the files have the modes of the page on security, although the unit's umask would not."""
    metrics = ["curl", "--silent", "--fail", "--unix-socket", "/run/sidecar/api-ro.sock", "http://localhost/metrics"]
    assert "sidecar_domains 1" in host.run(["setpriv", "--reuid=65534", "--clear-groups", *metrics]).stdout
    found = host.run(["stat", "--format=%a %G", *(f"/run/sidecar/{name}" for name in DOORS)]).stdout.splitlines()
    assert found == list(DOORS.values())


def test_with_the_message_bus_over_tls(host: Host, laboratory: Laboratory) -> None:
    reason = reason_against()
    assert reason is None, reason
    broker = laboratory.broker()
    broker.clean()
    host.start_sidecard(broker.host_section(admin=True, tls=True), SIDECARD)
    host.path(CLIENT_FILE).write_text(broker.client_section())
    wait_for(partial(answers_itself, host), 60, "the daemon to hear itself over the bus")
    over_the_bus = [SIDECARCTL, "--bus", CLIENT_FILE, "--host", host.name, "host", "--json"]
    assert json.loads(host.run(over_the_bus).stdout)["hostname"] == host.name
    assert host.path("/run/sidecar/bus/outbox.db").stat().st_mode & 0o777 == 0o600
    assert host.stop_sidecard() == 0


def answers_itself(host: Host) -> bool:
    done = host.run([SIDECARCTL, "fleet", "--json"], check=False)
    return done.returncode == 0 and json.loads(done.stdout)["complete"]
