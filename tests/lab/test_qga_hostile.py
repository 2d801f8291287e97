"""A guest says what it likes on its QGA channel: its row tells so, and nobody else notices.

Source: the measured behaviours of libvirt 9 with a hostile agent (docs/protocol.md, "The QGA dialect").
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from time import monotonic

import pytest

from tests.lab.conftest import GuestFactory
from tests.lab.domain_xml import DIRECT_QGA_PORT, OVIRT_PORT, QGA_PORT, GuestSpec
from tests.lab.guest import Guest
from tests.lab.guest_qga import start_qga
from tests.lab.host import Host
from tests.lab.hostile_qga import Script, silence_qga, start_scripted_qga, stop_scripted_qga, wait_port
from tests.lab.records import count_writes, read_record, remove_record, wait_agreed, wait_for_qga
from tests.lab.waiting import wait_for

DIRECT = f'[qga]\ndirect_channels = ["{DIRECT_QGA_PORT}"]\n'
USABLE_LIMIT_S = 1.0
GROWTH_LIMIT_MIB = 24.0
LOG_LIMIT_LINES = 40
LOG_LINE_LIMIT = 500

POISONED = ("lost", "0", "agent-poisoned")
SILENT = ("lost", "0", "agent-silent")
BAD_REPLY = ("lost", "0", "bad-reply")
FINE = ("agreed", "7.2", None)


@pytest.fixture(scope="module")
def witness(boot_shared_guest: GuestFactory) -> Guest:
    """A guest like any other, with both agents."""
    return boot_shared_guest()


@pytest.fixture(scope="module")
def booted_victim(boot_shared_guest: GuestFactory) -> Guest:
    return boot_shared_guest(GuestSpec(channels=(OVIRT_PORT, QGA_PORT, DIRECT_QGA_PORT), qga=False))


def resident_mib(host: Host) -> float:
    pid = host.sidecard.process.pid  # type: ignore[union-attr]
    with open(f"/proc/{pid}/status") as status:
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status.read())[0]) / 1024


def check_usable(guest: Guest) -> None:
    """Others get on with a guest's domain and its agent as if nothing were."""
    begin = monotonic()
    guest.here.virsh("dominfo", guest.name)
    guest.here.virsh("domstats", guest.name)
    guest.here.virsh("qemu-agent-command", "--timeout", "2", guest.name, '{"execute":"guest-ping"}')
    assert monotonic() - begin < USABLE_LIMIT_S


@pytest.fixture
def victim(alpha: Host, clean_hosts: None, witness: Guest, booted_victim: Guest) -> Iterator[Guest]:
    """The guest that misbehaves, with no agent on a QGA channel yet; afterwards nobody must have noticed."""
    silence_qga(booted_victim)
    remove_record(booted_victim)
    alpha.start_sidecard(DIRECT)
    wait_agreed(booted_victim, 3)
    wait_agreed(witness, 3)
    undisturbed = wait_for_qga(witness, "agreed", "7.2")
    before = resident_mib(alpha)
    yield booted_victim
    check_usable(witness)
    assert read_record(witness) == undisturbed
    wait_agreed(booted_victim, 3)
    assert resident_mib(alpha) - before < GROWTH_LIMIT_MIB
    assert "Traceback" not in alpha.log_text(), alpha.log_text()
    lines = alpha.log_text().splitlines()
    assert len(lines) < LOG_LIMIT_LINES
    assert all(line.isprintable() and len(line) < LOG_LINE_LIMIT for line in lines)
    assert alpha.stop_sidecard() == 0
    assert "Traceback" not in alpha.log_text()


@pytest.mark.parametrize(
    ("script", "verdict"),
    [
        pytest.param(Script("garbage"), POISONED, id="garbage"),
        pytest.param(Script("not-utf-8"), POISONED, id="not-utf-8"),
        pytest.param(Script("not-an-object"), POISONED, id="not-an-object"),
        pytest.param(Script("deep"), POISONED, id="deep"),
        pytest.param(Script("endless"), POISONED, id="endless"),
        pytest.param(Script("wrong-sync"), SILENT, id="wrong-sync"),
        pytest.param(Script("smuggle"), BAD_REPLY, id="smuggle"),
        pytest.param(Script(information="\x1b[31mred\nforged"), BAD_REPLY, id="text"),
        pytest.param(Script(information={"version": "7.2.0", "supported_commands": 7}), BAD_REPLY, id="wrong-type"),
        pytest.param(Script(invented=1500), BAD_REPLY, id="1500-commands"),
        pytest.param(Script(invented=100_000), BAD_REPLY, id="100000-commands"),
        pytest.param(Script(invented=900), FINE, id="900-commands"),
        pytest.param(Script("nul-escape"), FINE, id="nul-escape"),
        pytest.param(Script("twice"), FINE, id="twice"),
        pytest.param(Script(ids="dropped"), FINE, id="id-dropped"),
        pytest.param(Script(delays_s=[7]), FINE, id="late-once"),
    ],
)
def test_through_libvirt(victim: Guest, script: Script, verdict: tuple[str, str, str | None]) -> None:
    start_scripted_qga(victim, script)
    wait_for_qga(victim, *verdict, timeout_s=30)


