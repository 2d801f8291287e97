"""The lab proves itself: what the other lab tests build on does work here."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.lab.conftest import GuestFactory
from tests.lab.domain_xml import LEGACY_PORT, OVIRT_PORT, QGA_PORT, AgentSpec, GuestSpec, channel_state
from tests.lab.guest import Guest
from tests.lab.guest_qga import make_freezable, start_qga, stop_qga
from tests.lab.host import Host
from tests.lab.hostile_qga import (
    Script,
    commands_received,
    silence_qga,
    start_scripted_qga,
    stop_scripted_qga,
    wait_port,
)
from tests.lab.namespaces import processes_in
from tests.lab.raw_channel import RawChannel
from tests.lab.waiting import wait_for

Step = Callable[[str], AbstractContextManager[None]]


@pytest.fixture
def step(time_step: Callable[[str, float], None]) -> Step:
    @contextmanager
    def timed(what: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        time_step(what, time.monotonic() - begin)

    return timed


def agree(guest: Guest, version: int) -> None:
    """Plays the host until the agent has taken over the version."""
    with RawChannel(guest.channel_socket(OVIRT_PORT)) as channel:
        channel.receive_until("heartbeat", apiVersion=3)
        channel.send("api-version", apiVersion=version)
        channel.receive_until("session-startup")
    assert guest.agent_version() == version


# --- hosts


def test_hosts_are_machines_of_their_own(alpha: Host, beta: Host) -> None:
    assert alpha.run(["hostname"]).stdout.strip() == "alpha"
    assert alpha.virsh("hostname").strip() == "alpha"
    assert f"<uuid>{alpha.host_uuid}</uuid>" in alpha.virsh("capabilities")
    assert alpha.host_uuid != beta.host_uuid
    assert os.uname().nodename not in ("alpha", "beta")
    assert beta.run(["virsh", "-c", alpha.migration_uri, "hostname"]).stdout.strip() == "alpha"
    for directory in ("/run", "/etc/libvirt", "/etc/sidecar", "/var/lib/libvirt", "/var/log/libvirt"):
        alpha.path(f"{directory}/mark-of-alpha").touch()
        assert not beta.path(f"{directory}/mark-of-alpha").exists()
        assert not Path(f"{directory}/mark-of-alpha").exists()
        alpha.path(f"{directory}/mark-of-alpha").unlink()


def test_three_hosts_reach_each_other(alpha: Host, beta: Host, gamma: Host) -> None:
    hosts = [alpha, beta, gamma]
    for one in hosts:
        for other in hosts:
            answer = one.run(["virsh", "--quiet", "-c", other.migration_uri, "hostname"]).stdout
            assert answer.strip() == other.name


def test_run_reports_failure_and_timeout(alpha: Host) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)status 3 .*oh no"):
        alpha.run(["sh", "-c", "echo oh no >&2; exit 3"])
    assert alpha.run(["sh", "-c", "cat; exit 3"], check=False, stdin_text="x").stdout == "x"
    with pytest.raises(subprocess.TimeoutExpired):
        alpha.run(["sleep", "1000"], timeout_s=0.2)
    assert "sleep 1000" not in "".join(processes_in(alpha.inside.ids))


def test_libvirtd_restarts_and_reloads(alpha: Host, step: Step) -> None:
    with step("libvirtd restart"):
        alpha.restart_libvirtd()
    alpha.restart_libvirtd(kill=True)
    alpha.reload_libvirtd()
    assert alpha.virsh("hostname").strip() == "alpha"


def test_first_process_reaps_orphans(alpha: Host) -> None:
    orphan = alpha.run(["sh", "-c", "sleep 0.2 >/dev/null 2>&1 & echo $!"]).stdout.strip()
    wait_for(lambda: not alpha.path(f"/proc/{orphan}").exists(), 5, "the orphan to be gone, not a zombie")


STAND_IN = """
import os, signal, socket, sys
assert sys.argv[1:] == ["--config", "/etc/sidecar/sidecar.toml"]
text = open(sys.argv[2]).read()
print("stand-in:", text, file=sys.stderr)
if "bad" in text:
    sys.exit(2)
told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
told.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
while True:
    signal.pause()
