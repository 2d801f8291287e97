"""Messages are sent to real agents, through the API: what may go, what comes back, and how each ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP
from threading import Thread
from time import monotonic
from typing import Any

import pytest

from sidecar.api.problems import ProblemError
from tests.lab.api import api
from tests.lab.conftest import GuestFactory
from tests.lab.domain_xml import DIRECT_QGA_PORT, OVIRT_PORT, QGA_PORT, GuestSpec
from tests.lab.guest import Guest
from tests.lab.guest_qga import make_freezable, signal_qga, start_qga, stop_qga
from tests.lab.host import Host
from tests.lab.hostile_qga import Script, commands_received, silence_qga, start_scripted_qga
from tests.lab.records import remove_record, wait_agreed, wait_for_qga
from tests.lab.waiting import wait_for

CONFIG = f'[qga]\ndirect_channels = ["{DIRECT_QGA_PORT}"]\n'


@pytest.fixture(scope="module")
def booted_guest(boot_shared_guest: GuestFactory) -> Guest:
    return boot_shared_guest(GuestSpec(channels=(OVIRT_PORT, QGA_PORT, DIRECT_QGA_PORT), qga=False))


@pytest.fixture
def guest(alpha: Host, clean_hosts: None, booted_guest: Guest) -> Iterator[Guest]:
    """The module's guest, with an oVirt agent and no other, and a sidecard that sends."""
    silence_qga(booted_guest)
    remove_record(booted_guest)
    alpha.start_sidecard(CONFIG)
    yield booted_guest
    assert alpha.stop_sidecard() == 0
    assert "Traceback" not in alpha.log_text()


def refused(guest: Guest, message: str, channel: str | None = None) -> str | None:
    """Why it may not be sent; for all that the daemon says, sending it is refused for the same."""
    with api(guest.here) as client:
        return client.can_send(guest.name, message, channel).code


def send(guest: Guest, message: str, timeout_s: float = 10, channel: str | None = None, **arguments: object) -> Any:
    """What came of it: the reply, or the code of what went wrong."""
    try:
        with api(guest.here) as client:
            return client.send(guest.name, message, arguments, timeout_s, channel).reply
    except ProblemError as error:
        return error.problem.code


def timed_send(guest: Guest, message: str, timeout_s: float) -> tuple[str, float]:
    """The code of what went wrong, and how long it took."""
    begun = monotonic()
    outcome = send(guest, message, timeout_s)
    return outcome if isinstance(outcome, str) else "", monotonic() - begun


@contextmanager
def meanwhile(guest: Guest, message: str, timeout_s: float) -> Iterator[list[Any]]:
    """The message is under way; what came of it is in the list at the end."""
    outcomes: list[Any] = []
    thread = Thread(target=lambda: outcomes.append(timed_send(guest, message, timeout_s)))
    thread.start()
    yield outcomes
    thread.join()


def agree(guest: Guest, version: str = "7.2", **how: Any) -> None:
    start_qga(guest, **how)
    wait_for_qga(guest, "agreed", version, channel=how.get("port", QGA_PORT))


@pytest.mark.parametrize("port", [QGA_PORT, DIRECT_QGA_PORT])
def test_real_commands(guest: Guest, port: str) -> None:
    agree(guest, port=port)
    assert send(guest, "guest-get-host-name") == {"host-name": "lab-guest"}
    pid = send(guest, "guest-exec", path="/bin/echo", arg=["hello", "w\u00f6rld"])["pid"]

    def ended() -> Any:
        status = send(guest, "guest-exec-status", pid=pid)
        return status if status["exited"] else None

    assert wait_for(ended, 10, "the program to end")["exitcode"] == 0
    assert send(guest, "guest-file-open", path="/no/such/file") == "command-failed"
    # 2 MiB is what is practical; a direct channel's replies end at 1 MiB.
    size = 2 * 1024 * 1024 if port == QGA_PORT else 512 * 1024
    guest.shell(f"dd if=/dev/zero of=/run/large bs={size} count=1 2>/dev/null")
    handle = send(guest, "guest-file-open", path="/run/large")
    assert send(guest, "guest-file-read", handle=handle, count=size)["count"] == size
    assert send(guest, "guest-ping") == {}


def test_the_gate(guest: Guest, newer_qga: Path) -> None:
    agree(guest, block=["guest-exec", "guest-get-osinfo"])
    assert refused(guest, "guest-get-host-name") is None
    assert refused(guest, "guest-get-load") == "version-too-low"
    assert refused(guest, "guest-exec") == send(guest, "guest-get-osinfo") == "not-enabled"
    assert refused(guest, "guest-get-devices") == "not-enabled"
    assert refused(guest, "guest-sync") == "negotiation-only"
    stop_qga(guest)
    wait_for_qga(guest, "lost", reason="port-closed")
    assert refused(guest, "guest-ping") == send(guest, "guest-ping") == "not-agreed"
    agree(guest, "10.0", program=newer_qga)
    assert "load1m" in send(guest, "guest-get-load")


