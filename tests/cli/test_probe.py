"""``sidecarctl probe`` against scripted agents on plain sockets."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from sidecar.cli.main import main
from tests.fakes.ovirt_agent import AgentModel, Era
from tests.fakes.qga_server import QgaServer, Refusal


@contextmanager
def qga(path: Path, change: Callable[[QgaServer], None] = lambda _agent: None) -> Iterator[QgaServer]:
    """The agent, served from a thread of its own."""
    ready, stop = threading.Event(), threading.Event()
    agents: list[QgaServer] = []

    async def serve() -> None:
        async with QgaServer(path) as agent:
            change(agent)
            agents.append(agent)
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(10)
    try:
        yield agents[0]
    finally:
        stop.set()
        thread.join(10)


@contextmanager
def ovirt(path: Path, agent: AgentModel) -> Iterator[AgentModel]:
    """The agent beats as soon as somebody is there, and after everything that it is told."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client, suppress(OSError):  # it may be content, and gone, before we have said all
                client.sendall(b"".join(agent.start()) + b"".join(agent.heartbeat()))
                while data := client.recv(65536):
                    client.sendall(b"".join(agent.receive(data)) + b"".join(agent.heartbeat()))

        thread = threading.Thread(target=serve)
        thread.start()
        yield agent
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def probe(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, dict[str, object], str]:
    """Exit code, the document on stdout, and what stands on stderr."""
    code = main(["probe", *map(str, arguments), "--json"])
    told = capsys.readouterr()
    return code, json.loads(told.out) if told.out else {}, told.err


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent"


def test_qga(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with qga(path) as agent:
        code, found, complaint = probe(capsys, "--qga", path)
    assert (code, complaint) == (0, "")
    assert found == {
        "dialect": "qga",
        "socket": str(path),
        "state": "agreed",
        "version": "7.2",
        "guest": "7.2.22",
        "host": "10.0",
        "reason": None,
    }
    assert agent.commands == ["guest-sync-delimited", "guest-info"], "once"


def test_for_people(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with qga(path):
        assert main(["probe", "--qga", str(path)]) == 0
    assert capsys.readouterr().out == "qga: agreed 7.2 (guest 7.2.22, host 10.0)\n"


def test_caps_are_the_configurations(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configuration = tmp_path / "sidecar.toml"
    configuration.write_text('[upgrade_levels]\nqga = "debian-11"\novirt = 2\n')
    with qga(path):
        code, found, _ = probe(capsys, "--qga", path, "--config", configuration)
    assert (code, found["version"], found["host"]) == (0, "5.2", "5.2")
    with ovirt(tmp_path / "ovirt", AgentModel(Era.V1_0_16)) as agent:
        code, found, _ = probe(capsys, "--ovirt", tmp_path / "ovirt", "--config", configuration)
    assert (code, found["version"], found["host"], agent.version) == (0, "2", "2", 2)


@pytest.mark.parametrize("ids", ["dropped", "rejected"])
def test_an_agent_of_before_id(path: Path, capsys: pytest.CaptureFixture[str], ids: str) -> None:
    def grow_old(agent: QgaServer) -> None:
        agent.version, agent.ids = "2.12.0", "dropped" if ids == "dropped" else "rejected"

    with qga(path, grow_old):
        code, found, _ = probe(capsys, "--qga", path)
    assert (code, found["state"], found["version"]) == (0, "agreed", "2.12")


def test_blocked(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def block(_arguments: object) -> object:
        raise Refusal("CommandNotFound", "Command guest-info has been disabled")

    with qga(path, lambda agent: agent.handlers.update({"guest-info": block})):
        code, found, complaint = probe(capsys, "--qga", path)
    assert (code, found["state"], found["reason"]) == (1, "unversioned", "guest-info-blocked")
    assert complaint == f"sidecarctl: {path}: qga: unversioned (guest none, host 10.0, guest-info-blocked)\n"


def test_silent(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with qga(path, lambda agent: agent.go.clear()):
        code, found, _ = probe(capsys, "--qga", path, "--timeout", "0.2")
    assert (code, found["state"], found["reason"]) == (1, "lost", "agent-silent")


@pytest.mark.parametrize(("era", "version"), [(Era.V1_0_16, "3"), (Era.V1_0_11, "2"), (Era.V1_0_9_1, "1")])
def test_ovirt(path: Path, capsys: pytest.CaptureFixture[str], era: Era, version: str) -> None:
    with ovirt(path, AgentModel(era)) as agent:
        code, found, complaint = probe(capsys, "--ovirt", path)
    assert (code, complaint) == (0, "")
    assert (found["dialect"], found["state"], found["version"], found["host"]) == ("ovirt", "agreed", version, "4")
    assert str(agent.version) == version, "agreed means told"


def test_ovirt_without_versions(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ovirt(path, AgentModel(Era.V1_0_8)):
        code, found, _ = probe(capsys, "--ovirt", path)
    assert (code, found["state"], found["reason"], found["guest"]) == (1, "unversioned", "no-version", None)


def test_the_other_dialects_agent(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ovirt(path, AgentModel(Era.V1_0_16)):
        code, found, _ = probe(capsys, "--qga", path, "--timeout", "0.3")
    assert (code, found["state"]) == (1, "lost")


@pytest.mark.parametrize("dialect", ["--qga", "--ovirt"])
def test_nobody_there(path: Path, capsys: pytest.CaptureFixture[str], dialect: str) -> None:
    code, found, complaint = probe(capsys, dialect, path)
    assert (code, found) == (1, {})
    assert complaint.count("\n") == 1
    assert str(path) in complaint


@pytest.mark.parametrize(
    "arguments",
    [[], ["--qga"], ["--qga", "a", "--ovirt", "b"], ["--qga", "a", "--timeout", "0"], ["--qga", "a", "--timeout", "x"]],
)
def test_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["probe", *arguments])
    assert caught.value.code == 2
