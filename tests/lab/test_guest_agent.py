"""The project's own agent in a real guest: with our host, with a host played by hand, and with one that misbehaves."""

import json
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest

from contrib.guest_zipapp import NAME, build
from tests.lab.conftest import GuestFactory
from tests.lab.domain_xml import LEGACY_PORT, OVIRT_PORT, GuestSpec, channel_state
from tests.lab.guest import Guest
from tests.lab.guest_files.control import CONTROL_PORT
from tests.lab.host import Host
from tests.lab.own_agent import OWN, OWN_GUEST, read_cost, restart
from tests.lab.raw_channel import Message, RawChannel
from tests.lab.records import wait_for_verdict
from tests.lab.waiting import wait_for

RATES = "[rates]\nheartbeat_seconds = 0.5\nactive_user_seconds = 0.5\nmemory_stats_seconds = 1\n"
MEMORY_LIMIT_KIB = 25 * 1024

# A message's arguments and their types, as oVirt's own checks have them; written out again.
SHAPES: dict[str, dict[str, type]] = {
    "heartbeat": {"free-ram": str, "memory-stat": dict, "apiVersion": int},
    "session-startup": {},
    "session-shutdown": {},
    "active-user": {"name": str},
    "applications": {"applications": list},
    "containers": {"list": list},
    "host-name": {"name": str},
    "os-version": {"version": str},
    "network-interfaces": {"interfaces": list},
    "disks-usage": {"disks": list, "mapping": dict},
    "fqdn": {"fqdn": str},
    "timezone": {"zone": str, "offset": int},
    "os-info": dict.fromkeys(("version", "distribution", "codename", "arch", "type", "kernel"), str),
    "number-of-cpus": {"count": int},
    "memory-stats": {"memory": dict},
    "completion": {"reply_id": str, "done": bool},
    "guest-tools": {
        **dict.fromkeys(("major", "minor", "micro", "build", "updated"), int),
        **dict.fromkeys(("installed", "notUpgradable"), bool),
    },
    "echo": {"any": list},
    "uninstalled": {},
}


@pytest.fixture(scope="module")
def guest(boot_shared_guest: GuestFactory) -> Guest:
    """One with nothing but our agent, on a host without a daemon."""
    return boot_shared_guest(OWN_GUEST)


@pytest.fixture
def host(guest: Guest) -> Iterator[RawChannel]:
    """The channel, as a host has it that a test plays; the agent has just started, and knows of a host."""
    with RawChannel(guest.channel_socket(OVIRT_PORT)) as channel:
        restart(guest, RATES)
        until(channel, "heartbeat")
        yield channel


def until(channel: RawChannel, name: str, timeout_s: float = 10.0) -> Message:
    """The next message of this name; what comes before it is dropped."""
    end = monotonic() + timeout_s
    while monotonic() < end:
        message = channel.receive(timeout_s)
        if message["__name__"] == name:
            return message
    raise TimeoutError(f"no {name} in {timeout_s} s")


def agree(channel: RawChannel, version: int) -> dict[str, Message]:
    """Tell the agent a version; the messages that it sends then, by name."""
    channel.send("refresh", apiVersion=version)
    while not until(channel, "heartbeat")["apiVersion"]:
        pass
    channel.send("api-version", apiVersion=version)
    channel.send("echo", any=["end"])
    heard: dict[str, Message] = {}
    while "echo" not in heard:
        message = channel.receive()
        heard[message["__name__"]] = message
    while "disks-usage" not in heard or "fqdn" not in heard or ("guest-tools" not in heard and version >= 4):
        message = channel.receive()
        heard[message["__name__"]] = message
    return heard


def test_says_everything_that_its_version_has_in_ovirts_shapes(host: RawChannel) -> None:
    heard = agree(host, 4)
    for name in ("memory-stats", "number-of-cpus"):
        heard[name] = until(host, name) if name == "memory-stats" else heard.get(name) or ask_cpus(host)
    host.send("lifecycle-event", type="after_migration", reply_id="one")
    heard["completion"] = until(host, "completion")
    silent = {"session-shutdown", "uninstalled", "heartbeat"}
    assert set(heard) - {"heartbeat"} == set(SHAPES) - silent
    for name, message in heard.items():
        check_shape(name, message)


def ask_cpus(host: RawChannel) -> Message:
    host.send("set-number-of-cpus", count=2)
    return until(host, "number-of-cpus")


