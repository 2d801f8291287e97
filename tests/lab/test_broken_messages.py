"""A message that acts is under way when the daemon or libvirtd goes: it acts once or never, and who sent it is told."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIGCONT, SIGSTOP

import pytest

from tests.lab.arrival_faults import hooked
from tests.lab.conftest import GuestFactory
from tests.lab.fault_points import Step, kill_daemon, let_go_on, start_stopping_at, wait_stopped
from tests.lab.guest import Guest
from tests.lab.harm import Vigil
from tests.lab.host import Host
from tests.lab.namespaces import InsideProcess
from tests.lab.records import wait_agreed, wait_for_qga
from tests.lab.sidecard import PROGRAMS
from tests.lab.waiting import wait_for

IMPATIENT = "[libvirt]\nkeepalive_seconds = 1\n"
DONE, REFUSED, NOBODY_KNOWS = 0, 1, 4
SEND_TIMEOUT_S = 90.0
ANSWER_S = 8
RAN = "/run/lab-ran"
LIFECYCLE_EVENT = ("lifecycle-event", "type=before_migration")
COMMAND = ("guest-exec", "--args", json.dumps({"path": "/bin/sh", "arg": ["-c", f"echo ran >>{RAN}"]}))


@pytest.fixture(scope="module")
def guest(alpha: Host, boot_shared_guest: GuestFactory) -> Iterator[Guest]:
    with hooked(alpha):
        yield boot_shared_guest()


@contextmanager
def sending(host: Host, guest: Guest, *message: str) -> Iterator[InsideProcess]:
    """While sidecarctl sends it."""
    argv = [str(PROGRAMS / "sidecarctl"), "send", guest.name, *message, "--timeout", str(ANSWER_S)]
    sender = host.popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield sender
    finally:
        sender.end()


def begin(guest: Guest, step: Step) -> None:
    """A daemon that will stop at this step of sending, and has agreed with both agents."""
    guest.shell(f"rm -f {RAN}; touch {RAN}")
    start_stopping_at(guest.here, step, IMPATIENT)
    wait_agreed(guest, 3)
    wait_for_qga(guest, "agreed", "7.2")


def count_events(guest: Guest) -> int:
    return [name for name, _ in guest.agent_received()].count("lifecycle-event")


def count_runs(guest: Guest) -> int:
    return guest.shell(f"cat {RAN}").count("ran")


def start_next(guest: Guest) -> None:
    """Another daemon, once it has spoken to both agents: what it would repeat it has repeated by then."""
    known = len(guest.agent_received())
    guest.here.start_sidecard(IMPATIENT)
    told = ("api-version", {"apiVersion": 3})
    wait_for(lambda: told in guest.agent_received()[known:], 30, "the next daemon's word to the oVirt agent")
    wait_for_qga(guest, "agreed", "7.2")
    ping = guest.here.run([str(PROGRAMS / "sidecarctl"), "send", guest.name, "guest-ping"])
    assert ping.returncode == DONE


@pytest.mark.parametrize(("step", "sent"), [(Step.MESSAGE_TO_SEND, 0), (Step.MESSAGE_SENT, 1)], ids=str)
def test_killed_with_a_lifecycle_event_under_way(alpha: Host, guest: Guest, step: Step, sent: int) -> None:
    before = count_events(guest)
    begin(guest, step)
    with Vigil(guest), sending(alpha, guest, *LIFECYCLE_EVENT) as sender:
        wait_stopped(alpha)
        kill_daemon(alpha)
        assert sender.wait(SEND_TIMEOUT_S) == NOBODY_KNOWS
        start_next(guest)
        assert count_events(guest) - before == sent
    alpha.stop_sidecard()


@pytest.mark.parametrize(("step", "ran"), [(Step.COMMAND_TO_SEND, 0), (Step.COMMAND_ANSWERED, 1)], ids=str)
def test_killed_with_a_command_under_way(alpha: Host, guest: Guest, step: Step, ran: int) -> None:
    begin(guest, step)
    with Vigil(guest), sending(alpha, guest, *COMMAND) as sender:
        wait_stopped(alpha)
        kill_daemon(alpha)
        assert sender.wait(SEND_TIMEOUT_S) == NOBODY_KNOWS
        start_next(guest)
        assert count_runs(guest) == ran
    alpha.stop_sidecard()


def test_libvirtd_killed_with_a_command_on_its_way(alpha: Host, guest: Guest) -> None:
    begin(guest, Step.COMMAND_TO_SEND)
    with Vigil(guest) as vigil, sending(alpha, guest, *COMMAND) as sender:
        wait_stopped(alpha)
        with vigil.libvirtd_broken(alpha):
            alpha.restart_libvirtd(kill=True)
            let_go_on(alpha)
            outcome = sender.wait(SEND_TIMEOUT_S)
        require_honest(guest, outcome)
    alpha.stop_sidecard()


@pytest.mark.long
def test_libvirtd_hangs_with_a_command_on_its_way(alpha: Host, guest: Guest) -> None:
    begin(guest, Step.COMMAND_TO_SEND)
    libvirtd = alpha.libvirtd.process
    assert libvirtd is not None
    with Vigil(guest) as vigil, sending(alpha, guest, *COMMAND) as sender:
        wait_stopped(alpha)
        with vigil.libvirtd_broken(alpha):
            libvirtd.signal(SIGSTOP)
            let_go_on(alpha)
            try:
                outcome = sender.wait(SEND_TIMEOUT_S)
            finally:
                libvirtd.signal(SIGCONT)
        assert outcome in (REFUSED, NOBODY_KNOWS)
        require_honest(guest, outcome)
    alpha.stop_sidecard()


def require_honest(guest: Guest, outcome: int) -> None:
    """What the sender was told agrees with what happened in the guest, after all that may still come has come."""
    wait_for_qga(guest, "agreed", "7.2", timeout_s=60)
    ping = [str(PROGRAMS / "sidecarctl"), "send", guest.name, "guest-ping"]
    wait_for(lambda: guest.here.run(ping, check=False).returncode == DONE, 60, "the agent to answer again", 0.5)
    possible = {DONE: (1,), REFUSED: (0,), NOBODY_KNOWS: (0, 1)}[outcome]
    assert count_runs(guest) in possible
