"""A real guest attacks a real daemon over its real channel in every way it has; its neighbour does not notice.

The cases are those of docs/security.md. What a guest can do with a QEMU guest agent is in ``test_qga_hostile``, what
others on the host can do in ``test_hostile_host``.
"""

import json
import re
from collections.abc import Callable, Iterator
from signal import SIGCONT, SIGSTOP
from time import monotonic

import pytest

from sidecar.api.problems import ProblemError
from tests.lab.api import api
from tests.lab.conftest import GuestFactory
from tests.lab.host import Host
from tests.lab.hostile_arena import Arena, open_arena
from tests.lab.hostile_guest import HostileGuest, heartbeat, render
from tests.lab.hostile_vitals import count_bad_input
from tests.lab.records import count_writes, read_record
from tests.lab.sidecard import PROGRAMS
from tests.lab.waiting import wait_for
from tests.protocol.twenty_six_lines import TWENTY_SIX_LINES

FLOOD_S = 3.0
# The record is written six times a minute at most, however much changes.
WRITES_LIMIT = 6


@pytest.fixture(scope="module")
def arena(alpha: Host, boot_shared_guest: GuestFactory, time_step: Callable[[str, float], None]) -> Iterator[Arena]:
    with open_arena(alpha, boot_shared_guest, "attacker", time_step) as arena:
        yield arena


@pytest.fixture
def attacker(arena: Arena) -> HostileGuest:
    """The guest that attacks."""
    return arena.attacker


