"""The agent's process with a host that is played by hand: what it says when, and what it does."""

import json
import os
import time
from pathlib import Path

import pytest

from sidecar.guest.hooks import WAITING_LIMIT
from sidecar.protocol.ovirt_agent import QUEUE_LIMIT
from tests.guest.conftest import StartAgent
from tests.guest.reports.guest_tree import plant_program
from tests.guest.scripted_host import PATIENCE_S, QUICK, STILL, AgentProcess, HostEnd, ScriptedHost
from tests.lab.waiting import wait_for

pytestmark = pytest.mark.thorough

# A heart that does not beat by itself while a test runs.
SLOW = "[rates]\nheartbeat_seconds = 60\n"

SINCE = {"number-of-cpus": 1, "timezone": 2, "os-info": 2, "containers": 3, "completion": 3, "guest-tools": 4}
ALWAYS = {"applications", "host-name", "os-version", "network-interfaces", "disks-usage", "fqdn", "session-startup"}


def contents(path: Path) -> str:
    """What a program wrote, once it did."""
    return wait_for(lambda: path.read_text() if path.exists() else "", PATIENCE_S, path.name)


# What it says.


def test_zero_first_then_its_maximum_at_once(listener: ScriptedHost, start_agent: StartAgent) -> None:
    start_agent(SLOW)
    host = listener.accept()
    assert host.receive()["apiVersion"] == 0
    before = time.monotonic()
    heartbeat = host.until("heartbeat")
    assert heartbeat["apiVersion"] == 4
    assert time.monotonic() - before < 1
    assert int(heartbeat["free-ram"]) * 1024 <= heartbeat["memory-stat"]["mem_total"]


def test_a_refresh_that_carries_a_version_is_answered_at_once(listener: ScriptedHost, start_agent: StartAgent) -> None:
    start_agent(SLOW)
    host = listener.accept()
    host.until("heartbeat", apiVersion=4)
    for _ in range(3):
        host.send("refresh", apiVersion=3)
        host.until("heartbeat", apiVersion=4)


def test_each_version_has_its_messages(listener: ScriptedHost, start_agent: StartAgent) -> None:
    agent = start_agent(STILL)
    host = listener.accept()
    host.hear_all()
    for version in (3, 1, 0, 2, 4):
        host.send("api-version", apiVersion=version)
        host.send("lifecycle-event", type="nothing_to_run", reply_id=str(version))
        at_first, then = host.ask(), {message["__name__"] for message in host.ask()}
        heard = {message["__name__"] for message in at_first} | then
        assert heard >= ALWAYS
        told = {name for name in SINCE if name != "number-of-cpus" and SINCE[name] <= version}
        assert heard & (SINCE.keys() - {"number-of-cpus"}) == told
        # What was looked up at another version may have been on its way.
        assert "number-of-cpus" not in then or version > 0
    assert "no completion is sent: API version 2 in force" in agent.log()


# What it does.


def test_commands_run_what_is_configured_and_nothing_else(
    listener: ScriptedHost, start_agent: StartAgent, tmp_path: Path
) -> None:
    plant_program(
        tmp_path, "act", f'echo "$@" >{tmp_path}/arguments; cat >{tmp_path}/part; cd {tmp_path}; mv part input'
    )
    agent = start_agent(f'{QUICK}[commands]\nlogin = ["{tmp_path}/act", "{{password}}"]\n')
    host = listener.accept()
    host.say_version(1)
    arguments = {"username": "user@domain", "password": "geheim"}
    host.send("login", **arguments)
    assert json.loads(contents(tmp_path / "input")) == arguments
    assert (tmp_path / "arguments").read_text() == "{password}\n"
    for name in ("hibernate", "log-off", "set-number-of-cpus"):
        host.send(name, password="geheim", count=2)
    host.ask()
    for name in ("hibernate", "log-off", "set-number-of-cpus"):
        agent.wait_log(f"{name}: refused")
    assert "geheim" not in agent.log()


def test_how_many_cpus_there_are_is_told_once_their_program_is_through(
    listener: ScriptedHost, start_agent: StartAgent, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "go")
    plant_program(tmp_path, "cpus", f"read go <{tmp_path}/go")
    start_agent(
        f'{QUICK}number_of_cpus_seconds = 0\n[commands]\nset-number-of-cpus = ["{tmp_path}/cpus", "{{count}}"]\n'
    )
    host = listener.accept()
    host.until("heartbeat", apiVersion=4)
    host.send("api-version", apiVersion=1)
    host.until("number-of-cpus")  # a version that has it came
    host.send("set-number-of-cpus", count=1)
    for _ in range(2):
        host.until("heartbeat")
    (tmp_path / "go").write_text("go\n")
    assert host.until("number-of-cpus")["count"] == os.cpu_count()


@pytest.fixture
def hooks(tmp_path: Path) -> Path:
    (tmp_path / "hooks.d").mkdir()
    return tmp_path / "hooks.d"


def with_hooks(folder: Path, limit_s: float = 60) -> str:
    return f'{QUICK}[hooks]\ndirectory = "{folder}"\ntimeout_seconds = {limit_s}\n'


def agreed(listener: ScriptedHost, version: int = 3) -> HostEnd:
    host = listener.accept()
    host.say_version(version)
    return host


