"""Three hosts on one message bus: calls from anywhere, what is refused, and what they know of each other."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bus.permissions import ADMIN, READER
from tests.lab.conftest import GuestFactory
from tests.lab.domain_xml import OVIRT_PORT, GuestSpec
from tests.lab.fleet import CLIENT_FILE, SIDECARCTL, BusCaller, Fleet
from tests.lab.guest import Guest
from tests.lab.host import Host
from tests.lab.records import wait_agreed, wait_for_qga
from tests.lab.waiting import wait_for

VM = "vm-on-the-bus"
CAPPED = "[upgrade_levels]\novirt = 2\n"
OLD = "import sidecar.api.versions as versions\nversions.API_VERSION = versions.ApiVersion(1, 1)"
"""A daemon of the time when the API was at 1.1, which knows the bus all the same."""

DOCUMENT = Path(__file__).parents[2] / "docs/bus.md"

READING = [
    ("host",),
    ("host", "--json"),
    ("list",),
    ("list", "--json"),
    ("show", VM),
    ("show", VM, "--json"),
    ("show", "nobody"),
    ("messages", VM),
    ("messages", VM, "--json"),
    ("messages", VM, "--channel", "x"),
    ("can-send", VM, "guest-ping"),
    ("can-send", VM, "guest-get-load"),
    ("can-send", VM, "heartbeat"),
    ("wait", VM),
    ("wait", VM, "--for", "lost", "--timeout", "0.2"),
    ("doctor", VM),
    ("fleet",),
    ("fleet", "--json"),
    ("fleet", "preflight", "alpha"),
    ("fleet", "preflight", "alpha", "--json"),
    ("fleet", "preflight", "nowhere"),
    ("preflight", VM, "--host", "beta"),
    ("preflight", VM, "--host", "beta", "--json"),
    ("preflight", VM, "--host", "gamma"),
    ("preflight", VM, "--host", "nowhere"),
]

# What is another one from one moment to the next: ages and times.
VOLATILE = re.compile(r'\d+(\.\d+)? (ms|s|min)\b|"age_seconds": [\d.]+|"(last_seen|received)": "[^"]*"')


@pytest.fixture(scope="module")
def bus(fleet: Fleet) -> Fleet:
    """Alpha may be administered over the bus, beta not, and is older, and gamma is reached over TLS."""
    alpha, beta, gamma = fleet.hosts
    fleet.start(alpha, admin=True)
    fleet.start(beta, CAPPED)
    fleet.start(gamma, tls=True)
    fleet.wait_joined()
    return fleet


@pytest.fixture(scope="module")
def guest(bus: Fleet, boot_shared_guest: GuestFactory) -> Guest:
    """The module's guest, on alpha."""
    guest = boot_shared_guest(GuestSpec(name=VM))
    wait_agreed(guest, 3)
    wait_for_qga(guest, "agreed", "7.2")
    return guest


@pytest.fixture
def gamma_away(bus: Fleet) -> Iterator[Host]:
    """Gamma, whose daemon is stopped; afterwards it is as before, and the others have heard so."""
    _, _, gamma = bus.hosts
    gamma.stop_sidecard()
    yield gamma
    if gamma.sidecard.process is not None:
        gamma.stop_sidecard()
    bus.start(gamma, tls=True)
    bus.wait_joined()


# --- calls


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_a_command_says_over_the_bus_what_it_says_there(bus: Fleet, guest: Guest, command: tuple[str, ...]) -> None:
    alpha, _, gamma = bus.hosts
    there, afar = bus.sidecarctl(alpha, *command), bus.sidecarctl(gamma, "--host", "alpha", *command)
    assert afar.returncode == there.returncode
    assert VOLATILE.sub("*", afar.stdout) == VOLATILE.sub("*", there.stdout)
    assert afar.stderr == there.stderr
    assert there.stdout or there.stderr


def test_events_are_followed_from_afar(bus: Fleet, guest: Guest, tmp_path: Path) -> None:
    alpha, _, gamma = bus.hosts
    followed = {host.name: tmp_path / host.name for host in (alpha, gamma)}
    processes = []
    for host, place in ((alpha, ()), (gamma, ("--host", "alpha"))):
        with followed[host.name].open("w") as lines:
            argv = [SIDECARCTL, *place, "events", VM, "--after", "none", "--json"]
            processes.append(host.popen(argv, stdout=lines, env={"SIDECAR_BUS": CLIENT_FILE}))
    try:
        wait_for(followed["gamma"].read_text, 10, "an event that was")
        assert bus.sidecarctl(alpha, "send", VM, "guest-get-load").returncode == 1
        wait_for(lambda: '"refusal"' in followed["alpha"].read_text(), 10, "an event that is")
        wait_for(lambda: has_caught_up(followed["gamma"], followed["alpha"]), 10, "gamma to see the same")
    finally:
        for process in processes:
            process.end()


