"""The doctor on real hosts: every fault is produced, found, mended as the advice says, and gone.

Without a daemon ``sidecarctl doctor`` looks for itself, with one it asks it; the guests have no systemd, so what the
advice says of services is done to their processes.
"""

import json
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from subprocess import CompletedProcess
from time import monotonic
from typing import Any

import pytest

from tests.lab.conftest import GuestFactory
from tests.lab.domain_xml import OVIRT_PORT, QGA_PORT, GuestSpec, channel_path
from tests.lab.guest import Guest
from tests.lab.guest_qga import make_freezable, signal_qga, start_qga, stop_qga
from tests.lab.host import Host
from tests.lab.hostile_qga import Script, commands_received, silence_qga, start_scripted_qga, wait_port
from tests.lab.records import remove_record, wait_agreed, wait_for_qga
from tests.lab.sidecard import PROGRAMS
from tests.lab.waiting import wait_for

CONFIG = "[ovirt]\nabsent_seconds = 1\nresponsive_seconds = 2\n[qga]\nabsent_seconds = 1\n"
ALONE_LIMIT_S = 10.0
API = "/run/sidecar/api.sock"
NOBODY = "/run/nobody.sock"
"""Where no daemon is reached, and the doctor looks for itself."""

Finding = dict[str, Any]


def diagnose(host: Host, domain: str | None = None, socket: str = API) -> dict[str, Any]:
    """What the doctor says; its exit code must say the same."""
    words = ["--socket", socket, "--json", *([] if domain is None else [domain])]
    done = host.run([str(PROGRAMS / "sidecarctl"), "doctor", *words], check=False)
    assert done.stdout, done.stderr
    view: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if view["healthy"] else 1)
    assert view["healthy"] == (not view["findings"])
    return view


def look_for(host: Host, code: str, guest: Guest | None = None) -> Finding | None:
    """The finding of this code, if it is there; no other is of the same."""
    name = None if guest is None else guest.name
    found = [finding for finding in diagnose(host, name)["findings"] if finding["code"] == code]
    assert len(found) <= 1
    assert all(finding["domain"] == name for finding in found)
    return found[0] if found else None


def find(host: Host, code: str, guest: Guest | None = None, channel: str | None = None) -> Finding:
    """The finding of this code; it must be of this channel."""
    found = look_for(host, code, guest)
    assert found is not None
    assert found["channel"] == channel
    return found


def codes(host: Host, guest: Guest | None = None, socket: str = API) -> list[str]:
    """What is found beside that the daemon is down."""
    view = diagnose(host, None if guest is None else guest.name, socket)
    return [finding["code"] for finding in view["findings"] if finding["code"] != "daemon-down"]


def commands(finding: Finding) -> list[str]:
    """What the advice says to type."""
    return re.findall(r"`([^`]+)`", finding["advice"])


def follow(host: Host, command: str) -> str:
    """What a command of an advice prints on the host."""
    return host.run(["sh", "-ec", command]).stdout


def wait_healthy(guest: Guest) -> None:
    """The daemon has looked again, and finds nothing any more."""
    wait_for(lambda: diagnose(guest.here, guest.name)["healthy"], 20, f"{guest.name} to be healthy")


# --- what is wrong with a channel


@pytest.fixture(scope="module")
def booted_guest(boot_shared_guest: GuestFactory) -> Guest:
    guest = boot_shared_guest(GuestSpec(channels=(OVIRT_PORT, QGA_PORT), qga=False))
    make_freezable(guest)
    return guest


@pytest.fixture
def guest(alpha: Host, clean_hosts: None, booted_guest: Guest) -> Iterator[Guest]:
    """The module's guest with both agents and a daemon that has agreed with them; afterwards it is so again."""
    start_qga(booted_guest)
    remove_record(booted_guest)
    alpha.start_sidecard(CONFIG)
    wait_agreed(booted_guest, 3)
    wait_for_qga(booted_guest, "agreed", "7.2")
    yield booted_guest
    assert alpha.stop_sidecard() == 0
    assert "Traceback" not in alpha.log_text()
    silence_qga(booted_guest)


def restart_daemon(guest: Guest) -> None:
    """The next one knows nothing of what was before."""
    guest.here.stop_sidecard()
    remove_record(guest)
    guest.here.start_sidecard(CONFIG)


