"""Hosts that never read, never speak, never stop, send anything, or vanish; and what the agent costs meanwhile."""

import json
import time

import pytest

from tests.guest.conftest import StartAgent
from tests.guest.scripted_host import QUICK, AgentProcess, HostEnd, ScriptedHost

pytestmark = pytest.mark.thorough

MEMORY_LIMIT_KIB = 25 * 1024
GROWTH_LIMIT_KIB = 1024

# Of a process that looks for its port, or whose heart beats five times a second: far below one that spins.
IDLE_S = 0.6
IDLE_CPU_S = 0.1
IDLE_WAKEUPS = 100

# What all kinds of lines of one minute may come to.
LOG_LIMIT_BYTES = 64 * 1024


@pytest.fixture
def agent(start_agent: StartAgent, listener: ScriptedHost) -> AgentProcess:
    """One that connects to the listener."""
    return start_agent(QUICK)


@pytest.fixture
def host(agent: AgentProcess, listener: ScriptedHost) -> HostEnd:
    """Everything was said already."""
    host = listener.accept()
    host.hear_all()
    return host


def check_alive(host: HostEnd, version: int = 4) -> None:
    """It hears and answers; everything that it says is whole."""
    host.send("lifecycle-event", type="nothing_to_run", reply_id="the end")
    host.until("completion", reply_id="the end")
    host.send("api-version", apiVersion=version)
    assert host.until("heartbeat")["apiVersion"] == 4


def test_a_host_that_floods_and_never_reads(agent: AgentProcess, host: HostEnd) -> None:
    before = agent.cost().rss_kib
    assert before < MEMORY_LIMIT_KIB
    for number in range(300):
        host.send("echo", any=["x" * 20_000, number])
        host.send("refresh", apiVersion=4)
        host.send("refresh")
        host.send("lifecycle-event", type="nothing_to_run", reply_id=str(number))
        host.send("api-version", apiVersion=number % 5)
    agent.run_for(0.3)  # what was asked for is looked up
    assert_idle(agent)
    assert agent.cost().rss_kib < before + GROWTH_LIMIT_KIB
    host.send("api-version", apiVersion=4)
    check_alive(host)


def test_an_endless_line(agent: AgentProcess, host: HostEnd) -> None:
    before = agent.cost().rss_kib
    for _ in range(256):
        host.send_bytes(b"x" * 65536)
    host.send_bytes(b"\n")
    check_alive(host)
    assert agent.cost().rss_kib < before + GROWTH_LIMIT_KIB
    assert agent.log().count("line-too-long") == 1
    assert len(agent.log()) < LOG_LIMIT_BYTES


def test_garbage_costs_a_line_of_the_log(agent: AgentProcess, host: HostEnd) -> None:
    for line in (
        b"\0", b"\xff\xfe", b"{", b"[1, 2]", b"{}", b"null", b'"refresh"', b"9" * 10_000, b"[" * 60_000,
        b'{"a":' * 9_000,
        b'{"__name__": null}', b'{"__name__": "noth\\u001b[2Jing"}', b'{"__name__": "heartbeat"}', b"\n\r\n \t",
        b'{"__name__": "api-version", "apiVersion": -1}', b'{"__name__": "api-version", "apiVersion": 1e999}',
        b'{"__name__": "api-version"}', b'{"__name__": "refresh", "apiVersion": {"a": []}}',
    ):  # fmt: skip
        host.send_bytes(line + b"\n")
        host.ask()
    check_alive(host)
    log = agent.log()
    assert [log.count(code) for code in ("bad-message", "unknown-message", "bad-version")] == [1, 1, 1]
    assert "\x1b" not in log
    assert "Traceback" not in log
    assert log.count("version 4 in force") == 1


@pytest.mark.parametrize(
    "start",
    ['{"__name__":"login","a":', '{"__name__":"api-version","apiVersion":', '{"__name__":"lifecycle-event","reply_id":',
     '{"__name__":"lifecycle-event","type":', '{"__name__":"echo","a":', '{"__name__":"shutdown","message":'],
)  # fmt: skip
def test_nesting_that_can_just_be_read(start: str, host: HostEnd) -> None:
    for depth in range(960, 1001):
        host.send_bytes(f"{start}{'[' * depth}{']' * depth}}}\n".encode())
    check_alive(host)


def test_a_host_that_wants_without_end(agent: AgentProcess, host: HostEnd) -> None:
    for number in range(500):
        lines = [
            {"__name__": "login", "password": "geheim"},
            {"__name__": "lifecycle-event", "type": "../x", "reply_id": str(number)},
            {"__name__": "lifecycle-event", "type": "nothing_to_run"},
            {"__name__": "api-version", "apiVersion": number % 5},
            {"__name__": "refresh"},
            {"__name__": "nothing"},
        ]
        host.send_bytes("".join(json.dumps(line) + "\n" for line in lines).encode())
        host.ask()
    host.send("api-version", apiVersion=4)
    check_alive(host)
    assert len(agent.log()) < LOG_LIMIT_BYTES
    assert "login: refused: the agent's configuration has no program for it" in agent.log()
    assert "login: refused: more than 60 a minute" in agent.log()
    assert "geheim" not in agent.log()


def test_one_that_vanishes_while_it_is_told_much(agent: AgentProcess, host: HostEnd, listener: ScriptedHost) -> None:
    for number in range(3):
        for _ in range(20):
            host.send("echo", any="x" * 60_000)
            host.send("refresh")
        agent.wait_log("API version 0 in force", number + 2)
        host.close()
        host = listener.accept()
        host.send("refresh", apiVersion=4)
        assert host.until("heartbeat")
        host.say_version(4)
    check_alive(host)


def test_one_that_accepts_and_hangs_up_is_not_asked_all_the_time(agent: AgentProcess, listener: ScriptedHost) -> None:
    listener.accept().close()
    before = time.monotonic()
    for _ in range(3):
        listener.accept().close()
    assert time.monotonic() - before > 0.5 + 1.0


def test_one_that_never_speaks_costs_nothing(agent: AgentProcess, listener: ScriptedHost) -> None:
    host = listener.accept()
    host.until("heartbeat", apiVersion=4)
    agent.run_for(0.2)  # its start is over
    assert_idle(agent)
    for _ in range(3):
        assert host.until("heartbeat")["apiVersion"] == 4


def test_no_port_costs_nothing(start_agent: StartAgent) -> None:
    agent = start_agent(QUICK)
    agent.wait_log("no port yet")
    agent.run_for(0.2)  # its start is over
    assert_idle(agent)
    assert agent.cost().rss_kib < MEMORY_LIMIT_KIB


def test_all_that_there_is_to_tell_fits_its_memory(agent: AgentProcess, host: HostEnd) -> None:
    host.until("heartbeat")
    assert agent.cost().rss_kib < MEMORY_LIMIT_KIB


def assert_idle(agent: AgentProcess) -> None:
    cost = agent.run_for(IDLE_S)
    assert cost.cpu_s <= IDLE_CPU_S
    assert cost.wakeups <= IDLE_WAKEUPS
