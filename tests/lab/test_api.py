"""The API of a real daemon with a real guest: waiting, following, reading only, and what a migration leaves of it."""

import fcntl
import json
import signal
import socket
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from time import monotonic, time

import pytest

from sidecar.api.events import Event
from sidecar.api.problems import ProblemError
from sidecar.api.views import FactView
from sidecar.client import DEFAULT_SOCKET, READONLY_SOCKET, Client
from sidecar.errors import DaemonUnreachableError
from tests.lab.api import api
from tests.lab.conftest import GuestFactory
from tests.lab.domain_xml import OVIRT_PORT, QGA_PORT, RECORD_URI, AgentSpec, GuestSpec
from tests.lab.guest import Guest
from tests.lab.guest_files.control import OWN_AGENT
from tests.lab.guest_qga import start_qga, stop_qga
from tests.lab.host import Host
from tests.lab.records import wait_agreed, wait_for_qga, watch_writes
from tests.lab.sidecard import PROGRAMS
from tests.lab.waiting import wait_for

SPEC = GuestSpec(channels=(OVIRT_PORT, QGA_PORT), agent=AgentSpec(era=OWN_AGENT, heartbeat_s=5.0))
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


@pytest.fixture
def host(alpha: Host, clean_hosts: None) -> Iterator[Host]:
    alpha.install_hook()
    alpha.start_sidecard()
    yield alpha
    if alpha.sidecard.process is not None:
        assert alpha.stop_sidecard() == 0
    assert "Traceback" not in alpha.log_text()


@pytest.fixture(scope="module")
def booted_guest(boot_shared_guest: GuestFactory) -> Guest:
    return boot_shared_guest(SPEC)


@pytest.fixture
def guest(host: Host, booted_guest: Guest) -> Guest:
    wait_agreed(booted_guest, 4)
    wait_for_qga(booted_guest, "agreed", "7.2")
    return booted_guest


def curl(host: Host, path: str, *options: str, socket: str = READONLY_SOCKET, user: list[str] = NOBODY) -> str:
    """The HTTP status and the body, as another user's program gets them."""
    url = f"http://localhost{path}"
    argv = [*user, "curl", "--silent", "--write-out", "\n%{http_code}", "--unix-socket", socket, *options, url]
    body, _, status = host.run(argv, check=False).stdout.rpartition("\n")
    return f"{status} {body}"


# --- waiting


def test_a_process_that_waits_returns_within_50_ms_of_the_record(host: Host, guest: Guest) -> None:
    late: list[float] = []
    with watch_writes(guest) as log:
        for state in ["lost", "agreed"] * 2:
            waiter = Waiter(host, guest.name, state)
            before = log.stat().st_size
            if state == "lost":
                stop_qga(guest)
            else:
                start_qga(guest)
            returned = waiter.join()
            stood = wait_for(partial(last_write, log, before), 5, "libvirt's word on the write")
            late.append(returned - stood)
    # Libvirt tells of the write before it has answered it, and the record is read back before it counts.
    assert median(late) < 0.05, late
    assert -0.05 < min(late) <= max(late) < 0.5, late  # two laboratories may run side by side


class Waiter:
    """Somebody who waits already: the daemon has read his request."""

    def __init__(self, host: Host, domain: str, state: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(host.path(READONLY_SOCKET)))
        self._socket.settimeout(60)
        path = f"/v1/domains/{domain}/wait?for={state}&timeout=60&channel={QGA_PORT}"
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        wait_for(lambda: self._unread() == 0, 5, "the daemon to read the request")

    def _unread(self) -> int:
        (unread,) = struct.unpack("i", fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4)))
        return int(unread)

    def join(self) -> float:
        """When the answer came, seconds since the epoch."""
        answer = self._socket.recv(65536)
        returned = time()
        self._socket.close()
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        return returned


def last_write(log: Path, begin: int) -> float | None:
    """When the record was written last, as `virsh event --timestamp` tells; seconds since the epoch."""
    lines = [line for line in log.read_text()[begin:].splitlines() if RECORD_URI in line]
    if not lines:
        return None
    text = lines[-1].partition(": event")[0]
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f%z").astimezone(UTC).timestamp()


