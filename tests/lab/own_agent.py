"""The project's own agent in a guest: how a guest has it, what it is told to do, and what it costs."""

import re
from dataclasses import dataclass

from tests.lab.domain_xml import OVIRT_PORT, AgentSpec, GuestSpec
from tests.lab.guest import Guest
from tests.lab.guest_files.control import OWN_AGENT, OWN_AGENT_CONFIGURATION

OWN = AgentSpec(era=OWN_AGENT, heartbeat_s=0.5)
OWN_GUEST = GuestSpec(channels=(OVIRT_PORT,), agent=OWN)
LOCK_FILE = "/etc/pv-drivers-not-upgradable"


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one process: its memory, and how often each of its threads has gone to sleep and woken."""

    rss_kib: int
    wakeups: int
    descriptors: int


def configure(guest: Guest, text: str) -> None:
    """Give the agent another configuration; it is read at its next start."""
    guest.put(OWN_AGENT_CONFIGURATION, text.encode())


def restart(guest: Guest, text: str = "") -> int:
    """A fresh process with this configuration (or the one it had), once it listens; its process id in the guest."""
    if text:
        configure(guest, text)
    return guest.agent_restart(OWN)


def read_cost(guest: Guest, pid: int) -> Cost:
    """What the process costs now."""
    status = guest.shell(f"cat /proc/{pid}/status")
    switches = guest.shell(f"cat /proc/{pid}/task/*/status")
    descriptors = guest.shell(f"ls /proc/{pid}/fd 2>/dev/null | wc -l")
    wakeups = sum(map(int, re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", switches, re.MULTILINE)))
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return Cost(int(found[1]), wakeups, int(descriptors))
