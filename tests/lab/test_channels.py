"""What a guest and other programs can do to a channel, and what the record says of it."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

import pytest

from tests.lab.conftest import GuestFactory
from tests.lab.domain_xml import LEGACY_PORT, OVIRT_PORT, AgentSpec, GuestSpec, channel_path
from tests.lab.guest import Guest
from tests.lab.host import Host
from tests.lab.raw_channel import RawChannel
from tests.lab.records import read_record, wait_agreed, wait_for_verdict
from tests.lab.waiting import wait_for

ONE_CHANNEL = GuestSpec(channels=(OVIRT_PORT,))
NO_AGENT = GuestSpec(channels=(OVIRT_PORT,), agent=None)
IMPATIENT = "[ovirt]\nresponsive_seconds = 2\nabsent_seconds = 2\n"


StartDaemon = Callable[[str], object]


@pytest.fixture
def start_daemon(alpha: Host, clean_hosts: None) -> Iterator[StartDaemon]:
    yield alpha.start_sidecard
    assert alpha.stop_sidecard() == 0
    assert "Traceback" not in alpha.log_text()


def wait_seconds(seconds: float) -> None:
    """Lets time pass, where passing time is the very thing that is tested."""
    end = monotonic() + seconds
    wait_for(lambda: monotonic() >= end, seconds + 5, "time to pass")


def test_both_names_keeps_the_one_that_speaks(start_daemon: StartDaemon, boot_guest: GuestFactory) -> None:
    start_daemon("")
    guest = boot_guest(GuestSpec(channels=(OVIRT_PORT, LEGACY_PORT)))
    record = wait_for_verdict(guest, "agreed", 3, channel=LEGACY_PORT)
    assert record.verdict(OVIRT_PORT) == ("waiting", "0", "other-channel")
    guest.agent_stop()
    guest.agent_start(port=OVIRT_PORT)
    wait_for_verdict(guest, "agreed", 3, channel=OVIRT_PORT)
    assert read_record(guest).verdict(LEGACY_PORT)[0] != "agreed"  # type: ignore[union-attr]


def test_agent_restarts(start_daemon: StartDaemon, boot_guest: GuestFactory) -> None:
    start_daemon("")
    guest = boot_guest(ONE_CHANNEL)
    first = wait_agreed(guest, 3)
    guest.agent_stop()
    wait_for_verdict(guest, "lost", 0, "port-closed")
    guest.agent_start(era="1.0.10")
    wait_agreed(guest, 1, arrivals=first.arrivals)
    assert guest.agent_received() == [("refresh", {"apiVersion": 4}), ("api-version", {"apiVersion": 1})]


def test_silent_agent_is_lost_and_comes_back(start_daemon: StartDaemon, boot_guest: GuestFactory) -> None:
    start_daemon(IMPATIENT)
    guest = boot_guest(ONE_CHANNEL)
    wait_agreed(guest, 3)
    guest.agent_stop(signal.SIGSTOP)
    wait_for_verdict(guest, "lost", 0, "agent-silent")
    guest.agent_stop(signal.SIGCONT)
    wait_agreed(guest, 3)


def test_clocks_stand_still_while_the_guest_is_paused(
    alpha: Host, start_daemon: StartDaemon, boot_guest: GuestFactory
) -> None:
    start_daemon(IMPATIENT)
    guest = boot_guest(ONE_CHANNEL)
    before = wait_agreed(guest, 3)
    alpha.virsh("suspend", guest.name)
    wait_seconds(4)
    assert read_record(guest) == before
    alpha.virsh("resume", guest.name)
    guest.shell("true")
    assert read_record(guest) == before


def test_no_agent_is_absent_until_it_comes(start_daemon: StartDaemon, boot_guest: GuestFactory) -> None:
    start_daemon(IMPATIENT)
    guest = boot_guest(NO_AGENT)
    wait_for_verdict(guest, "absent", 0, "not-opened")
    guest.agent_start()
    wait_agreed(guest, 3)


OTHER_PROGRAM = """
import socket, sys
channel = socket.socket(socket.AF_UNIX)
channel.connect(sys.argv[1])
for line in channel.makefile("rb"):
    if b"heartbeat" in line:
        print("served", flush=True)
"""


@contextmanager
def other_program(guest: Guest) -> Iterator[Callable[[], bool]]:
    """A stand-in for VDSM on the guest's host; tells whether it is served."""
    path = channel_path(guest.dumpxml(), OVIRT_PORT)
    with (guest.here.root / "other.log").open("w+") as log:
        program = guest.here.popen(["/usr/bin/python3", "-c", OTHER_PROGRAM, path], stdout=log)
        try:
            yield lambda: "served" in (guest.here.root / "other.log").read_text()
        finally:
            program.end()


def test_another_program_holds_the_channel(alpha: Host, start_daemon: StartDaemon, boot_guest: GuestFactory) -> None:
    guest = boot_guest(ONE_CHANNEL)
    with other_program(guest) as is_served:
        wait_for(is_served, 10, "the other program to be served")
        start_daemon("")
        wait_for_verdict(guest, "waiting", 0, "socket-busy", timeout_s=15)
    for _restart in range(5):
        with other_program(guest) as is_served:
            wait_for(is_served, 10, "the other program to get its channel back")
    assert guest.agent_received() == [], "nothing of ours reached the agent past the other program"


@pytest.mark.long
def test_a_program_that_cannot_be_seen_holds_the_channel(start_daemon: StartDaemon, boot_guest: GuestFactory) -> None:
    guest = boot_guest(ONE_CHANNEL)
    # This process is in another network namespace than the host, and so in another list of sockets.
    with RawChannel(guest.channel_socket(OVIRT_PORT)) as other:
        other.receive_until("heartbeat")
        start_daemon("")
        wait_for_verdict(guest, "waiting", 0, "socket-busy", timeout_s=15)
        other.receive_until("heartbeat")


@pytest.mark.parametrize("era", [*(pytest.param(era, marks=pytest.mark.long) for era in ("1.0.8", "1.0.10")), "1.0.16"])
def test_agent_that_speaks_before_the_daemon_listens(
    start_daemon: StartDaemon, boot_guest: GuestFactory, era: str
) -> None:
    guest = boot_guest(GuestSpec(channels=(OVIRT_PORT,), agent=AgentSpec(era=era)))
    start_daemon("")
    if era == "1.0.8":
        wait_for_verdict(guest, "unversioned", 0, "no-version")
    else:
        wait_agreed(guest, {"1.0.10": 1, "1.0.16": 3}[era])