@pytest.mark.parametrize(
    ("version", "shown"),
    [("7.2<evil/>&amp;", "7.2"), ("7.2.1.2.3.4.5", "7.2.1.2"), ("7.2\x1b[31m\n\u202eforged", "7.2")],
    ids=["markup", "numbers", "controls"],
)
def test_version_text_is_no_way_in(victim: Guest, version: str, shown: str) -> None:
    start_scripted_qga(victim, Script(version=version))
    record = wait_for_qga(victim, "agreed", "7.2")
    assert record.qga["guest"] == shown


@pytest.mark.parametrize("behaviour", ["garbage", "nul"])
def test_reopened_port_heals(victim: Guest, alpha: Host, behaviour: str) -> None:
    start_scripted_qga(victim, Script(behaviour))  # type: ignore[arg-type]
    wait_for_qga(victim, *(POISONED if behaviour == "garbage" else SILENT))
    stop_scripted_qga(victim)
    wait_port(victim, "disconnected")  # what is opened again within the second libvirt does not notice
    start_qga(victim)
    wait_for_qga(victim, *FINE)
    check_usable(victim)


def test_libvirtd_restart_heals_a_poisoned_agent(victim: Guest, alpha: Host) -> None:
    start_scripted_qga(victim, Script("garbage", times=1))
    wait_for_qga(victim, *POISONED)
    alpha.restart_libvirtd()
    wait_for_qga(victim, *FINE)


def test_garbage_before_anybody_asked(victim: Guest, alpha: Host) -> None:
    alpha.stop_sidecard()
    start_scripted_qga(victim, Script("garbage-on-open"))
    wait_port(victim, "connected")
    alpha.start_sidecard(DIRECT)
    wait_for_qga(victim, *POISONED)


# QEMU tells of one change a second. The name is that of the scripted agent, so that it ends like that.
FLAP = f"""
import os, time
open("/proc/self/comm", "w").write("scripted-qga")
while True:
    port = os.open("/dev/virtio-ports/{QGA_PORT}", os.O_RDWR)
    time.sleep(1.1)
    os.close(port)
    time.sleep(1.1)
"""


@pytest.mark.long
def test_flapping_port(victim: Guest) -> None:
    with count_writes(victim) as writes:
        victim.put("/opt/flap.py", FLAP.encode())
        victim.shell("setsid python3 /opt/flap.py >/dev/null 2>&1 &")
        wait_for(lambda: 'reason="flapping"' in (victim.record() or ""), 30, "the record to say flapping")
        wait_for_openings(victim, 6)
        assert writes() <= 7, "six of this channel's in a minute, and one of the other agent's"
    silence_qga(victim)


def wait_for_openings(guest: Guest, count: int) -> None:
    """Returns when libvirt has seen the guest open its port so many times more."""
    for _opening in range(count):
        wait_port(guest, "disconnected")
        wait_port(guest, "connected")


def test_silent_agent_delays_nobody(victim: Guest, boot_guest: GuestFactory) -> None:
    start_scripted_qga(victim, Script("silent"))
    newcomer = boot_guest(GuestSpec(channels=(QGA_PORT,), agent=None))
    wait_port(newcomer, "connected")
    wait_for_qga(newcomer, "agreed", "7.2", timeout_s=USABLE_LIMIT_S)
    wait_for_qga(victim, *SILENT)


@pytest.mark.parametrize(
    ("script", "verdict"),
    [
        pytest.param(Script("garbage"), SILENT, id="garbage"),
        pytest.param(Script("endless"), SILENT, id="endless"),
        pytest.param(Script("silent"), SILENT, id="silent"),
        pytest.param(Script(information=7), BAD_REPLY, id="wrong-type"),
        pytest.param(Script("garbage-on-open"), FINE, id="garbage-on-open"),
    ],
)
def test_dialled_directly(victim: Guest, script: Script, verdict: tuple[str, str, str | None]) -> None:
    start_scripted_qga(victim, replace(script, port=DIRECT_QGA_PORT))
    wait_for_qga(victim, *verdict, channel=DIRECT_QGA_PORT)