def test_a_refused_command_never_reaches_the_agent(guest: Guest) -> None:
    start_scripted_qga(guest, Script(version="5.2.0", commands=("guest-ping", "guest-info", "guest-get-load")))
    wait_for_qga(guest, "agreed", "5.2")
    for message in ("guest-get-load", "guest-exec", "guest-sync", "no-such-command"):
        assert send(guest, message) in ("version-too-low", "not-enabled", "negotiation-only", "not-in-table")
    assert send(guest, "guest-ping") == {}
    assert set(commands_received(guest)) <= {"guest-sync", "guest-info", "guest-ping"}


@pytest.mark.parametrize("ids", ["dropped", "rejected"])
def test_an_agent_of_before_id(guest: Guest, ids: Any) -> None:
    start_scripted_qga(guest, Script(version="2.12.0", ids=ids))
    wait_for_qga(guest, "agreed", "2.12")
    assert send(guest, "guest-ping") == {}
    assert commands_received(guest)[-2:] == ["guest-sync", "guest-ping"]


@pytest.mark.parametrize("behaviour", ["twice", "smuggle"])
def test_a_reply_never_answers_another_command(guest: Guest, behaviour: Any) -> None:
    start_scripted_qga(guest, Script(behaviour))
    outcomes = [send(guest, "guest-ping", timeout_s=6) for _ in range(4)]
    assert all(outcome == {} or isinstance(outcome, str) for outcome in outcomes), outcomes


def test_a_stopped_agent_bounds_each_call_and_comes_back(guest: Guest) -> None:
    agree(guest)
    signal_qga(guest, SIGSTOP)
    error, took_s = timed_send(guest, "guest-get-osinfo", 1.0)
    assert error == "no-answer"
    assert 0.9 < took_s < 1.5
    wait_for_qga(guest, "lost", reason="agent-silent", timeout_s=30)
    error, took_s = timed_send(guest, "guest-ping", 5.0)
    assert (error, took_s < 0.5) == ("not-agreed", True), "refused at once"
    signal_qga(guest, SIGCONT)
    wait_for_qga(guest, "agreed", "7.2", timeout_s=90)
    assert send(guest, "guest-ping") == {}


def test_another_clients_agent_job_does_not_lengthen_the_wait(guest: Guest) -> None:
    agree(guest)
    signal_qga(guest, SIGSTOP)
    other = guest.here.popen(
        ["virsh", "qemu-agent-command", guest.name, '{"execute": "guest-ping"}', "--timeout", "20"]
    )
    wait_for(lambda: not_answered_at_once(guest), 10, "the other client to hold the agent job")
    error, took_s = timed_send(guest, "guest-get-osinfo", 2.0)
    assert error in ("no-answer", "not-sent")
    assert 1.9 < took_s < 2.5
    signal_qga(guest, SIGCONT)
    other.end()
    wait_for_qga(guest, "agreed", "7.2", timeout_s=90)


def not_answered_at_once(guest: Guest) -> bool:
    """Whether a stopped agent keeps a call waiting, which it does as soon as one has been sent."""
    return bool(guest.shell("ps | grep -c '[T].*qemu-ga' || true").strip())


def test_an_agent_that_is_killed_meanwhile(guest: Guest) -> None:
    agree(guest)
    signal_qga(guest, SIGSTOP)
    with meanwhile(guest, "guest-get-osinfo", 60) as outcomes:
        stop_qga(guest, SIGKILL)
    ((error, took_s),) = outcomes
    assert error == "no-answer"
    assert took_s < 10
    wait_for_qga(guest, "lost", reason="port-closed")
    agree(guest)


def test_frozen_by_us(guest: Guest) -> None:
    make_freezable(guest)
    agree(guest)
    assert send(guest, "guest-fsfreeze-freeze") == 1
    wait_for_qga(guest, "agreed", "7.2", "guest-frozen")
    assert refused(guest, "guest-get-osinfo") == "not-enabled"
    assert send(guest, "guest-fsfreeze-status") == "frozen"
    assert send(guest, "guest-fsfreeze-thaw") == 1
    wait_for_qga(guest, "agreed", "7.2")
    assert refused(guest, "guest-get-osinfo") is None


def test_ovirt(guest: Guest) -> None:
    wait_agreed(guest, 3)
    assert send(guest, "lock-screen") is None
    assert send(guest, "lifecycle-event", type="before_migration") == {"done": True}
    names = [name for name, _ in guest.agent_received()]
    assert "lock-screen" in names
    assert "lifecycle-event" in names
    assert refused(guest, "api-version") == "negotiation-only"
    guest.agent_stop()
    wait_for(lambda: refused(guest, "lock-screen") == "not-agreed", 5, "the gate to close")
    guest.agent_start()
    wait_agreed(guest, 3)


def test_shutdown(alpha: Host, clean_hosts: None, boot_guest: GuestFactory) -> None:
    alpha.start_sidecard(CONFIG)
    guest = boot_guest(GuestSpec(channels=(QGA_PORT,), agent=None))
    wait_for_qga(guest, "agreed", "7.2")
    guest.put("/sbin/shutdown", b"#!/bin/sh\n(usleep 500000; /bin/busybox poweroff -f) &\n", 0o755)
    assert send(guest, "guest-shutdown", timeout_s=30) is None
    wait_for(guest.is_off, 10, "the guest to be off")
    assert alpha.stop_sidecard() == 0
