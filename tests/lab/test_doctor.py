"""The doctor on real hosts: every fault is produced, found, mended by the very words of its advice, and gone.

Without a daemon ``sidecarctl doctor`` looks for itself, with one it asks it. `Operator` types the commands of an
advice; what an advice says in plain words only (stop it, wait, update) is done by the test, which says so.
"""

import json
import re
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

import pytest

from tests.lab.advice import Operator, read_steps
from tests.lab.conftest import GuestFactory
from tests.lab.diagnosis import Finding, codes, codes_alone, find, look_for, wait_healthy
from tests.lab.domain_xml import OVIRT_PORT, QGA_PORT, AgentSpec, GuestSpec, channel_element, channel_path
from tests.lab.guest import Guest
from tests.lab.guest_qga import make_freezable, signal_qga, start_qga
from tests.lab.host import Host
from tests.lab.hostile_qga import Script, commands_received, silence_qga, start_scripted_qga
from tests.lab.records import remove_record, wait_agreed, wait_for_qga
from tests.lab.sidecard import PROGRAMS
from tests.lab.waiting import wait_for

CONFIG = "[ovirt]\nabsent_seconds = 1\nresponsive_seconds = 2\n[qga]\nabsent_seconds = 1\n"


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


@pytest.fixture
def operator(guest: Guest) -> Iterator[Operator]:
    operator = Operator(guest, CONFIG)
    usual = operator.ovirt_agent.era
    yield operator
    if operator.ovirt_agent.era != usual:
        guest.agent_restart()


def stop_ovirt(operator: Operator) -> None:
    operator.guest.agent_stop()


def stop_qga(operator: Operator) -> None:
    silence_qga(operator.guest)


def never_open_qga(operator: Operator) -> None:
    silence_qga(operator.guest)
    restart_daemon(operator.guest)


def hang_ovirt(operator: Operator) -> None:
    operator.guest.agent_stop(signal.SIGSTOP)


def hang_qga(operator: Operator) -> None:
    signal_qga(operator.guest, signal.SIGSTOP)


def run_as_the_agent(script: Script) -> Callable[[Operator], None]:
    def produce(operator: Operator) -> None:
        run_a_stranger(script)(operator)
        operator.qemu_agent.process = "scripted-qga"

    return produce


def run_a_stranger(script: Script) -> Callable[[Operator], None]:
    """As no service of the guest's."""

    def produce(operator: Operator) -> None:
        silence_qga(operator.guest)
        start_scripted_qga(operator.guest, script)

    return produce


def block_info(operator: Operator) -> None:
    operator.qemu_agent.stop()
    operator.qemu_agent.blocked = ["guest-info"]
    operator.qemu_agent.start()


def freeze(operator: Operator) -> None:
    operator.host.virsh("domfsfreeze", operator.guest.name)


def install_old_ovirt(operator: Operator) -> None:
    operator.ovirt_agent.stop()
    operator.ovirt_agent.era = "1.0.8"
    operator.ovirt_agent.start()


def stay_at_zero(operator: Operator) -> None:
    operator.guest.agent_stop()
    operator.guest.agent_start(maximum=0)


def just_type(operator: Operator, steps: list[str]) -> None:
    operator.follow(steps)


def unblock_first(operator: Operator, steps: list[str]) -> None:
    """As it says: take guest-info out of the configuration."""
    operator.qemu_agent.blocked = ()
    operator.follow(steps)


def update_first(operator: Operator, steps: list[str]) -> None:
    """As it says: install this release or a later one."""
    operator.ovirt_agent.era = "1.0.9.1"
    operator.follow(steps)


def stop_what_is_shown(operator: Operator, steps: list[str]) -> None:
    """As it says: see what it is, and stop it."""
    stranger = int(operator.follow(steps[:1]))
    operator.guest.shell(f"kill {stranger}")
    operator.follow(steps[1:])