def check_shape(name: str, message: dict[str, Any]) -> None:
    arguments = {key: value for key, value in message.items() if key != "__name__"}
    assert set(arguments) == set(SHAPES[name]), name
    for key, value in arguments.items():
        assert type(value) is SHAPES[name][key], (name, key, value)


def test_the_first_heartbeat_says_zero_and_the_next_follows_refresh_within_100_ms(guest: Guest) -> None:
    with RawChannel(guest.channel_socket(OVIRT_PORT)) as host:
        until(host, "heartbeat")
        guest.agent_stop()
        until(host, "session-shutdown")
        host.send("refresh", apiVersion=4)
        guest.agent_start(era=OWN.era)
        assert until(host, "heartbeat")["apiVersion"] == 0
        assert until(host, "heartbeat", 0.2)["apiVersion"] == 4


@pytest.mark.parametrize("value", [-1, "3", 2.5, True, None])
def test_what_is_no_version_is_logged_and_mutes_nothing(guest: Guest, host: RawChannel, value: object) -> None:
    agree(host, 3)
    host.send("api-version", apiVersion=value)
    until(host, "heartbeat")
    assert guest.agent_version() == 3
    assert "bad-version" in guest.agent_log()


def test_refresh_without_a_version_is_a_fall_to_zero(guest: Guest, host: RawChannel) -> None:
    agree(host, 3)
    host.send("refresh")
    until(host, "fqdn")
    assert guest.agent_version() == 0


def test_a_lifecycle_events_hooks_run_beside_everything_else(guest: Guest, host: RawChannel) -> None:
    guest.put(
        "/run/hooks/before_migration/10-tell", b'#!/bin/sh\necho "$SIDECAR_EVENT $SIDECAR_FAILURE" >/run/told\n', 0o755
    )
    guest.put("/run/hooks/before_migration/20-hang", b"#!/bin/sh\nsleep 100\n", 0o755)
    guest.put("/run/hooks/before_migration/30-late", b"#!/bin/sh\necho late >/run/late\n", 0o755)
    guest.put("/run/hooks/before_migration/40-not-executable", b"#!/bin/sh\necho no >/run/late\n")
    restart(guest, RATES + '[hooks]\ndirectory = "/run/hooks"\ntimeout_seconds = 2\n')
    agree(host, 3)
    host.send("lifecycle-event", type="before_migration", reply_id="slow")
    host.send("lifecycle-event", type="after_hibernation", failure=True, reply_id="nothing to run")
    beats = 0
    while (message := host.receive())["__name__"] != "completion":
        beats += message["__name__"] == "heartbeat"
    assert (message["reply_id"], message["done"]) == ("slow", True)
    assert beats >= 2
    assert until(host, "completion")["reply_id"] == "nothing to run"
    assert guest.shell("cat /run/told; ls /run/late 2>&1; true").splitlines()[0] == "before_migration false"
    assert "late" not in guest.shell("ls /run")
    assert "killed" in guest.agent_log()
    assert guest.shell_status("pidof sleep")[0] != 0


@pytest.mark.parametrize("kind", ["../../bin", "", "no_such_type", 17, None])
def test_a_completion_comes_whatever_the_type(host: RawChannel, kind: object) -> None:
    agree(host, 3)
    host.send("lifecycle-event", type=kind, reply_id="always")
    assert until(host, "completion")["reply_id"] == "always"


def test_commands_run_what_is_configured_and_nothing_else(guest: Guest, host: RawChannel) -> None:
    guest.put("/run/act", b'#!/bin/sh\necho "$@" >/run/act.arguments\ncat >/run/act.input\n', 0o755)
    commands = 'shutdown = ["/run/act", "{action}", "{when}", "{message}"]\nlogin = ["/run/act", "login"]\n'
    restart(guest, f"{RATES}[commands]\n{commands}")
    agree(host, 1)
    host.send("shutdown", timeout=61, message="Wartung; $(reboot)", reboot="True")
    wait_for(lambda: guest.shell_status("grep -q Wartung /run/act.input")[0] == 0, 10, "the shutdown's program")
    assert guest.shell("cat /run/act.arguments") == "-r +2 Wartung; $(reboot)\n"
    host.send("login", username="user@domain", password="geheim")
    wait_for(lambda: guest.shell_status("grep -q geheim /run/act.input")[0] == 0, 10, "the login's program")
    assert json.loads(guest.shell("cat /run/act.input")) == {"username": "user@domain", "password": "geheim"}
    assert guest.shell("cat /run/act.arguments") == "login\n"
    for name in ("hibernate", "log-off"):
        host.send(name)
    ask_cpus(host)
    log = guest.agent_log()
    assert all(f"{name}: refused" in log for name in ("hibernate", "log-off", "set-number-of-cpus"))
    assert "geheim" not in log