def test_who_waits_for_a_guest_that_has_not_come_yet(host: Host, beta: Host, boot_guest: GuestFactory) -> None:
    beta.start_sidecard()
    guest = boot_guest(GuestSpec(channels=(OVIRT_PORT,)))
    wait_agreed(guest, 3)
    argv = [str(PROGRAMS / "sidecarctl"), "wait", guest.name, "--timeout", "40", "--json"]
    told = beta.root / "waited.json"
    with told.open("w") as output:
        waiting = beta.popen(argv, stdout=output)
    guest.migrate(beta)
    assert waiting.wait(40) == 0
    view = json.loads(told.read_text())
    assert (view["arrival"], view["host"], view["recorded"]) == ("migration", "beta", True)


def test_a_daemon_that_dies_leaves_nobody_waiting(host: Host, guest: Guest) -> None:
    argv = [str(PROGRAMS / "sidecarctl"), "wait", guest.name, "--for", "lost", "--timeout", "60"]
    waiting = host.popen(argv, stderr=subprocess.DEVNULL)
    process = host.sidecard.process
    assert process is not None
    wait_for(lambda: "sidecarctl" in host.run(["ss", "-xp"]).stdout, 10, "sidecarctl to be connected")
    host.stop_sidecard(signal.SIGKILL)
    assert waiting.wait(20) == 3
    with pytest.raises(DaemonUnreachableError), api(host) as client:
        client.list()
    host.start_sidecard()  # its sockets are in the way of nobody
    with api(host) as client:
        assert client.wait(guest.name, timeout_s=20).recorded


# --- following


def test_the_story_of_a_migration_as_both_hosts_tell_it(host: Host, beta: Host, boot_guest: GuestFactory) -> None:
    beta.start_sidecard("[upgrade_levels]\novirt = 2\n")
    guest = boot_guest(SPEC)
    wait_agreed(guest, 4)
    with follow(host, guest) as at_alpha, follow(beta, guest) as at_beta:
        guest.migrate(beta)
        wait_agreed(guest, 2)
        left = wait_for(lambda: find(at_alpha, "left"), 20, "alpha to tell that it left")
        arrived = wait_for(lambda: find(at_beta, "arrived"), 20, "beta to tell that it arrived")
        agreed = wait_for(lambda: find(at_beta, "agreement", "agreed"), 20, "beta to tell of the agreement")
    assert left.details["arrivals"] == 1
    assert arrived.details == {"arrival": "migration", "arrivals": 2, "run": agreed.details["run"]}
    assert {row["version"] for row in agreed.details["channels"]} >= {"2"}
    order = [event.type for event in at_beta]
    assert order.index("arrived") < order.index("channel") < order.index("agreement")


@contextmanager
def follow(host: Host, guest: Guest) -> Iterator[list[Event]]:
    """What the host's daemon tells of the guest from now on."""
    told: list[Event] = []
    ready = threading.Event()
    with api(host) as asker:
        begin = asker.host()  # the daemon answers: whoever asks next comes after it
    assert begin.hostname == host.name

    def listen() -> None:
        # The daemon is stopped after the test.
        with suppress(DaemonUnreachableError), api(host, readonly=True) as client, client.events(guest.name) as events:
            ready.set()
            told.extend(events)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    assert ready.wait(10)
    yield told


def find(told: list[Event], kind: str, state: str | None = None) -> Event | None:
    """The first event of this type; with a state, the first whose channels are all in it."""
    for event in list(told):
        states = {row["state"] for row in event.details.get("channels", [])}
        if event.type == kind and state in (None, *states) and (state is None or len(states) == 1):
            return event
    return None


# --- a job that holds the domain


def test_what_is_known_is_served_while_a_migration_holds_the_domain(
    host: Host, beta: Host, boot_guest: GuestFactory
) -> None:
    guest = boot_guest(SPEC)
    wait_agreed(guest, 4)
    wait_for_qga(guest, "agreed", "7.2")
    with api(host) as client:
        before = wait_for(lambda: facts(client, guest), 20, "the guest to tell its name")
        virsh = host.popen(["virsh", *guest.migrate_command(beta, "--bandwidth", "1")], stderr=subprocess.DEVNULL)
        try:
            wait_for(
                lambda: (
                    "Bounded" not in host.virsh("domjobinfo", guest.name)
                    and "Data" in host.virsh("domjobinfo", guest.name)
                ),
                20,
                "the migration to hold the domain",
            )
            begun = monotonic()
            during = facts(client, guest)
            assert client.show(guest.name).activity == "running"
            assert {view.message for view in client.messages(guest.name)} >= {"guest-ping", "echo"}
            assert monotonic() - begun < 4
            assert set(during) >= set(before)
            assert all(during[name].age_seconds >= 0 for name in during)
        finally:
            host.virsh("domjobabort", guest.name, check=False)
            virsh.wait(30)
    assert guest.is_running()