def test_hooks_run_beside_its_heart(listener: ScriptedHost, start_agent: StartAgent, hooks: Path) -> None:
    os.mkfifo(hooks / "go")
    plant_program(hooks / "before_migration", "slow", f"read go <{hooks}/go; echo $SIDECAR_FAILURE >{hooks}/ran")
    start_agent(with_hooks(hooks))
    host = agreed(listener)
    host.send("lifecycle-event", type="before_migration", failure=True, reply_id="slow")
    host.send("lifecycle-event", type="after_migration", reply_id="nothing to run")
    for _ in range(3):
        assert host.until("heartbeat")["apiVersion"] == 4
    assert "completion" not in {message["__name__"] for message in host.ask()}
    (hooks / "go").write_text("go\n")
    assert host.until("completion") == {"__name__": "completion", "reply_id": "slow", "done": True}
    assert (hooks / "ran").read_text() == "true\n"
    assert host.until("completion")["reply_id"] == "nothing to run"


def test_hooks_that_hang_are_killed_and_the_answer_comes(
    listener: ScriptedHost, start_agent: StartAgent, hooks: Path
) -> None:
    plant_program(hooks / "before_migration", "hang", "trap '' TERM; sleep 600")
    agent = start_agent(with_hooks(hooks, 0.2))
    host = agreed(listener)
    host.send("lifecycle-event", type="before_migration", reply_id="late")
    assert host.until("completion")["reply_id"] == "late"
    assert "hang: killed" in agent.log()


def test_the_answer_always_comes(listener: ScriptedHost, start_agent: StartAgent, hooks: Path) -> None:
    start_agent(with_hooks(hooks))
    host = agreed(listener)
    for kind in ("../../bin", "", "no_such_type", 17, None, ["a"], {"a": 1}, "x" * 20_000):
        host.send("lifecycle-event", type=kind, reply_id=str(kind))
        assert host.until("completion")["reply_id"] == str(kind)
    for reply_id in (17, ["a", 1], "ü\ud800", False, ""):
        host.send("lifecycle-event", type="before_migration", reply_id=reply_id)
        assert host.until("completion")["reply_id"] == reply_id
    host.send("lifecycle-event", type="before_migration")
    assert "completion" not in {message["__name__"] for message in host.ask() + host.ask()}


def test_more_events_than_may_be_pending_are_all_answered(listener: ScriptedHost, start_agent: StartAgent) -> None:
    start_agent(SLOW)
    host = agreed(listener)
    events = [
        {"__name__": "lifecycle-event", "type": "none", "reply_id": number} for number in range(3 * QUEUE_LIMIT // 2)
    ]
    host.send_bytes(b"".join(json.dumps(event).encode() + b"\n" for event in events))
    assert [host.until("completion")["reply_id"] for _ in events] == [event["reply_id"] for event in events]


def test_a_host_that_waits_for_hooks_is_answered_when_the_agent_ends(
    listener: ScriptedHost, start_agent: StartAgent, hooks: Path
) -> None:
    plant_program(hooks / "before_migration", "hang", "exec sleep 600")
    agent = start_agent(with_hooks(hooks))
    host = agreed(listener)
    host.send("lifecycle-event", type="before_migration", reply_id="waits")
    host.ask()
    assert agent.stop() == 0
    assert host.until("completion")["reply_id"] == "waits"


def test_the_answer_comes_also_when_there_are_too_many(
    listener: ScriptedHost, start_agent: StartAgent, hooks: Path
) -> None:
    os.mkfifo(hooks / "go")
    plant_program(hooks / "before_migration", "slow", f"read go <{hooks}/go")
    start_agent(with_hooks(hooks))
    host = agreed(listener)
    for number in range(WAITING_LIMIT + 2):
        host.send("lifecycle-event", type="nothing_to_run" if number else "before_migration", reply_id=number)
    assert host.until("completion")["reply_id"] == WAITING_LIMIT + 1
    (hooks / "go").write_text("go\n")
    assert [host.until("completion")["reply_id"] for _ in range(WAITING_LIMIT + 1)] == list(range(WAITING_LIMIT + 1))


# Hosts that come and go.


def test_it_is_there_when_a_host_returns(listener: ScriptedHost, start_agent: StartAgent) -> None:
    agent = start_agent(QUICK)
    for time_around in range(2):
        host = agreed(listener, 2)
        host.send_bytes(b'{"__name__": "refr')  # and the next one's words are whole
        host.close()
        agent.wait_log("no host is there", time_around + 1)
    listener.accept().send("refresh", apiVersion=3)
    agent.wait_log("a host is there; API version 2 in force", 2)
    assert "bad input" not in agent.log()


def test_a_host_that_comes_late_goes_and_comes_again(start_agent: StartAgent, tmp_path: Path) -> None:
    agent = start_agent(QUICK)
    for time_around in range(2):
        agent.wait_log("no port yet", time_around + 1)
        with ScriptedHost(tmp_path / "port") as listener:
            assert agreed(listener).ask() is not None
    agent.wait_log("no port yet", 3)
    assert agent.log().count("opened") == 2


def test_an_agent_that_is_stopped_with_a_hook_leaves_none(
    listener: ScriptedHost, start_agent: StartAgent, hooks: Path
) -> None:
    plant_program(hooks / "before_migration", "hang", f"echo $$ >{hooks}/part; mv {hooks}/part {hooks}/pid; sleep 600")
    agent: AgentProcess = start_agent(with_hooks(hooks))
    agreed(listener).send("lifecycle-event", type="before_migration", reply_id="never")
    pid = int(contents(hooks / "pid"))
    assert agent.stop() == 0
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), PATIENCE_S, "the hook's end")