@pytest.fixture(autouse=True)
def unmoved(arena: Arena, request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test does, nobody else notices, and the attacker's next good line is heard."""
    with arena.watch(request.node.name):
        yield
        arena.attacker.prove_heard()


LIES = [2**63, -1, 0, 3, 10**400, 0, 4, True, 3, None, 2**31, 1]


def test_7_version_lies_and_flapping(arena: Arena, attacker: HostileGuest) -> None:
    # It comes first: a record that has had its six writes in this minute would say so a minute later.
    attacker.agree()
    with count_writes(attacker.guest) as writes:
        attacker.write(*map(heartbeat, LIES), times=12, pause_s=0.02)
        with api(arena.host) as client:
            assert client.can_send(attacker.name, "lifecycle-event").reason == "flapping"
        wait_for(lambda: 'reason="flapping"' in (attacker.guest.record() or ""), 90, "the record to say flapping")
        assert 1 <= writes() <= WRITES_LIMIT
    attacker.agree()


def test_1_endless_line(arena: Arena, attacker: HostileGuest) -> None:
    before = count_bad_input(arena.host)
    attacker.write((b"x", 1_300_000))
    attacker.prove_heard()
    after = count_bad_input(arena.host)
    assert after == {**before, "line-too-long": before["line-too-long"] + 1}


HONEST = [f"package-{number}-1.0-{number}.el9" for number in range(500)]


@pytest.mark.parametrize(
    "piece",
    [
        pytest.param(heartbeat(), id="heartbeats"),
        pytest.param(render("applications", applications=HONEST), id="applications"),
        pytest.param(render("completion", reply_id="a") + render("session-startup") + b"bad\n", id="short"),
        pytest.param(b"\n", id="empty"),
    ],
)
def test_2_flood(attacker: HostileGuest, piece: bytes) -> None:
    repeated = piece * (16384 // len(piece) + 1)
    assert attacker.flood(repeated, FLOOD_S) > 512 * 1024, "more than the daemon takes at once"


def test_3_never_reads(arena: Arena, attacker: HostileGuest) -> None:
    attacker.agree()
    waits: list[float] = []
    outcome = ""
    with api(arena.host) as client:
        while not outcome and len(waits) < 200:
            begun = monotonic()
            try:
                client.send(attacker.name, "echo", {"text": "x" * 30_000})
            except ProblemError as error:
                outcome = error.problem.code
            waits.append(monotonic() - begun)
    assert outcome == "no-answer", "cut off, once it had let so much pile up"
    assert max(waits) < 5, "nobody waits for one who does not read"
    attacker.prove_heard()
    attacker.do("close")
    attacker.agree()


STRANGE = "\0\x07\x1b[31mred\x1b]0;title\x07\x7f\x85\u200b\u202egnp.exe\u2066\ufeff\ufffe\U0001f600\r\nforged: line"
NOT_TEXT = [
    b"\xff\xfe\x00 no UTF-8",
    b'{"__name__": "heart\xffbeat"}',
    b'{"__name__": "\xed\xa0\x80"}',
    b'{"__name__": "\\ud800"}',
    b'{"__name__": "host-name", "name": "\\ud800 alone"}',
    b"\x00" * 1000,
    b"\x1b[2J\x1b]0;owned\x07",
]
FORBIDDEN = {*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), "\ufffe", "\uffff"} - set("\t\n\r\x85")


def show(arena: Arena, attacker: HostileGuest) -> str:
    """What an operator sees of the guest."""
    return arena.host.run([str(PROGRAMS / "sidecarctl"), "show", attacker.name]).stdout


def test_4_characters(arena: Arena, attacker: HostileGuest) -> None:
    attacker.write(*(line + b"\n" for line in NOT_TEXT))
    attacker.write(
        render(STRANGE, apiVersion=3),
        render("os-version", version=STRANGE, **{STRANGE: [STRANGE]}),
        render("applications", applications=[STRANGE, f"ovirt-guest-agent-common-1.0.16{STRANGE}-1.el7"]),
        render("completion", reply_id=STRANGE),
    )
    attacker.prove_heard()
    told = attacker.facts()["os-version"]
    assert not FORBIDDEN & set(json.dumps(told, ensure_ascii=False))
    assert "gnp.exe" in told["version"]
    assert all(line.isprintable() for line in show(arena, attacker).splitlines())
    record = read_record(attacker.guest)
    assert record is not None
    assert record.tools is None or re.fullmatch(r"[0-9.-]+", record.tools["version"])


def test_5_the_twenty_six_lines(arena: Arena, attacker: HostileGuest) -> None:
    before = count_bad_input(arena.host)
    for hostile in TWENTY_SIX_LINES:
        attacker.prove_heard(hostile.line)
    codes: list[str] = [hostile.code for hostile in TWENTY_SIX_LINES if hostile.code]
    assert count_bad_input(arena.host) == {code: count + codes.count(code) for code, count in before.items()}
    arena.host.run([str(PROGRAMS / "sidecarctl"), "show", attacker.name])


def lifecycle_event(attacker: HostileGuest) -> str | None:
    """How sending one ended: the problem's code, or ``None`` when it was answered."""
    with api(attacker.guest.here) as client:
        try:
            client.send(attacker.name, "lifecycle-event", {"type": "before_migration"}, 1.0)
        except ProblemError as error:
            return error.problem.code
    return None


def test_6_forged_and_late_answers(attacker: HostileGuest) -> None:
    attacker.agree()
    attacker.write(render("completion", reply_id="a", done=True), times=100)
    number = attacker.order("forge", seconds=4)
    assert [lifecycle_event(attacker) for _ in range(3)] == ["no-answer"] * 3
    assert attacker.result(number) == 3, "it was asked, and answered, three times"


def test_8_port_that_opens_and_closes(arena: Arena, attacker: HostileGuest) -> None:
    with count_writes(attacker.guest) as writes:
        assert attacker.do("flap", seconds=4) > 50
        assert writes() <= WRITES_LIMIT
    assert all(line.count("\n") == 0 for line in arena.host.log_text().splitlines())


def test_9_thousands_of_things(arena: Arena, attacker: HostileGuest) -> None:
    interface = b'{"name": "eth0", "hw": "52:54:00:00:00:01", "inet": ["10.0.0.1"], "inet6": []}, '
    attacker.write(
        *(b'{"__name__": "network-interfaces", "interfaces": [', (interface, 2000), b"null]}\n"),
        *(b'{"__name__": "applications", "applications": [', (b'"package-1.0.16-1.el9", ', 15_000), b'"last"]}\n'),
        *(b'{"__name__": "containers", "list": [', (b"[], ", 10_000), b"[]]}\n"),
        *(b'{"__name__": "os-info", "version": "', (b"x", 200_000), b'"}\n'),
    )
    attacker.prove_heard()
    with api(arena.host) as client:
        told = {fact.name: fact for fact in client.guest(attacker.name).facts}
    for name, key, entries in (("network-interfaces", "interfaces", 2000), ("applications", "applications", 15_000)):
        assert told[name].truncated, name
        assert 100 < len(told[name].value[key]) < entries, name
    assert {"containers", "os-info"}.isdisjoint(told), "what is too dense to be honest, or cannot be cut, is left out"


MARKUP = [
    "</sidecar:agreement><evil/>",
    "<script>evil()</script>&evil;",
    "$(touch /run/evil); `touch /run/evil` | touch /run/evil",
    "../../../../run/evil",
    'evil{a="b"} 1\nsidecar_evil 1',
    "evil.#.*\r\nX-Evil: 1",
    "--help",
]


def test_10_text_that_is_meant_for_somebody_else(arena: Arena, attacker: HostileGuest) -> None:
    for evil in MARKUP:
        attacker.write(
            render("host-name", name=evil),
            render("os-info", **{evil: evil}),
            render("applications", applications=[f"ovirt-guest-agent-common-1.0.16-1{evil}"]),
            render("guest-tools", major=1, minor=4, micro=0, build=evil, installed=True, notUpgradable=True, updated=1),
            render(evil),
        )
    attacker.prove_heard()
    assert attacker.facts()["os-info"] == {MARKUP[-1]: MARKUP[-1]}
    argv = ["curl", "--silent", "--fail", "--unix-socket", "/run/sidecar/api.sock", "http://localhost/metrics"]
    places = [attacker.guest.dumpxml(), arena.host.run(argv).stdout, attacker.guest.record() or ""]
    assert not [place for place in places if "evil" in place]
    assert "/run/evil" not in arena.host.run(["find", "/run", "/etc/sidecar", "-name", "*evil*"]).stdout
    assert show(arena, attacker)


def test_11_nothing_waits_for_the_next_one_who_opens_the_port(arena: Arena, attacker: HostileGuest) -> None:
    attacker.agree()
    attacker.do("close")
    with api(arena.host) as client:
        wait_for(lambda: not client.can_send(attacker.name, "lock-screen").allowed, 20, "the gate to close")
        with pytest.raises(ProblemError) as refused:
            client.send(attacker.name, "lock-screen")
        assert refused.value.problem.code == "not-agreed"
    attacker.reads_nothing_that_acts()
    attacker.agree()


def test_11_what_was_sent_to_one_who_had_just_gone(arena: Arena, attacker: HostileGuest) -> None:
    attacker.agree()
    libvirtd = arena.host.libvirtd.process
    assert libvirtd is not None
    with api(arena.host) as client:
        libvirtd.signal(SIGSTOP)  # its word of the closing comes late, as it does when QEMU holds it back for a second
        try:
            attacker.do("close")
            client.send(attacker.name, "lock-screen")  # what came of it nobody can know
        finally:
            libvirtd.signal(SIGCONT)
        wait_for(lambda: not client.can_send(attacker.name, "lock-screen").allowed, 20, "the gate to close")
    attacker.reads_nothing_that_acts()


def test_11_what_one_who_never_read_was_sent(arena: Arena, attacker: HostileGuest) -> None:
    attacker.agree()
    with api(arena.host) as client:
        for _ in range(18):  # the guest's driver holds half a MiB, the rest stays in the socket
            client.send(attacker.name, "echo", {"text": "x" * 30_000})
        client.send(attacker.name, "lock-screen")
        attacker.do("close")
        wait_for(lambda: not client.can_send(attacker.name, "lock-screen").allowed, 20, "the gate to close")
    attacker.reads_nothing_that_acts()
