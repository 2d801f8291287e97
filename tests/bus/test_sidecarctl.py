"""``sidecarctl --host`` over a real broker: as a process, with the output and the exit codes that it has here."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.broker import Broker
from tests.bus.conftest import BusVhost
from tests.bus.far_host import LIMIT_S, FarHost
from tests.bus.permissions import ADMIN, READER
from tests.client.fake_daemon import serve
from tests.client.samples import ANSWERS, EVENT, HOST, answer_well
from tests.lab.waiting import wait_for

# A broker that starts on a busy machine, and a poll that is given up after it.
OUTAGE_S = 120.0

COMMAND = [sys.executable, "-m", "sidecar.cli.main"]

# What is asked, and what the same operation is answered with over HTTP.
SAME: dict[tuple[str, ...], dict[str, str]] = {
    ("list",): {"list": "GET /v1/domains"},
    ("list", "--json"): {"list": "GET /v1/domains"},
    ("show", "vm1"): {"show": "GET /v1/domains/vm1", "guest": "GET /v1/domains/vm1/guest"},
    ("messages", "vm1"): {"messages": "GET /v1/domains/vm1/messages"},
    ("can-send", "vm1", "guest-ping"): {"can_send": "GET /v1/domains/vm1/messages/guest-ping"},
    ("send", "vm1", "guest-ping"): {"send": "POST /v1/domains/vm1/messages/guest-ping"},
    ("renegotiate", "vm1"): {"renegotiate": "POST /v1/domains/vm1/renegotiate"},
    ("wait", "vm1"): {"wait": "GET /v1/domains/vm1/wait?for=agreed&timeout=60.0"},
    ("preflight", "vm1", "--offer"): {"preflight": "POST /v1/domains/vm1/preflight"},
    ("preflight", "vm1", "--host", "gamma"): {"preflight_to": "GET /v1/domains/vm1/preflight/gamma"},
    ("host", "--json"): {"host": "GET /v1/host"},
    ("doctor", "vm1"): {"doctor": "GET /v1/domains/vm1/doctor"},
    ("fleet", "--json"): {"fleet": "GET /v1/fleet?timeout=5.0"},
    ("fleet", "forget", "gamma"): {"fleet_forget": "POST /v1/fleet/gamma/forget"},
    ("fleet", "preflight", "beta"): {"fleet_preflight": "GET /v1/fleet/beta/preflight?timeout=5.0"},
}


@pytest.fixture
def beta(tmp_path: Path, vhost: BusVhost) -> Iterator[FarHost]:
    host = FarHost(tmp_path, vhost)
    try:
        host.begin()
        yield host
    finally:
        host.rig.end()


@pytest.fixture
def file(tmp_path: Path, vhost: BusVhost) -> Path:
    path = tmp_path / "bus.toml"
    path.write_text(f'[bus]\nurl = "{vhost.url(READER)}"\nadmin_url = "{vhost.url(ADMIN)}"\n')
    return path


def run(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60)


def test_the_same_output_and_exit_code_as_here(beta: FarHost, file: Path, tmp_path: Path) -> None:
    offer = tmp_path / "offer.json"
    offer.write_text(json.dumps(HOST))
    socket = tmp_path / "api.sock"
    with serve(socket, answer_well):
        for command, lines in SAME.items():
            arguments = [*command, str(offer)] if command[-1] == "--offer" else list(command)
            beta.answer = lambda call, lines=lines: {"result": ANSWERS[lines[call["operation"]]]}  # type: ignore[misc]
            here, there = run("--socket", socket, *arguments), run("--host", "beta", "--bus", file, *arguments)
            assert (there.returncode, there.stdout, there.stderr) == (here.returncode, here.stdout, here.stderr), (
                command
            )
    assert [call["arguments"]["domain"] for call in beta.calls if call["operation"] == "preflight_to"] == ["vm1"]


def test_a_problem_is_one_line(beta: FarHost, file: Path) -> None:
    for code, exit_code in (("version-too-low", 1), ("bad-request", 2), ("host-unreachable", 3), ("no-answer", 4)):
        beta.answer = lambda call, code=code: {"problem": {"code": code, "detail": "so\nit\x1b is"}}  # type: ignore[misc]
        done = run("--host", "beta", "--bus", file, "send", "vm1", "m")
        expected = (exit_code, "", f"sidecarctl: so\\nit\\x1b is ({code})\n")
        assert (done.returncode, done.stdout, done.stderr) == expected


@pytest.mark.parametrize("command", [("list",), ("renegotiate", "vm1"), ("doctor",), ("events",)])
def test_nobody_there(file: Path, command: tuple[str, ...]) -> None:
    done = run("--host", "beta", "--bus", file, *command)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)
    assert done.stderr.startswith("sidecarctl: beta (over the bus): nobody of this name")


@pytest.mark.thorough
def test_a_broker_that_is_down_is_one_line_and_no_long_wait(tmp_path: Path) -> None:
    url, file = "rabbit://reader:secret@127.0.0.1:1/sidecar", tmp_path / "bus.toml"
    file.write_text(f'[bus]\nurl = "{url}"\nadmin_url = "{url}"\n')
    for command in (("list",), ("renegotiate", "vm1")):
        begun = time.monotonic()
        done = run("--host", "beta", "--bus", file, *command)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)
        assert done.stderr.startswith(
            "sidecarctl: beta (over the bus): no connection to the message broker: [Errno 111]"
        )
        assert time.monotonic() - begun < 15.0


def start(file: Path, *arguments: str) -> "subprocess.Popen[str]":
    command = [*COMMAND, "--host", "beta", "--bus", str(file), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("command", "code"), [(("wait", "vm1"), 130), (("send", "vm1", "m"), 4)])
def test_interrupted_while_the_host_thinks(beta: FarHost, file: Path, command: tuple[str, ...], code: int) -> None:
    def think(call: Mapping[str, Any]) -> dict[str, Any]:
        process.send_signal(signal.SIGINT)
        process.wait(LIMIT_S)
        return {"result": None}

    beta.answer = think
    with start(file, *command) as process:
        out, err = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, out) == (code, "")
    assert err == "" if code == 130 else "interrupted after it was sent: nobody knows" in err
    # The host has said what nobody waited for by the time that it answers another.
    beta.answer = lambda call: {"result": HOST}
    assert run("--host", "beta", "--bus", file, "host").returncode == 0


def test_interrupted_while_the_broker_is_looked_for(file: Path, broker: Broker) -> None:
    broker.pause()
    with start(file, "list") as process:
        wait_for(psutil.Process(process.pid).net_connections, LIMIT_S, "a socket")
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, out, err) == (130, "", "")
    assert time.monotonic() - begun < 4.0


@pytest.mark.long
def test_events_are_followed_over_an_outage(beta: FarHost, file: Path, broker: Broker) -> None:
    asked: list[str] = []
    polled, back = threading.Event(), threading.Event()

    def answer(call: Mapping[str, Any]) -> dict[str, Any]:
        after = call["arguments"]["after"]
        asked.append(after)
        if after == "2":
            polled.set()
            back.wait(OUTAGE_S)
        known = 0 if after == "none" else int(after)
        return {"result": [EVENT | {"id": str(known + 1)}] if known < 4 and len(asked) > 1 else []}

    beta.answer = answer
    with start(file, "events", "--json") as process:
        # Nobody waits for ever, and what hangs is ended.
        timer = threading.Timer(OUTAGE_S, process.kill)
        timer.start()
        assert polled.wait(LIMIT_S)
        broker.kill()
        broker.start()
        back.set()
        assert process.stdout is not None
        ids = [json.loads(process.stdout.readline())["id"] for _ in range(4)]
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=LIMIT_S)
        timer.cancel()
    assert (ids, process.returncode) == (["1", "2", "3", "4"], 0)
    assert err.count("\n") <= 1
    assert not err or err.endswith("waiting for the daemon\n")