def facts(client: Client, guest: Guest) -> dict[str, FactView]:
    told = {fact.name: fact for fact in client.guest(guest.name).facts}
    return told if {"host-name", "guest-get-host-name"} <= set(told) else {}


# --- who may only read


def test_a_read_only_client_reads_what_libvirt_shows_to_one_and_changes_nothing(host: Host, guest: Guest) -> None:
    for path in (
        "/v1/host",
        "/v1/domains",
        f"/v1/domains/{guest.name}",
        f"/v1/domains/{guest.name}/messages",
        "/metrics",
    ):
        assert curl(host, path).startswith("200 "), path
    assert curl(host, f"/v1/domains/{guest.name}/wait?timeout=0").startswith("200 ")
    before = guest.dumpxml()
    for path, options in (
        (f"/v1/domains/{guest.name}/guest", ()),
        (f"/v1/domains/{guest.name}/doctor", ()),
        ("/v1/doctor", ()),
        (f"/v1/domains/{guest.name}/messages/shutdown", ("--request", "POST")),
        (f"/v1/domains/{guest.name}/messages/guest-shutdown", ("--request", "POST", "--data", "{}")),
        (f"/v1/domains/{guest.name}/renegotiate", ("--request", "POST")),
        (f"/v1/domains/{guest.name}/preflight", ("--data", "{}")),
    ):
        status, _, body = curl(host, path, *options).partition(" ")
        assert (status, json.loads(body)["code"]) == ("403", "forbidden"), path
    assert guest.dumpxml() == before
    # What it read, libvirt's own read-only clients read, too; and what it was denied they are denied.
    readonly = ["virsh", "--readonly", "--connect", "qemu:///system"]
    xml = host.run([*readonly, "dumpxml", guest.name]).stdout
    record = json.loads(curl(host, f"/v1/domains/{guest.name}").partition(" ")[2])
    for text in (record["host_uuid"], record["run"], record["arrived"], *(row["since"] for row in record["channels"])):
        assert text in xml
    assert host.run([*readonly, "guestinfo", guest.name], check=False).returncode != 0


def test_another_user_is_refused_by_the_socket_itself(host: Host, guest: Guest) -> None:
    assert curl(host, "/v1/host", socket=DEFAULT_SOCKET).startswith("000 ")
    assert curl(host, "/v1/host", socket=DEFAULT_SOCKET, user=[]).startswith("200 ")


def test_who_asked_for_a_change_stands_in_the_log_and_with_what_does_not(host: Host, guest: Guest) -> None:
    body = json.dumps({"arguments": {"path": "/hunter2"}})
    path = f"/v1/domains/{guest.name}/messages/guest-file-open"
    answer = curl(host, path, "--data", body, socket=DEFAULT_SOCKET, user=[])
    assert answer.startswith("422 ")
    assert json.loads(answer.partition(" ")[2])["code"] == "command-failed"
    line = next(line for line in host.log_text().splitlines() if "send guest-file-open" in line)
    assert "uid 0, pid " in line
    assert line.endswith(": command-failed")
    assert "hunter2" not in host.log_text()


# --- caps


def test_a_cap_that_is_read_again_renegotiates_a_running_guest_down_and_up(host: Host, guest: Guest) -> None:
    boot = guest.shell("cat /proc/sys/kernel/random/boot_id")
    for caps, ovirt, qga in (('ovirt = "ovirt-3.6"\nqga = "debian-11"\n', 2, "5.2"), ('ovirt = "max"\n', 4, "7.2")):
        host.path("/etc/sidecar/sidecar.toml").write_text(f"[upgrade_levels]\n{caps}")
        host.sidecard.process.signal(signal.SIGHUP)  # type: ignore[union-attr]
        wait_agreed(guest, ovirt)
        wait_for_qga(guest, "agreed", qga)
        with api(host) as client:
            offer = client.host().dialects
            assert offer["ovirt"].maximum == ovirt
            with pytest.raises(ProblemError) as refused:
                client.send(guest.name, "guest-get-load")
            assert refused.value.problem.extra["agreed"] == qga
    assert guest.shell("cat /proc/sys/kernel/random/boot_id") == boot