def stop_ovirt(guest: Guest) -> None:
    guest.agent_stop()


def never_open_qga(guest: Guest) -> None:
    silence_qga(guest)
    restart_daemon(guest)


def hang_ovirt(guest: Guest) -> None:
    guest.agent_stop(signal.SIGSTOP)


def hang_qga(guest: Guest) -> None:
    signal_qga(guest, signal.SIGSTOP)


def run_script(script: Script) -> Callable[[Guest], None]:
    def produce(guest: Guest) -> None:
        silence_qga(guest)
        start_scripted_qga(guest, script)

    return produce


def block_info(guest: Guest) -> None:
    silence_qga(guest)
    start_qga(guest, block=["guest-info"])


def freeze(guest: Guest) -> None:
    guest.here.virsh("domfsfreeze", guest.name)


def run_agent(**how: Any) -> Callable[[Guest], None]:
    def produce(guest: Guest) -> None:
        guest.agent_stop()
        guest.agent_start(**how)

    return produce


def start_ovirt(guest: Guest, _advice: list[str]) -> None:
    guest.agent_start()


def restart_ovirt(guest: Guest, _advice: list[str]) -> None:
    guest.agent_stop(signal.SIGKILL)
    guest.agent_start()


def start_agent(guest: Guest, _advice: list[str]) -> None:
    start_qga(guest)


def restart_at_once(guest: Guest, _advice: list[str]) -> None:
    stop_qga(guest, signal.SIGKILL)
    start_qga(guest)


def stop_wait_and_start(guest: Guest, advice: list[str]) -> None:
    assert advice[0].startswith(("systemctl stop qemu-guest-agent", "fuser -v /dev/virtio-ports/"))
    silence_qga(guest)
    start_qga(guest)


def type_it(guest: Guest, advice: list[str]) -> None:
    follow(guest.here, advice[0])


@dataclass(frozen=True)
class Fault:
    """How a fault comes to be and goes, and its code; ``alone``: without a daemon, ``None`` where it is not seen."""

    produce: Callable[[Guest], None]
    code: str
    channel: str
    mend: Callable[[Guest, list[str]], None]
    alone: str | None = ""

    @property
    def code_alone(self) -> str | None:
        return self.code if self.alone == "" else self.alone


