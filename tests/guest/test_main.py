"""The real program: its arguments, its exit codes, and how it stops."""

import os
import pty
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sidecar import __version__
from tests.guest.scripted_host import QUICK, AgentProcess, ScriptedHost, environment

LIMIT_S = 20.0
UNINSTALLED = b'{"__name__": "uninstalled"}\n'


def run(*arguments: str | Path, python: tuple[str, ...] = ()) -> tuple[int, str, str]:
    """Status, output and errors of a run that ends by itself."""
    command = [sys.executable, *python, "-m", "sidecar.guest", *map(str, arguments)]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment(), timeout=LIMIT_S,
        check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_version() -> None:
    assert run("--version") == (0, f"sidecar-guest-agent {__version__}\n", "")


@pytest.mark.parametrize("arguments", [["--dev", "x"], ["--device"], ["serve"], ["--check-config=yes"]])
def test_wrong_usage(arguments: list[str]) -> None:
    status, output, errors = run(*arguments)
    assert (status, output) == (2, "")
    assert "sidecar-guest-agent: error: " in errors.splitlines()[-1]


def test_check_config(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(QUICK)
    assert run("--check-config", "--config", file) == (0, "", "")
    file.write_text("[rates]\nheartbeat_seconds = -1\n")
    expected = f"sidecar-guest-agent: {file}: rates.heartbeat_seconds: expected a number of seconds from 0.01"
    for arguments in (["--check-config"], []):
        status, output, errors = run(*arguments, "--config", file)
        assert (status, output) == (2, "")
        assert errors.startswith(expected)
        assert errors.count("\n") == 1


def test_without_psutil_it_says_how_to_mend_that(tmp_path: Path) -> None:
    status, output, errors = run("--device", tmp_path / "port", python=("-S",))
    assert (status, output) == (1, "")
    assert errors == "sidecar-guest-agent: psutil is missing (Debian's package is python3-psutil)\n"
    assert run("--version", python=("-S",))[0] == 0


def test_another_missing_module_is_a_fault_of_ours(tmp_path: Path) -> None:
    broken = "import sys; sys.modules['tomllib'] = None; from sidecar.guest.main import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", broken, "--check-config"], capture_output=True, text=True, env=environment(),
        timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr


def test_removal_is_told_to_a_serial_line() -> None:
    master, slave = pty.openpty()
    assert run("--uninstalled", "--device", os.ttyname(slave)) == (0, "", "")
    assert os.read(master, 1000) == UNINSTALLED
    os.close(master)
    os.close(slave)


def test_removal_is_told_to_a_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "port"))
        listener.listen(1)
        assert run("--uninstalled", "--device", tmp_path / "port") == (0, "", "")
        with listener.accept()[0] as connection:
            assert connection.recv(1000) == UNINSTALLED


def test_removal_harms_nothing_and_waits_for_nothing(tmp_path: Path) -> None:
    file, fifo = tmp_path / "file", tmp_path / "fifo"
    file.write_text("untouched, as it has nothing to do with it")
    os.mkfifo(fifo)
    for path in (file, fifo, tmp_path, tmp_path / "missing", Path("/dev/full")):
        assert run("--uninstalled", "--device", path) == (0, "", "")
    assert file.read_text() == "untouched, as it has nothing to do with it"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_says_goodbye_within_a_second(number: signal.Signals, tmp_path: Path) -> None:
    with (
        ScriptedHost(tmp_path / "port") as listener,
        AgentProcess(tmp_path, ["--device", str(listener.path)], QUICK) as agent,
    ):
        host = listener.accept()
        host.until("heartbeat", apiVersion=4)
        before = time.monotonic()
        assert agent.stop(number) == 0
        assert time.monotonic() - before < 1
        host.until("session-shutdown")
        with pytest.raises(ConnectionError):
            host.receive()
        assert "Traceback" not in agent.log()


def test_a_stop_while_there_is_no_port(tmp_path: Path) -> None:
    with AgentProcess(tmp_path, ["--device", str(tmp_path / "missing")]) as agent:
        agent.wait_log("no port yet")
        assert agent.stop() == 0
        assert agent.log().splitlines() == [
            f"INFO: sidecar-guest-agent {__version__}",
            f"WARNING: no port yet: {tmp_path}/missing: No such file or directory",
        ]


def test_the_level_of_its_log(tmp_path: Path) -> None:
    configuration = QUICK + '[log]\nlevel = "error"\n'
    with (
        ScriptedHost(tmp_path / "port") as listener,
        AgentProcess(tmp_path, ["--device", str(listener.path)], configuration) as agent,
    ):
        listener.accept().until("heartbeat")
        assert agent.stop() == 0
        assert agent.log() == ""