"""


@pytest.mark.usefixtures("clean_hosts")
def test_sidecard_is_started_and_stopped_like_by_systemd(alpha: Host) -> None:
    program = ["/usr/bin/python3", "-c", STAND_IN]
    process = alpha.start_sidecard("good = 1", program)
    assert process.poll() is None
    assert "stand-in: good = 1" in alpha.sidecard.log.read_text()
    assert alpha.stop_sidecard() == 0
    with pytest.raises(RuntimeError, match=r"(?s)ended with 2.*bad = 1"):
        alpha.start_sidecard("bad = 1", program)
    alpha.start_sidecard("good = 2", program)
    assert alpha.stop_sidecard(signal.SIGKILL) == -signal.SIGKILL


def test_nothing_outlives_a_killed_runner() -> None:
    program = (
        "import sys, time\n"
        "from tests.lab.laboratory import Laboratory\n"
        "host = Laboratory().host('alpha')\n"
        "print(' '.join(host.inside.ids), flush=True)\n"
        "time.sleep(1000)\n"
    )
    root = Path(__file__).parents[2]
    runner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=root)
    assert runner.stdout is not None
    with runner.stdout:
        ids = set(runner.stdout.readline().split())
    assert any("libvirtd" in process for process in processes_in(ids))
    runner.kill()
    runner.wait()
    wait_for(lambda: not processes_in(ids), 10, "everything of the killed runner to be gone")


# --- guests


def test_guest_boots_and_its_agent_speaks(define_guest: GuestFactory, step: Step) -> None:
    guest = define_guest()
    with step("start to first words of the agent"):
        guest.start()
        channel = RawChannel(guest.channel_socket(OVIRT_PORT))
        assert channel.receive(60) == {"__name__": "session-startup"}
    with channel:
        assert [channel.receive_until("heartbeat")["apiVersion"] for _ in range(3)] == [0, 3, 3]
        channel.send("api-version", apiVersion=3)
        channel.receive_until("containers")
    with step("control request"):
        assert guest.agent_version() == 3
    assert guest.agent_received() == [("api-version", {"apiVersion": 3})]
    assert channel_state(guest.dumpxml(), OVIRT_PORT) == "connected"
    answer = wait_for(lambda: _guest_info(guest), 10, "qemu-ga to answer")
    assert '"version":"7.' in answer
    assert guest.record() is None


def _guest_info(guest: Guest) -> str:
    return guest.here.virsh("qemu-agent-command", guest.name, '{"execute":"guest-info"}', check=False)


def test_control_shell(shared_guest: Guest, step: Step) -> None:
    assert shared_guest.shell_status("echo out; echo err >&2; exit 7") == (7, "out\nerr\n")
    with pytest.raises(RuntimeError, match="status 1"):
        shared_guest.shell("false")
    with step("shell in the guest"):
        shared_guest.shell("true")
    assert len(shared_guest.shell("head -c 300000 /dev/zero | tr '\\0' x")) == 300000
    shared_guest.shell("sleep 1000 & true")
    assert "TimeoutExpired" in shared_guest.shell_status("sleep 1000", timeout_s=0.5)[1]
    shared_guest.put("/tmp/some/where", b"\x00\xff", 0o700)
    assert shared_guest.shell("stat -c %a:%s /tmp/some/where") == "700:2\n"


def test_agent_is_replaced_by_one_of_another_era(shared_guest: Guest, step: Step) -> None:
    with RawChannel(shared_guest.channel_socket(OVIRT_PORT)) as channel:
        channel.receive_until("heartbeat", apiVersion=3)
        with step("agent restart"):
            shared_guest.agent_restart(AgentSpec(era="1.0.8", heartbeat_s=0.2))
        channel.receive_until("session-shutdown")
        channel.receive_until("session-startup")
        assert "apiVersion" not in channel.receive_until("heartbeat")
        shared_guest.agent_restart(AgentSpec(maximum=4, prompt=True, heartbeat_s=30), number=signal.SIGKILL)
        channel.receive_until("session-startup")
        channel.send("refresh", apiVersion=4)
        channel.receive_until("heartbeat", apiVersion=0)
        begin = time.monotonic()
        channel.receive_until("heartbeat", apiVersion=4)
        assert time.monotonic() - begin < 0.5
        shared_guest.agent_restart()


def test_agent_survives_without_a_host(shared_guest: Guest) -> None:
    agree(shared_guest, 3)
    with RawChannel(shared_guest.channel_socket(OVIRT_PORT)) as channel:
        channel.send("refresh", apiVersion=3)
        channel.receive_until("containers")
    assert shared_guest.agent_version() == 3


@pytest.mark.long
def test_legacy_port_is_preferred(boot_guest: GuestFactory) -> None:
    guest = boot_guest(GuestSpec(channels=(OVIRT_PORT, LEGACY_PORT), agent=AgentSpec(era="1.0.11")))
    with RawChannel(guest.channel_socket(LEGACY_PORT)) as channel:
        assert channel.receive_until("heartbeat")["apiVersion"] == 2
    assert channel_state(guest.dumpxml(), OVIRT_PORT) == "disconnected"


def test_qga_of_another_release(shared_guest: Guest, newer_qga: Path, step: Step) -> None:
    stop_qga(shared_guest)
    with step("qemu-ga 10.0 put into the guest and started"):
        start_qga(shared_guest, newer_qga)
    answer = wait_for(lambda: _guest_info(shared_guest), 10, "qemu-ga to answer")
    assert '"version":"10.0' in answer
    assert "guest-get-load" in answer
    stop_qga(shared_guest)
    start_qga(shared_guest, block=["guest-file-open"])
    answer = wait_for(lambda: _guest_info(shared_guest), 10, "qemu-ga to answer")
    assert '"version":"7.2' in answer
    assert '{"enabled":false,"name":"guest-file-open"' in answer


def test_freeze_is_real(boot_guest: GuestFactory, alpha: Host) -> None:
    guest = boot_guest(GuestSpec(channels=(QGA_PORT,), agent=None))
    make_freezable(guest)
    wait_for(lambda: '"enabled":true' in _guest_info(guest), 10, "qemu-ga to answer")
    alpha.virsh("domfsfreeze", guest.name)
    assert _guest_info(guest).count('"enabled":true') == 6
    guest.shell("touch /mnt/real/x & usleep 300000; test ! -e /mnt/real/x")
    alpha.virsh("domfsthaw", guest.name)
    guest.shell("while ! test -e /mnt/real/x; do usleep 10000; done", timeout_s=5)
    assert _guest_info(guest).count('"enabled":true') > 30


def test_scripted_qga_is_asked_and_answers(shared_guest: Guest, step: Step) -> None:
    silence_qga(shared_guest)
    with step("scripted agent put into the guest and started"):
        start_scripted_qga(shared_guest, Script(version="1.2.3"))
    wait_port(shared_guest, "connected")
    assert '"version":"1.2.3"' in _guest_info(shared_guest)
    assert commands_received(shared_guest) == ["guest-sync", "guest-info"]
    stop_scripted_qga(shared_guest)


@pytest.mark.long  # facts about libvirt, which test_qga_hostile stands on
@pytest.mark.parametrize(
    ("script", "first", "then"),
    [
        (Script("garbage-on-open"), "not available due to an error", "not available due to an error"),
        (Script("garbage"), "cannot parse json login", "not available due to an error"),
        (Script("endless"), "No complete agent response", "not available due to an error"),
        (Script("nul"), "not available for now", "not available for now"),
        (Script("nul-escape", version="x"), '"version":"7.2"', '"version":"7.2"'),
        (Script("smuggle"), '"version":"6.6.6"', '"return"'),
        (Script(invented=100_000), "Unable to encode message payload", "Unable to encode message payload"),
        (Script(delays_s=[3]), "not available for now", '"id":2}'),
        (Script(dies_at_info=1), "disappeared while executing", "not connected"),
    ],
    ids=["garbage-on-open", "garbage", "endless", "nul", "nul-escape", "smuggle", "huge", "late", "dies"],
)
def test_scripted_qga_does_to_libvirt_what_is_known(shared_guest: Guest, script: Script, first: str, then: str) -> None:
    silence_qga(shared_guest)
    start_scripted_qga(shared_guest, script)
    wait_port(shared_guest, "connected")
    for number, expected in enumerate((first, then), 1):
        request = f'{{"execute":"guest-info","id":{number}}}'
        command = ["virsh", "-q", "qemu-agent-command", "--timeout", "2", shared_guest.name, request]
        done = shared_guest.here.run(command, check=False)
        assert expected in done.stdout + done.stderr
    silence_qga(shared_guest)


def test_channel_is_plugged_in_and_out(boot_guest: GuestFactory) -> None:
    guest = boot_guest(GuestSpec(channels=(), agent=None))
    guest.plug(QGA_PORT)
    wait_for(lambda: guest.shell_status(f"test -e /dev/virtio-ports/{QGA_PORT}")[0] == 0, 5, "the port in the guest")
    start_qga(guest)
    assert '"version":"7.' in wait_for(lambda: _guest_info(guest), 10, "qemu-ga to answer")
    stop_qga(guest)
    guest.unplug(QGA_PORT)
    wait_for(lambda: QGA_PORT not in guest.dumpxml(), 5, "the channel to be gone")


def test_live_migration_there_and_back(shared_guest: Guest, alpha: Host, beta: Host, step: Step) -> None:
    silence_qga(shared_guest)
    start_qga(shared_guest)
    agree(shared_guest, 2)
    with step("live migration alpha to beta"):
        shared_guest.migrate(beta)
    assert shared_guest.agent_version() == 2
    agree(shared_guest, 3)
    with step("live migration beta to alpha"):
        shared_guest.migrate(alpha)
    assert shared_guest.agent_version() == 3
    assert shared_guest.name not in beta.virsh("list", "--all", "--name").split()
    assert wait_for(lambda: _guest_info(shared_guest), 10, "qemu-ga to answer")


def test_postcopy_migration(shared_guest: Guest, alpha: Host, beta: Host, step: Step) -> None:
    with step("post-copy migration"):
        shared_guest.migrate(beta, postcopy=True)
    agree(shared_guest, 1)
    shared_guest.migrate(alpha)


def test_cancelled_migration(shared_guest: Guest, alpha: Host, beta: Host, step: Step) -> None:
    command = shared_guest.migrate_command(beta, "--bandwidth", "1")
    process = alpha.popen(["virsh", *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.entered.stderr is not None
    wait_for(lambda: "Time elapsed" in alpha.virsh("domjobinfo", shared_guest.name), 20, "the migration to run")
    with step("cancel a migration"):
        alpha.virsh("domjobabort", shared_guest.name)
        errors = process.entered.communicate(timeout=30)[1]
    assert "canceled" in errors
    assert shared_guest.is_running()
    wait_for(lambda: not beta.virsh("list", "--all", "--name").strip(), 10, "beta to forget the guest")
    agree(shared_guest, 2)


@pytest.mark.long
def test_reset(shared_guest: Guest, step: Step) -> None:
    agree(shared_guest, 3)
    with step("reset to answer"):
        shared_guest.reset()
        shared_guest.wait_booted()
    assert shared_guest.agent_version() == 0
    agree(shared_guest, 3)


@pytest.mark.long
def test_reboot_from_inside(shared_guest: Guest) -> None:
    shared_guest.shell("touch /run/before")
    shared_guest.shell_no_answer("reboot -f")
    assert shared_guest.shell_status("test -e /run/before", 30)[0] == 1


@pytest.mark.long
def test_managed_save_and_restore(shared_guest: Guest, step: Step) -> None:
    agree(shared_guest, 3)
    with step("managed save"):
        shared_guest.here.virsh("managedsave", shared_guest.name)
    with step("restore"):
        shared_guest.start()
    assert shared_guest.agent_version() == 3
    agree(shared_guest, 2)


def test_offline_migration(defined_guest: Guest, beta: Host, step: Step) -> None:
    with step("offline migration"):
        defined_guest.migrate(beta, offline=True)
    assert defined_guest.name in beta.virsh("list", "--all", "--name").split()
    defined_guest.start(paused=True)
    assert defined_guest.here.virsh("domstate", defined_guest.name).strip() == "paused"


@pytest.mark.long
def test_snapshot_revert(boot_guest: GuestFactory, step: Step) -> None:
    guest = boot_guest(GuestSpec(disk=True, channels=(OVIRT_PORT,)))
    agree(guest, 2)
    with step("snapshot"):
        guest.here.virsh("snapshot-create-as", guest.name, "s1")
    agree(guest, 3)
    with step("snapshot revert"):
        guest.revert("s1")
    assert guest.agent_version() == 2
    agree(guest, 3)


@pytest.mark.long
def test_transient_guest(boot_guest: GuestFactory, beta: Host) -> None:
    guest = boot_guest(GuestSpec(persistent=False, channels=(QGA_PORT,), agent=None))
    guest.migrate(beta)
    assert guest.shell("echo here") == "here\n"
    assert guest.record() is None