FAULTS = {
    "ovirt-closed": Fault(stop_ovirt, "port-closed", OVIRT_PORT, start_ovirt),
    "qga-closed": Fault(silence_qga, "port-closed", QGA_PORT, start_agent),
    "qga-never-opened": Fault(never_open_qga, "not-opened", QGA_PORT, start_agent, "port-closed"),
    "ovirt-hangs": Fault(hang_ovirt, "agent-silent", OVIRT_PORT, restart_ovirt, None),
    "qga-hangs": Fault(hang_qga, "agent-silent", QGA_PORT, restart_at_once),
    "poisoned": Fault(run_script(Script("garbage")), "agent-poisoned", QGA_PORT, stop_wait_and_start),
    "frozen": Fault(freeze, "guest-frozen", QGA_PORT, type_it),
    "blocked": Fault(block_info, "guest-info-blocked", QGA_PORT, restart_at_once),
    "no-agent": Fault(run_script(Script(information=7)), "bad-reply", QGA_PORT, stop_wait_and_start),
    "no-version": Fault(run_agent(era="1.0.8"), "no-version", OVIRT_PORT, restart_ovirt, None),
    "zero": Fault(run_agent(maximum=0), "stays-at-zero", OVIRT_PORT, restart_ovirt, None),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_fault_of_a_channel(guest: Guest, fault: Fault) -> None:
    host, seen_alone = guest.here, [] if fault.code_alone is None else [fault.code_alone]
    fault.produce(guest)
    # First: an agent that hangs is asked by the daemon from its own finding on, and then takes libvirt longer.
    wait_for(lambda: codes(host, guest, NOBODY) == seen_alone, 10, f"{seen_alone} to be found alone")
    finding = wait_for(lambda: look_for(host, fault.code, guest), 20, f"the finding {fault.code}")
    assert finding["channel"] == fault.channel
    fault.mend(guest, commands(finding))
    wait_healthy(guest)
    assert codes(host, guest, NOBODY) == []


CLIENT = """
import socket, sys
channel = socket.socket(socket.AF_UNIX)
channel.connect(sys.argv[1])
while channel.recv(4096):
    pass
"""


def test_another_client_on_the_socket(guest: Guest) -> None:
    host = guest.here
    host.stop_sidecard()
    remove_record(guest)
    client = host.popen(["/usr/bin/python3", "-c", CLIENT, channel_path(guest.dumpxml(), OVIRT_PORT)])
    try:
        wait_for(lambda: "socket-busy" in codes(host, guest), 5, "the finding")
        host.start_sidecard(CONFIG)
        wait_for(lambda: codes(host, guest) == ["socket-busy"], 15, "the daemon's finding")
        shown = follow(host, commands(find(host, "socket-busy", guest, OVIRT_PORT))[0])
        (pid,) = re.findall(r'"python3",pid=(\d+)', shown)
        host.run(["kill", pid])
        client.wait()
    finally:
        client.end()
    host.stop_sidecard()
    assert codes(host, guest) == []
    remove_record(guest)  # by it the next daemon would wait a minute, too: the engine's tests have time for that
    host.start_sidecard(CONFIG)
    wait_healthy(guest)


def test_agent_job_held(guest: Guest) -> None:
    host = guest.here
    silence_qga(guest)
    start_scripted_qga(guest, Script(delays_s=[0, 60]))
    wait_for_qga(guest, "agreed", "7.2")
    client = host.popen(["virsh", "qemu-agent-command", "--timeout", "60", guest.name, '{"execute":"guest-ping"}'])
    try:
        wait_for(lambda: "guest-ping" in commands_received(guest), 5, "the agent to be asked")
        with ThreadPoolExecutor() as pool:
            alone = pool.submit(codes, host, guest, NOBODY)
            finding = find(host, "agent-job-held", guest, QGA_PORT)
        assert alone.result() == ["agent-job-held"]
        assert "unix" in follow(host, commands(finding)[0]), "the client that holds it is listed"
        stop_wait_and_start(guest, commands(finding)[2:])
    finally:
        client.end()
    wait_healthy(guest)
    assert codes(host, guest, NOBODY) == []


LISTENER = """
import socket, sys
door = socket.socket(socket.AF_UNIX)
door.bind(sys.argv[1])
door.listen()
while True:
    door.accept()
"""


def test_socket_that_is_not_qemus(guest: Guest) -> None:
    host = guest.here
    host.stop_sidecard()
    remove_record(guest)
    path = channel_path(guest.dumpxml(), OVIRT_PORT)
    host.path(path).unlink()
    other = host.popen(["/usr/bin/python3", "-c", LISTENER, path])
    try:
        wait_for(host.path(path).exists, 5, "the other's socket")
        host.start_sidecard(CONFIG)
        wait_for(lambda: codes(host, guest) == ["socket-foreign"], 10, "the finding")
        shown = follow(host, commands(find(host, "socket-foreign", guest, OVIRT_PORT))[0])
        (pid,) = re.findall(r'"python3",pid=(\d+)', shown)
        host.run(["kill", pid])
    finally:
        other.end()
    restart_daemon(guest)
    wait_for(lambda: codes(host, guest) == ["socket-unreachable"], 10, "the finding")
    start = commands(find(host, "socket-unreachable", guest, OVIRT_PORT))[1]
    assert start == f"virsh start {guest.name}"
    guest.here.virsh("destroy", guest.name)  # the lab's guests do not listen to a shutdown
    guest.start()
    guest.wait_booted()
    start_qga(guest)
    wait_healthy(guest)
    make_freezable(guest)


# --- the host


@pytest.fixture
def host(alpha: Host, clean_hosts: None, booted_guest: Guest) -> Iterator[Host]:
    """A host without hook and daemon; with its one guest all is well."""
    start_qga(booted_guest)
    wait_port(booted_guest, "connected")
    yield alpha
    silence_qga(booted_guest)


@pytest.fixture
def sidecarctl_on_path(monkeypatch: pytest.MonkeyPatch, host: Host) -> None:
    """For advice that says to run it."""
    run, path = host.run, f"{PROGRAMS}:/usr/sbin:/usr/bin:/sbin:/bin"

    def run_with_path(argv: Sequence[str], **how: Any) -> CompletedProcess[str]:
        return run(argv, **{"env": {"PATH": path}, **how})

    monkeypatch.setattr(host, "run", run_with_path)


def test_domain_without_a_channel(host: Host, boot_guest: GuestFactory) -> None:
    guest = boot_guest(GuestSpec(name="a b;$(id)'\"&", channels=(), agent=None))
    find(host, "channel-absent", guest, QGA_PORT)
    host.start_sidecard(CONFIG)
    wait_for(lambda: codes(host, guest) == ["channel-absent"], 10, "the daemon's finding")
    follow(host, commands(find(host, "channel-absent", guest, QGA_PORT))[0])
    wait_for(lambda: codes(host, guest) == ["not-opened"], 10, "the next finding")
    start_qga(guest)
    wait_healthy(guest)


@pytest.mark.usefixtures("sidecarctl_on_path")
def test_hook_from_nothing_to_healthy(host: Host, booted_guest: Guest) -> None:
    """The faults of a host that has just got the package, one after the other."""
    assert [finding["code"] for finding in diagnose(host)["findings"]] == ["daemon-down", "hook-missing"]
    follow(host, commands(find(host, "hook-missing"))[0])
    follow(host, commands(find(host, "hook-not-loaded"))[0])
    assert codes(host) == ["hook-not-loaded"], "as the advice says: nothing shows it before a hook runs"
    assert commands(find(host, "daemon-down"))[0] == "systemctl start sidecard"
    host.start_sidecard(CONFIG)
    assert codes(host) == ["hook-not-loaded"]
    host.virsh("managedsave", booted_guest.name)
    booted_guest.start()
    wait_healthy(booted_guest)
    assert diagnose(host)["healthy"]
    hook = host.path("/etc/libvirt/hooks/qemu.d/50-sidecar")
    hook.write_bytes(hook.read_bytes() + b"# older\n")
    follow(host, commands(find(host, "hook-outdated"))[0])
    assert diagnose(host)["healthy"], "what has run since libvirt started still counts"


def test_a_hook_that_was_there_when_libvirt_started(host: Host) -> None:
    host.run([str(PROGRAMS / "sidecarctl"), "hooks", "install"])
    assert codes(host) == ["hook-not-loaded"]
    host.restart_libvirtd()
    assert codes(host) == []


@pytest.mark.usefixtures("sidecarctl_on_path")
def test_daemon_sockets_and_spool(host: Host) -> None:
    host.install_hook()
    host.restart_libvirtd()
    host.start_sidecard()
    for socket, mode in (("api.sock", 0o600), ("api-ro.sock", 0o660)):
        host.path(f"/run/sidecar/{socket}").chmod(mode)
        follow(host, commands(find(host, "socket-wrong-mode"))[0])
        assert codes(host) == []
    for socket in ("api-ro.sock", "api.sock"):
        host.path(f"/run/sidecar/{socket}").unlink()
        assert commands(find(host, "socket-missing")) == ["systemctl restart sidecard"]
        host.stop_sidecard()
        host.start_sidecard()
        assert codes(host) == []
    spool = host.path("/run/sidecar/spool")
    spool.rmdir()
    spool.symlink_to("elsewhere")
    follow(host, commands(find(host, "spool-unusable"))[0])
    wait_for(lambda: spool.is_dir() and not spool.is_symlink(), 5, "sidecard to make another")
    host.stop_sidecard()
    spool.chmod(0o770)
    follow(host, commands(find(host, "spool-unusable"))[0])
    assert codes(host) == []


def test_libvirt_away(host: Host) -> None:
    host.install_hook()
    host.restart_libvirtd()
    libvirtd = host.libvirtd.process
    assert libvirtd is not None
    libvirtd.signal(signal.SIGSTOP)
    begin = monotonic()
    assert "libvirt-unavailable" in codes(host)
    assert monotonic() - begin < ALONE_LIMIT_S + 1, "the interpreter's start included"
    libvirtd.signal(signal.SIGCONT)
    libvirtd.entered.send_signal(signal.SIGCONT)  # nsenter stops with its child
    assert codes(host) == []
    host.start_sidecard()
    host.stop_libvirtd()
    wait_for(lambda: codes(host) == ["libvirt-unavailable"], 5, "the daemon's finding")
    host.stop_sidecard()
    assert commands(find(host, "libvirt-unavailable"))[0] == "systemctl start libvirtd"
    host.start_libvirtd()
    assert codes(host) == []
