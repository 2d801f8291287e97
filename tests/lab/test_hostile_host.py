"""What others on the host can do to the daemon: forged notices, swapped sockets, forged records, a besieged API.

The cases are those of docs/security.md; what a guest itself can do is in ``test_hostile``.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from sidecar.api.problems import ProblemError
from sidecar.client import DEFAULT_SOCKET, READONLY_SOCKET
from tests.lab.api import api
from tests.lab.conftest import GuestFactory
from tests.lab.domain_xml import OVIRT_PORT, RECORD_URI, channel_path
from tests.lab.host import Host
from tests.lab.hostile_arena import Arena, open_arena
from tests.lab.hostile_guest import HostileGuest
from tests.lab.records import read_record, wait_agreed, wait_for_verdict
from tests.lab.waiting import wait_for

SPOOL = "/run/sidecar/spool"
HOOK = "/etc/libvirt/hooks/qemu.d/50-sidecar"
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]

# What libvirt lets a domain be called.
ATTACKER = "it's;$(touch evil)&<b>"
HOSTILE_NAMES = [
    "--help",
    "-n",
    "$(touch /run/evil)",
    "`touch /run/evil`; touch /run/evil",
    "../../../run/evil",
    "neighbour\nneighbour",
    "\x1b[31mred\r\n\u202egnp",
    "%s%n{0}",
    "x" * 200,
]
# Of names that nobody has, two kinds: some are logged, at the steps where somebody should have them.
NOTICES_LIMIT_LINES = 40


@pytest.fixture(scope="module")
def arena(alpha: Host, boot_shared_guest: GuestFactory, time_step: Callable[[str, float], None]) -> Iterator[Arena]:
    with open_arena(alpha, boot_shared_guest, ATTACKER, time_step) as arena:
        yield arena


@pytest.fixture
def attacker(arena: Arena) -> HostileGuest:
    """The guest whose name is an attack."""
    return arena.attacker


# --- 12: the hook


def forge_notice(spool: Path, number: int, name: str, operation: str) -> Path:
    """A notice as the hook writes it."""
    file = spool / f"{operation}.{number}"
    file.write_bytes(f"libvirt-sidecar notice 1\n{operation}\nbegin\n{name}\0".encode())
    return file


def litter(spool: Path) -> None:
    """What is no notice at all."""
    (spool / "link").symlink_to("/etc/shadow")
    os.mkfifo(spool / "fifo")
    (spool / "directory").mkdir()
    (spool / "large").write_bytes(b"libvirt-sidecar notice 1\n" * 100_000)
    os.chown(forge_notice(spool, 0, "neighbour", "reconnect"), 65534, 65534)


def test_12_ten_thousand_forged_notices(arena: Arena, attacker: HostileGuest) -> None:
    spool = arena.host.path(SPOOL)
    before = read_record(attacker.guest)
    with arena.watch("12, 10,000 forged notices", NOTICES_LIMIT_LINES):
        for number in range(10_000):
            operation = ("started", "stopped", "release", "migrate", "reconnect")[number % 5]
            forge_notice(spool, number, (arena.neighbour.name, attacker.name)[number % 2], operation)
        for number, name in enumerate(HOSTILE_NAMES, 10_000):
            forge_notice(spool, number, name, "started")
        litter(spool)
        wait_for(lambda: not os.listdir(spool), 60, "the spool to be empty")
        attacker.prove_heard()
    assert read_record(attacker.guest) == before, "a notice is a hint to look, and nothing had happened"


def test_12_names_through_the_hook_itself(arena: Arena) -> None:
    with arena.watch("12, hostile names"):
        for name in HOSTILE_NAMES:
            assert arena.host.run([HOOK, name, "started", "begin", "-"]).stdout == ""
        wait_for(lambda: not os.listdir(arena.host.path(SPOOL)), 20, "the spool to be empty")
    assert "/evil" not in arena.host.run(["find", "/run", "/etc/sidecar", "-name", "*evil*"]).stdout


def test_12_another_user_gets_nothing_into_the_spool(arena: Arena) -> None:
    with arena.watch("12, another user"):
        arena.host.run([*NOBODY, HOOK, arena.neighbour.name, "stopped", "end", "-"])
        arena.host.run([*NOBODY, "touch", f"{SPOOL}/forged"], check=False)
        assert os.listdir(arena.host.path(SPOOL)) == []


# --- 14: the record


FORGED = [
    '<agreement arrivals="2147483647" host="omega" run="r"><channel name="x" state="agreed" version="9"/></agreement>',
    "<agreement>" + '<channel name="x" state="agreed"/>' * 1500 + "</agreement>",
    f"<agreement>{'<a>' * 200}{'</a>' * 200}</agreement>",
    '<agreement arrivals="-1" host="&#x202e;&lt;b&gt;$(id)" host-uuid="x" run=""/>',
]


def write_over(attacker: HostileGuest, record: str) -> None:
    """What anybody may do who may edit the domain."""
    for place in ("--live", "--config"):
        options = [attacker.name, RECORD_URI, place, "--key", "forged", "--set", record]
        attacker.guest.here.virsh("metadata", *options)


def send_lifecycle_event(attacker: HostileGuest) -> str | None:
    """The code with which a gated message is refused; ``None``: it is not."""
    with api(attacker.guest.here) as client:
        try:
            client.send(attacker.name, "lifecycle-event", {"type": "lab_question"}, 1)
        except ProblemError as error:
            return error.problem.code
    return None


def test_14_records_that_somebody_writes_over(arena: Arena, attacker: HostileGuest) -> None:
    arrivals = wait_for(lambda: read_record(attacker.guest), 20, "a record").arrivals
    with arena.watch("14, forged records"):
        attacker.do("close")
        wait_for(lambda: send_lifecycle_event(attacker) == "not-agreed", 20, "the gate to close")
        for forged in FORGED:
            write_over(attacker, forged)
            assert send_lifecycle_event(attacker) == "not-agreed", "what decides is what the guest has said"
        attacker.do("open")
        attacker.agree()
        wait_for_verdict(attacker.guest, "agreed", 4, arrivals=arrivals, timeout_s=90)


@pytest.fixture
def daemon_away(arena: Arena, attacker: HostileGuest) -> Iterator[None]:
    """The daemon is stopped; the test may start it. Afterwards it runs, and both guests have agreed."""
    wait_for_verdict(attacker.guest, "agreed", 4, timeout_s=90)
    arena.host.stop_sidecard()
    yield
    if arena.host.sidecard.process is not None:
        arena.host.stop_sidecard()
    arena.host.start_sidecard()
    wait_agreed(arena.neighbour, 4)
    attacker.agree()


def test_14_a_record_of_this_very_process_that_claims_too_much(
    arena: Arena, attacker: HostileGuest, daemon_away: None
) -> None:
    record, told = attacker.guest.record(), read_record(attacker.guest)
    assert record is not None
    assert told is not None
    claim = 'state="agreed" version="2147483647" guest="2147483647" host="2147483647"'
    forged = re.sub(r'state="\w+" version="\d+"(?: guest="\d+")? host="\d+"', claim, record.replace("sidecar:", ""))
    assert claim in forged
    write_over(attacker, forged.replace("xmlns:sidecar", "xmlns"))
    arena.host.start_sidecard()
    wait_agreed(arena.neighbour, 4)
    assert send_lifecycle_event(attacker) == "not-agreed"
    attacker.agree()
    assert wait_for_verdict(attacker.guest, "agreed", 4, arrivals=told.arrivals).ovirt["host"] == "4"


# --- 13: the channel's path


Swap = Callable[[Arena, str], AbstractContextManager[None]]

IMPOSTOR = """
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("listening", flush=True)
while True:
    with listener.accept()[0] as connection:
        print("heard", connection.recv(4096), flush=True)
