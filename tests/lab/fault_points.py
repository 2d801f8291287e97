"""The steps of an arrival at which a daemon can be stopped, and what a test does with one that stands there.

`faulty_sidecard` stops itself with SIGSTOP when it comes to its step: so a test knows that it stands just there, and
kills it there, or breaks libvirtd under it and lets it go on. This module is the test's end.
"""

import os
import sys
from enum import Enum
from pathlib import Path
from signal import SIGCONT, SIGKILL

from tests.lab.host import Host
from tests.lab.waiting import wait_for

REPOSITORY = Path(__file__).parents[2]
# What the daemon has to go through before it comes to its step may include a migration.
STEP_TIMEOUT_S = 60.0
CLOCK_FILE = "/run/lab/clock-offset"


class Step(Enum):
    """Where it stops, in the order of an arrival by migration."""

    OFFER_TO_WRITE = "connected to libvirt; host.json is not written yet"
    OFFER_HALF = "host.json's successor is written, and not in its place"
    OFFER_WRITTEN = "host.json is in its place"
    SPOOL_READ = "a hook's file was read, and still lies there"
    SPOOL_REMOVED = "a hook's file was read and removed, and nobody was told"
    DOMAIN_TO_FIND = "a hook told a domain's name; libvirt was not asked for it"
    LOOK_BEGUN = "libvirt is about to be asked what the domain is"
    LOOK_DONE = "libvirt has told what the domain is; nothing was done about it"
    CHANNEL_TO_DIAL = "the channel's socket is about to be connected to"
    CHANNEL_DIALLED = "the channel is connected; not a byte was sent"
    REFRESH_TO_SEND = "the first words are about to be sent"
    REFRESH_SENT = "the first words were sent"
    RESUMED_TOLD = "libvirt has told that the guest runs here; nothing was done about it"
    ARRIVAL_COUNTED = "the arrival is counted, in memory alone"
    JOB_TO_ASK = "libvirt is about to be asked for a job of the domain"
    JOB_ASKED = "libvirt has told whether a job holds the domain"
    RECORD_TO_WRITE = "the first record is about to be written"
    RECORD_SET = "the first record is in the XML, live and configured, and was not read back"
    RECORD_WRITTEN = "the first record was read back; nobody was told"
    HEARTBEAT_RECEIVED = "the guest's offer was received, and not looked at"
    VERSION_TO_SEND = "a version is agreed; the guest was not told"
    VERSION_SENT = "the guest was told the version; nothing of it is in the record"
    AGREED_TO_WRITE = "the record that says agreed is about to be written"
    AGREED_SET = "the record that says agreed is in the XML, and was not read back"
    AGREED_WRITTEN = "the record that says agreed was read back; nobody was told"
    MESSAGE_TO_SEND = "somebody's lifecycle-event is about to be sent"
    MESSAGE_SENT = "somebody's lifecycle-event was sent; nobody was told"
    COMMAND_TO_SEND = "somebody's guest-exec is about to be handed to libvirt"
    COMMAND_ANSWERED = "somebody's guest-exec has run; nobody was told"


def start_stopping_at(host: Host, step: Step | None, config_text: str = "", *, foreign_edit_s: float = 0) -> None:
    """Start a daemon there that stops itself the first time that it comes to this step; ``None``: never.

    ``foreign_edit_s`` replaces the minute for which somebody else's edit of the record is left standing. Its clock on
    the wall is wrong by as many seconds as ``step_clock`` said last.
    """
    program = ["/usr/bin/env", f"PYTHONPATH={REPOSITORY}", sys.executable, "-m", "tests.lab.faulty_sidecard"]
    program += ["--clock-file", CLOCK_FILE, *(["--stop-at", step.name] if step else [])]
    program += ["--foreign-edit-s", str(foreign_edit_s)] if foreign_edit_s else []
    host.start_sidecard(config_text, program)


def step_clock(host: Host, offset_s: float) -> None:
    """Steps the clock on the wall of that host's daemon, the one that runs and those to come."""
    file = host.path(CLOCK_FILE)
    fresh = file.with_suffix(".new")
    fresh.write_text(str(offset_s))
    os.replace(fresh, file)


def wait_stopped(host: Host) -> None:
    """Return when the host's daemon stands at its step.

    Raises:
        TimeoutError: It never came there, or has ended.
    """
    wait_for(lambda: is_stopped(host), STEP_TIMEOUT_S, f"the daemon of {host.name} to stop itself at its step")


def is_stopped(host: Host) -> bool:
    """Whether every thread of the host's daemon stands."""
    process = host.sidecard.process
    pid = None if process is None else process.pid
    if pid is None:
        return False
    tasks = list(Path(f"/proc/{pid}/task").glob("*/stat"))
    return bool(tasks) and all(task.read_text().rpartition(")")[2].split()[0] == "T" for task in tasks)


def let_go_on(host: Host) -> None:
    """The daemon goes on from its step, and never stops there again."""
    assert host.sidecard.process is not None
    host.sidecard.process.signal(SIGCONT)


def kill_daemon(host: Host) -> None:
    """SIGKILL, wherever it stands; returns when it has ended."""
    process = host.sidecard.process
    assert process is not None
    process.signal(SIGKILL)
    os.kill(process.entered.pid, SIGCONT)  # nsenter has stopped with it, and would not see its end
    assert process.wait() in (-SIGKILL, 128 + SIGKILL)
    host.stop_sidecard()