def has_caught_up(one: Path, other: Path) -> bool:
    """Whether the same events stand in both; that some were missed before the first is each follower's own."""
    ids = [[json.loads(line)["id"] for line in path.read_text().splitlines()] for path in (one, other)]
    return bool(ids[0]) and ids[0][-1] == ids[1][-1] and set(ids[0][1:]) == set(ids[1][1:])


def test_the_program_of_the_document_calls_a_host(bus: Fleet, guest: Guest, tmp_path: Path) -> None:
    configuration = tmp_path / "caller.conf"
    configuration.write_text(bus.oslo_configuration(READER))
    text = DOCUMENT.read_text(encoding="utf-8")
    lines = text[text.index("    import oslo_messaging\n") :].split("\n\n(")[0].replace("\n    ", "\n").strip()
    program = lines.replace("\ntransport =", f"\ncfg.CONF(['--config-file', {str(configuration)!r}])\ntransport =", 1)
    done = bus.run_python(f"URL = {bus.broker.url(READER)!r}\n{program.replace('vm1', VM)}")
    assert done.returncode == 0, done.stderr
    assert f"'name': '{VM}'" in done.stdout


@pytest.fixture(scope="module")
def caller(bus: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BusCaller]:
    """A foreign program."""
    caller = bus.start_caller(tmp_path_factory.mktemp("caller"))
    yield caller
    caller.end()


@pytest.mark.parametrize(
    ("topic", "version", "method", "code"),
    [
        ("sidecar", "1.9", "show", "UnsupportedVersion"),
        ("sidecar", "2.0", "show", "UnsupportedVersion"),
        ("sidecar", "1.0", "explode", "NoSuchMethod"),
        ("sidecar", "1.0", "send", "NoSuchMethod"),
        ("sidecar-admin", "1.0", "show", "NoSuchMethod"),
        ("sidecar", "1.0", "show", "domain-not-found"),
        ("sidecar-admin", "1.0", "renegotiate", "domain-not-found"),
    ],
)
def test_a_foreign_program_tells_refusals_apart(
    caller: BusCaller, topic: str, version: str, method: str, code: str
) -> None:
    answer = caller.call_method("alpha", topic, version, method, {"domain": "nobody"})
    assert answer["problem"]["code"] == code


def test_what_changes_something_needs_admin_on_both_ends(bus: Fleet, guest: Guest) -> None:
    alpha, _, gamma = bus.hosts
    done = bus.sidecarctl(gamma, "--host", "alpha", "send", VM, "guest-get-timezone", "--json")
    assert (done.returncode, json.loads(done.stdout)["reply"]["zone"]) == (0, "UTC")
    assert "guest-get-timezone" in alpha.log_text(), "what changes something is a line in the log"
    refused = bus.sidecarctl(gamma, "--host", "beta", "send", VM, "guest-get-timezone")
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "[bus] admin = true" in refused.stderr
    gamma.path(CLIENT_FILE).write_text(
        bus.broker.client_section().replace(bus.broker.url(ADMIN), bus.broker.url(READER))
    )
    try:
        reader = bus.sidecarctl(gamma, "--host", "alpha", "send", VM, "guest-get-timezone")
    finally:
        gamma.path(CLIENT_FILE).write_text(bus.broker.client_section())
    assert (reader.returncode, reader.stdout) == (3, "")
    assert "ACCESS_REFUSED" in reader.stderr
    assert "Traceback" not in reader.stderr


def test_nobody_there(bus: Fleet) -> None:
    done = bus.sidecarctl(bus.hosts[0], "--host", "delta", "list")
    assert (done.returncode, done.stdout) == (3, "")
    assert re.fullmatch(r"sidecarctl: delta [^\n]*nobody of this name[^\n]*\n", done.stderr)


# --- the fleet