@dataclass(frozen=True)
class Fault:
    """How a fault comes to be and goes, and its code.

    ``alone`` is what is found without a daemon, ``None``: nothing; ``alternative`` is which one of its advice is
    followed, and ``mend`` does that.
    """

    produce: Callable[[Operator], None]
    code: str
    channel: str
    mend: Callable[[Operator, list[str]], None] = just_type
    alone: str | None = ""
    alternative: int = 0

    @property
    def code_alone(self) -> str | None:
        return self.code if self.alone == "" else self.alone


POISON = run_as_the_agent(Script("garbage", times=1))
FAULTS = {
    "ovirt-closed": Fault(stop_ovirt, "port-closed", OVIRT_PORT),
    "qga-closed": Fault(stop_qga, "port-closed", QGA_PORT),
    "qga-never-opened": Fault(never_open_qga, "not-opened", QGA_PORT, alone="port-closed"),
    "ovirt-hangs": Fault(hang_ovirt, "agent-silent", OVIRT_PORT, alone=None),
    "qga-hangs": Fault(hang_qga, "agent-silent", QGA_PORT),
    "poisoned": Fault(POISON, "agent-poisoned", QGA_PORT),
    "poisoned-libvirt": Fault(POISON, "agent-poisoned", QGA_PORT, alternative=1),
    "frozen": Fault(freeze, "guest-frozen", QGA_PORT),
    "blocked": Fault(block_info, "guest-info-blocked", QGA_PORT, unblock_first),
    "no-agent": Fault(run_a_stranger(Script(information=7)), "bad-reply", QGA_PORT, stop_what_is_shown),
    "no-version": Fault(install_old_ovirt, "no-version", OVIRT_PORT, update_first, alone=None),
    "zero": Fault(stay_at_zero, "stays-at-zero", OVIRT_PORT, alone=None),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_fault_of_a_channel(operator: Operator, fault: Fault) -> None:
    host, guest = operator.host, operator.guest
    seen_alone = [] if fault.code_alone is None else [fault.code_alone]
    fault.produce(operator)
    # First: an agent that hangs is asked by the daemon from its own finding on, and then takes libvirt longer.
    wait_for(lambda: codes_alone(host, guest) == seen_alone, 10, f"{seen_alone} to be found alone")
    finding = wait_for(lambda: look_for(host, fault.code, guest), 20, f"the finding {fault.code}")
    assert finding["channel"] == fault.channel
    fault.mend(operator, read_steps(finding["advice"], fault.alternative))
    wait_healthy(guest)
    assert codes_alone(host, guest) == []


SHORT_MINUTE_S = 6.0
IN_SHORT_MINUTES = f"""
import sidecar.protocol.budget
sidecar.protocol.budget.RENEGOTIATION_WINDOW_S = {SHORT_MINUTE_S}
import sidecar.engine.recorder
sidecar.engine.recorder.WRITE_WINDOW_S = {SHORT_MINUTE_S}
from sidecar.daemon import main
main()
"""
"""sidecard as it is, but for how long a restless guest's minute is, and its record's: the engine's tests wait."""


@pytest.mark.long
def test_agent_that_is_restarted_all_the_time(operator: Operator) -> None:
    host, guest = operator.host, operator.guest
    host.stop_sidecard()
    host.start_sidecard(CONFIG, [str(PROGRAMS / "python"), "-c", IN_SHORT_MINUTES])
    wait_agreed(guest, 3)

    def restart_and_look() -> Finding | None:
        guest.agent_restart(AgentSpec(heartbeat_s=0.1))
        with suppress(TimeoutError):
            wait_for(lambda: guest.agent_version() == 3, 1, "the agent to be agreed with")
            return None
        return look_for(host, "flapping", guest)

    finding = wait_for(restart_and_look, 30, "the finding")
    assert finding["channel"] == OVIRT_PORT
    # No command mends it: they show what to look for, a fresh start, and this test stops restarting it.
    assert '"start"' in operator.follow(read_steps(finding["advice"]))
    calm_since = monotonic()
    wait_healthy(guest)
    assert monotonic() - calm_since > SHORT_MINUTE_S / 2
    wait_agreed(guest, 3)


CLIENT = """
import socket, sys
channel = socket.socket(socket.AF_UNIX)
channel.connect(sys.argv[1])
while channel.recv(4096):
    pass
"""


def test_another_client_on_the_socket(operator: Operator) -> None:
    host, guest = operator.host, operator.guest
    host.stop_sidecard()
    remove_record(guest)
    client = host.popen(["/usr/bin/python3", "-c", CLIENT, channel_path(guest.dumpxml(), OVIRT_PORT)])
    try:
        wait_for(lambda: "socket-busy" in codes(host, guest), 5, "the finding")
        host.start_sidecard(CONFIG)
        wait_for(lambda: codes(host, guest) == ["socket-busy"], 15, "the daemon's finding")
        shown = operator.follow(read_steps(find(host, "socket-busy", guest, OVIRT_PORT)["advice"]))
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


def test_agent_job_held(operator: Operator) -> None:
    host, guest = operator.host, operator.guest
    run_as_the_agent(Script(delays_s=[0, 60]))(operator)
    wait_for_qga(guest, "agreed", "7.2")
    client = host.popen(["virsh", "qemu-agent-command", "--timeout", "60", guest.name, '{"execute":"guest-ping"}'])
    try:
        wait_for(lambda: "guest-ping" in commands_received(guest), 5, "the agent to be asked")
        with ThreadPoolExecutor() as pool:
            alone = pool.submit(codes_alone, host, guest)
            finding = find(host, "agent-job-held", guest, QGA_PORT)
        assert alone.result() == ["agent-job-held"]
        clients, one_client, *end = read_steps(finding["advice"])
        listed = re.findall(r"^ (\d+) +unix", operator.follow([clients]), re.MULTILINE)
        told = "".join(operator.follow([one_client.replace(" ID", f" {number}")]) for number in listed)
        pids = re.findall(r"^unix_process_id: *(\d+)", told, re.MULTILINE)
        assert "virsh\n" in [host.path(f"/proc/{pid}/comm").read_text() for pid in pids]
        operator.follow(end)
    finally:
        client.end()
    wait_healthy(guest)
    assert codes_alone(host, guest) == []


LISTENER = """
import socket, sys
door = socket.socket(socket.AF_UNIX)
door.bind(sys.argv[1])
door.listen()
while True:
    door.accept()
"""


def test_socket_that_is_no_longer_qemus(operator: Operator) -> None:
    """QEMU lets go of it, another program takes its place and leaves it; all three end with the domain's next start."""
    host, guest = operator.host, operator.guest
    path = channel_path(guest.dumpxml(), OVIRT_PORT)
    (alias,) = re.findall(r"alias name=[\"'](\w+)", channel_element(guest.dumpxml(), OVIRT_PORT))
    let_go = {"id": f"char{alias}", "backend": {"type": "null", "data": {}}}
    host.virsh("qemu-monitor-command", guest.name, json.dumps({"execute": "chardev-change", "arguments": let_go}))
    wait_for(lambda: codes(host, guest) == ["disconnected"], 10, "the finding")
    broken = find(host, "disconnected", guest, OVIRT_PORT)
    host.stop_sidecard()
    remove_record(guest)
    host.path(path).unlink(missing_ok=True)
    other = host.popen(["/usr/bin/python3", "-c", LISTENER, path])
    try:
        wait_for(host.path(path).exists, 5, "the other's socket")
        host.start_sidecard(CONFIG)
        wait_for(lambda: codes(host, guest) == ["socket-foreign"], 10, "the finding")
        show, *power_cycle = read_steps(find(host, "socket-foreign", guest, OVIRT_PORT)["advice"])
        (pid,) = re.findall(r'"python3",pid=(\d+)', operator.follow([show]))
        host.run(["kill", pid])
        other.wait()
    finally:
        other.end()
    restart_daemon(guest)
    wait_for(lambda: codes(host, guest) == ["socket-unreachable"], 10, "the finding")
    unreachable = find(host, "socket-unreachable", guest, OVIRT_PORT)
    assert read_steps(broken["advice"]) == read_steps(unreachable["advice"]) == power_cycle
    operator.follow(power_cycle)
    start_qga(guest)  # this guest starts none at its boot
    wait_healthy(guest)
    make_freezable(guest)