def test_a_host_that_never_reads_neither_hangs_nor_swells_it(guest: Guest, host: RawChannel) -> None:
    pid = restart(guest, "[rates]\nheartbeat_seconds = 0.01\n")
    agree(host, 4)
    before = read_cost(guest, pid)
    for number in range(300):
        host.send("echo", any=["x" * 20_000, number])
        host.send("refresh", apiVersion=4)
    wait_for(lambda: guest.shell_status("true")[0] == 0, 10, "the guest to go on")
    # What QEMU took before it stopped reading is bounded, and so is what the driver holds.
    assert read_cost(guest, pid).rss_kib < before.rss_kib + 2048
    assert read_cost(guest, pid).descriptors == before.descriptors
    host.send("lifecycle-event", type="after_migration", reply_id="the end")
    assert until(host, "completion", 30)["reply_id"] == "the end"
    assert until(host, "heartbeat")["apiVersion"] == 4


def test_an_endless_line_and_garbage_cost_it_a_line_in_its_log(guest: Guest, host: RawChannel) -> None:
    pid = restart(guest, RATES)
    agree(host, 2)
    before = read_cost(guest, pid)
    for _ in range(64):
        host.send_bytes(b"x" * 65536)
    host.send_bytes(b"\n\xff\xfe\n[1, 2]\n{}\n" + b"[" * 30_000 + b"\n" + b'{"__name__": "nothing"}\n')
    host.send("echo", any=["alive"])
    assert until(host, "echo", 30)["any"] == ["alive"]
    assert read_cost(guest, pid).rss_kib < before.rss_kib + 1024
    log = guest.agent_log()
    assert [log.count(code) for code in ("line-too-long", "bad-message", "unknown-message")] == [1, 1, 1]
    assert guest.agent_version() == 2


def test_hosts_that_vanish_in_the_middle_of_a_line_are_followed_by_others(guest: Guest, host: RawChannel) -> None:
    agree(host, 3)
    host.send_bytes(b'{"__name__": "api-vers')
    host.close()
    for _ in range(3):
        with RawChannel(guest.channel_socket(OVIRT_PORT)) as other:
            other.send("refresh", apiVersion=3)
            assert until(other, "heartbeat")["apiVersion"] == 4
            other.send_bytes(b'{"__name__": ')
    assert guest.agent_version() == 3
    assert "bad input" not in guest.agent_log()


def test_it_says_goodbye_and_that_it_is_removed(guest: Guest, host: RawChannel) -> None:
    agree(host, 1)
    guest.agent_stop()
    check_shape("session-shutdown", until(host, "session-shutdown"))
    guest.shell("PYTHONPATH=/lab python3 -m sidecar.guest --uninstalled")
    check_shape("uninstalled", until(host, "uninstalled"))
    guest.agent_start(era=OWN.era)


@pytest.mark.long
def test_cost_idle_with_a_host_and_without(guest: Guest, host: RawChannel) -> None:
    pid = restart(guest, "[rates]\nheartbeat_seconds = 2\nactive_user_seconds = 4\n")
    agree(host, 4)
    for _ in range(3):  # what a start brings is over
        until(host, "heartbeat")
    begin = read_cost(guest, pid)
    for _ in range(4):
        until(host, "heartbeat")
    end = read_cost(guest, pid)
    # A heartbeat wakes it, and the host's taking it; a look at the users wakes the other thread, and its end this one.
    # In between each may wait for the interpreter's lock.
    assert end.wakeups - begin.wakeups <= 4 * 2 + 2 * 6 + 2
    assert end.rss_kib < MEMORY_LIMIT_KIB
    host.close()
    wait_for(lambda: "no host is there" in guest.agent_log(), 10, "the agent to be alone")
    alone = read_cost(guest, pid)
    guest.shell("sleep 10")  # by the guest's own clock; nothing but time can show that nothing happens
    assert read_cost(guest, pid).wakeups == alone.wakeups