def test_every_host_sees_every_host(bus: Fleet, guest: Guest) -> None:
    for host in bus.hosts:
        view = bus.look(host)
        assert view.complete
        rows = {row.hostname: (row.host_uuid, row.guests, row.dialects["ovirt"].maximum) for row in view.hosts}
        maxima, guests = {"beta": 2}, {"alpha": 1}
        assert rows == {
            each.name: (each.host_uuid, guests.get(each.name, 0), maxima.get(each.name, 4)) for each in bus.hosts
        }
        assert (view.caps["ovirt"].lowest, view.caps["ovirt"].held_by) == (2, "beta")
    oldest = bus.find(bus.hosts[1], "alpha")
    assert oldest is not None
    assert (oldest.oldest["ovirt"].version, oldest.oldest["ovirt"].domain) == ("3", VM)


def test_where_its_guests_could_go(bus: Fleet, guest: Guest) -> None:
    for host in bus.hosts:
        done = bus.sidecarctl(host, "fleet", "preflight", "alpha", "--json")
        assert done.returncode == 0, done.stderr
        (forecast,) = json.loads(done.stdout)["guests"]
        assert (forecast["name"], forecast["keeps"]) == (VM, ["gamma"])
        (loss,) = forecast["losing"]
        assert loss["hosts"] == ["beta"]
        lost = {row["name"]: [message["message"] for message in row["lost"]] for row in loss["channels"]}
        assert "lifecycle-event" in lost[OVIRT_PORT]


def test_a_host_that_is_gone_is_told_and_forgotten(bus: Fleet, gamma_away: Host) -> None:
    alpha, beta, gamma = bus.hosts
    silent = bus.sidecarctl(alpha, "fleet", "--timeout", "1")
    assert silent.returncode == 1
    assert silent.stderr == "sidecarctl: not everybody answered within 1 s: gamma\n"
    assert bus.sidecarctl(alpha, "preflight", "x", "--host", "gamma").returncode != 0
    assert bus.sidecarctl(beta, "fleet", "forget", "gamma").returncode == 0
    for host in (alpha, beta):
        bus.wait_forgotten(host, "gamma")
    assert bus.sidecarctl(alpha, "fleet").returncode == 0
    again = bus.sidecarctl(beta, "fleet", "forget", "gamma")
    assert again.returncode != 0
    assert "host-not-found" in again.stderr
    bus.start(gamma)
    bus.wait_joined()


def test_a_daemon_of_an_older_api(bus: Fleet, guest: Guest, gamma_away: Host) -> None:
    alpha, _, gamma = bus.hosts
    bus.start(gamma, patch=OLD)
    wait_for(lambda: (row := bus.find(alpha, "gamma")) is not None and row.bridge == "1.1", 30, "alpha to hear gamma")
    for command in (("list",), ("host",), ("wait", "nobody", "--timeout", "0.1")):
        there, afar = bus.sidecarctl(gamma, *command), bus.sidecarctl(alpha, "--host", "gamma", *command)
        assert (afar.returncode, afar.stdout, afar.stderr) == (there.returncode, there.stdout, there.stderr)
    refused = bus.sidecarctl(alpha, "--host", "gamma", "fleet")
    assert refused.returncode != 0
    assert re.fullmatch(r"sidecarctl: [^\n]*\n", refused.stderr)
    assert "1.3" in refused.stderr
    assert "1.1" in refused.stderr
    shown = bus.sidecarctl(alpha, "fleet")
    assert (shown.returncode, shown.stderr) == (0, ""), "it answers, though not for its guests"
    assert re.search(r"^gamma +yes .* 1\.1 .* - +- +-$", shown.stdout, re.MULTILINE)
    elsewhere = bus.sidecarctl(alpha, "fleet", "preflight", "alpha", "--json")
    assert (elsewhere.returncode, elsewhere.stderr) == (0, "")
    (forecast,) = json.loads(elsewhere.stdout)["guests"]
    assert forecast["keeps"] == ["gamma"]
    there = bus.sidecarctl(alpha, "fleet", "preflight", "gamma")
    assert (there.returncode, there.stdout) == (1, "")
    assert re.fullmatch(r"sidecarctl: host gamma: [^\n]*\(unsupported-version\)\n", there.stderr), there.stderr
    kept = bus.sidecarctl(alpha, "preflight", VM, "--host", "gamma")
    assert (kept.returncode, kept.stderr) == (0, ""), "its offer is all that it takes"