"""


@contextmanager
def swap_link(arena: Arena, path: str) -> Iterator[None]:
    """A symbolic link to the neighbour's socket stands there."""
    arena.host.path(path).symlink_to(channel_path(arena.neighbour.dumpxml(), OVIRT_PORT))
    yield


@contextmanager
def swap_neighbours(arena: Arena, path: str) -> Iterator[None]:
    """The neighbour's socket itself stands there."""
    os.link(arena.neighbour.channel_socket(OVIRT_PORT), arena.host.path(path))
    yield


@contextmanager
def swap_impostor(arena: Arena, path: str) -> Iterator[None]:
    """Another process listens there, and must not be told anything."""
    log = arena.host.root / "impostor.log"
    with log.open("w") as output:
        impostor = arena.host.popen(["/usr/bin/python3", "-c", IMPOSTOR, path], stdout=output)
    try:
        wait_for(lambda: "listening" in log.read_text(), 10, "the impostor to listen")
        yield
    finally:
        impostor.end()
    assert set(log.read_text().splitlines()) <= {"listening", "heard b''"}


@pytest.fixture
def free_path(arena: Arena, attacker: HostileGuest, daemon_away: None) -> Iterator[str]:
    """The path of the attacker's socket, which is elsewhere until the test is over; the daemon is stopped."""
    path = channel_path(attacker.guest.dumpxml(), OVIRT_PORT)
    outside = arena.host.path(path)
    outside.rename(outside.with_name("aside"))
    yield path
    arena.host.stop_sidecard()
    outside.unlink(missing_ok=True)
    outside.with_name("aside").rename(outside)


@pytest.mark.parametrize(
    ("swap", "reasons"),
    [
        (swap_link, {"socket-unreachable"}),
        (swap_neighbours, {"socket-foreign", "socket-unreachable"}),  # QEMU's queue holds one who waits, and then none
        (swap_impostor, {"socket-foreign"}),
    ],
    ids=["link", "neighbours", "impostor"],
)
def test_13_another_socket_in_the_channels_place(
    arena: Arena, attacker: HostileGuest, free_path: str, swap: Swap, reasons: set[str]
) -> None:
    with swap(arena, free_path):
        arena.host.start_sidecard()
        wait_agreed(arena.neighbour, 4)
        with api(arena.host) as client:
            wait_for(lambda: client.show(attacker.name).channels[0].reason in reasons, 20, f"one of {reasons}")
        assert send_lifecycle_event(attacker) in ("not-agreed", "not-sent")
    assert "Traceback" not in arena.host.log_text()


# --- 15: the API


STRANGER = """
import socket, sys, time
held = []
for _ in range(2000):
    client = socket.socket(socket.AF_UNIX)
    client.setblocking(False)
    try:
        client.connect(sys.argv[1])
        client.send(b"POST /v1/domains/neighbour/renegotiate HTTP/1.1\\r\\nContent-Length: 99999999\\r\\n\\r\\n{")
    except OSError:
        continue
    held.append(client)
print("held", len(held), flush=True)
time.sleep(3 if held else 0)
"""


def test_15_a_stranger_who_takes_every_connection(arena: Arena) -> None:
    with arena.watch("15, a stranger"):
        stranger = ["/usr/bin/python3", "-c", STRANGER, READONLY_SOCKET]
        told = arena.host.run([*NOBODY, *stranger]).stdout
        assert int(told.removeprefix("held ")) > 16, "more than the daemon serves one user at a time"
        assert arena.host.run([*NOBODY, *stranger[:3], DEFAULT_SOCKET]).stdout == "held 0\n", "it is not for everybody"