def start_unattended(guest: Guest) -> None:
    """Beside what the guest's control knows: its ports may go, and itself with them."""
    guest.shell(f"PYTHONPATH=/lab python3 -m sidecar.guest >/run/ovirt-agent-{OVIRT_PORT}.log 2>&1 &")


def test_a_port_that_comes_late_and_goes_and_comes_again(alpha: Host, boot_guest: GuestFactory) -> None:
    guest = boot_guest(GuestSpec(channels=(), agent=None))
    start_unattended(guest)
    wait_for(lambda: "no port yet" in guest.agent_log(OVIRT_PORT), 20, "the agent to look for a port")
    for _ in range(2):
        guest.plug(OVIRT_PORT)
        with RawChannel(guest.channel_socket(OVIRT_PORT)) as host:
            host.send("refresh", apiVersion=4)
            assert until(host, "heartbeat", 30)
        guest.unplug(OVIRT_PORT)
        wait_for(lambda: OVIRT_PORT not in guest.dumpxml(), 20, "the port to be gone")
    assert guest.agent_log(OVIRT_PORT).count("opened") == 2


@pytest.mark.long
def test_a_driver_that_is_unbound_and_bound_again(alpha: Host, clean_hosts: None, boot_guest: GuestFactory) -> None:
    alpha.start_sidecard()
    guest = boot_guest(GuestSpec(channels=(OVIRT_PORT,), agent=None))
    start_unattended(guest)
    wait_for_verdict(guest, "agreed", 4)
    driver = "/sys/bus/virtio/drivers/virtio_console"
    device = guest.shell(f"basename {driver}/virtio*").strip()
    # The guest's control speaks over the same device, and is started anew by init when that is back.
    guest.shell_no_answer(f"(sleep 0.2; echo {device} >{driver}/unbind; sleep 2; echo {device} >{driver}/bind) &")
    wait_for(lambda: channel_state(guest.dumpxml(), CONTROL_PORT) != "connected", 20, "the ports to go")
    wait_for(lambda: channel_state(guest.dumpxml(), CONTROL_PORT) == "connected", 20, "the ports to come again")
    wait_for(lambda: guest.agent_log(OVIRT_PORT).count("a host is there") == 2, 20, "the agent to be back")
    assert guest.agent_log(OVIRT_PORT).count("opened") == 2
    alpha.stop_sidecard()
    alpha.start_sidecard("[upgrade_levels]\novirt = 3\n")
    assert wait_for_verdict(guest, "agreed", 3).arrivals == 1
    wait_for(lambda: "API version 3 in force" in guest.agent_log(OVIRT_PORT), 20, "the agent to be told")


@pytest.mark.parametrize("channels", [pytest.param((LEGACY_PORT,), marks=pytest.mark.long), (LEGACY_PORT, OVIRT_PORT)])
def test_both_names_of_the_port(
    alpha: Host, clean_hosts: None, boot_guest: GuestFactory, channels: tuple[str, ...]
) -> None:
    alpha.start_sidecard()
    guest = boot_guest(GuestSpec(channels=channels, agent=None))
    guest.shell("PYTHONPATH=/lab python3 -m sidecar.guest >/run/own.log 2>&1 &")
    port = channels[-1]
    wait_for(lambda: f'"{port}" dialect="ovirt" state="agreed" version="4"' in (guest.record() or ""), 30, port)
    assert f"opened /dev/virtio-ports/{port}" in guest.shell("cat /run/own.log")


def test_the_one_file_runs_in_the_guest(
    alpha: Host, clean_hosts: None, boot_guest: GuestFactory, tmp_path: Any
) -> None:
    alpha.start_sidecard()
    guest = boot_guest(GuestSpec(channels=(OVIRT_PORT,), agent=None))
    build(tmp_path / NAME)
    guest.put(f"/usr/bin/{NAME}", (tmp_path / NAME).read_bytes(), 0o755)
    assert guest.shell(f"{NAME} --version").startswith("sidecar-guest-agent ")
    guest.shell(f"{NAME} >/run/ovirt-agent-{OVIRT_PORT}.log 2>&1 &")
    wait_for(lambda: 'state="agreed" version="4"' in (guest.record() or ""), 30, "the agreement")
