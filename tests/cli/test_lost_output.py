"""``sidecarctl`` where what it prints cannot be written, and where it is interrupted: a process, and its exit code."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import pytest

from tests.client.fake_daemon import Call, serve
from tests.client.samples import answer_well

LIMIT_S = 20.0
CHANGES = [("send", "vm1", "guest-ping"), ("send", "vm1", "lock-screen", "--json"), ("renegotiate", "vm1")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "api.sock"


def build_command(path: Path, arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "sidecar.cli.main", *arguments, "--socket", str(path)]


def run(
    path: Path, *arguments: str, stdout: int | IO[bytes] = subprocess.PIPE, stderr: int | IO[bytes] = subprocess.PIPE
) -> "subprocess.CompletedProcess[str]":
    command = build_command(path, arguments)
    return subprocess.run(command, stdout=stdout, stderr=stderr, text=True, check=False, timeout=LIMIT_S)


def run_closed(path: Path, closed: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """As a shell does that closes descriptors: ``closed`` is ``>&-``, say."""
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", *build_command(path, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)


@pytest.mark.parametrize("arguments", CHANGES)
def test_what_was_done_is_done_on_a_full_disk(path: Path, arguments: tuple[str, ...]) -> None:
    with serve(path, answer_well) as daemon, open("/dev/full", "wb") as full:
        done = run(path, *arguments, stdout=full)
        assert len(daemon.calls) == 1
    assert done.returncode == 0
    assert done.stderr.startswith("sidecarctl: vm1: ")
    assert done.stderr.endswith("it was done, and its answer could not be written: No space left on device\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", CHANGES)
def test_what_was_done_is_done_when_the_reader_has_gone(path: Path, arguments: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with serve(path, answer_well), os.fdopen(writer, "wb") as closed:
        done = run(path, *arguments, stdout=closed)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert "it was done, and its answer could not be written: Broken pipe" in done.stderr


def test_what_was_done_is_done_when_not_even_that_can_be_said(path: Path) -> None:
    with serve(path, answer_well), open("/dev/full", "wb") as full:
        assert run(path, "renegotiate", "vm1", stdout=full, stderr=full).returncode == 0


def test_what_was_only_read_is_a_failure_on_a_full_disk(path: Path) -> None:
    with serve(path, answer_well), open("/dev/full", "wb") as full:
        done = run(path, "list", stdout=full)
    assert (done.returncode, done.stderr) == (1, "sidecarctl: No space left on device\n")


def test_the_exit_code_stands_where_the_error_cannot_be_written(path: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = run(path, "list", stderr=full)
    assert (done.returncode, done.stdout) == (3, "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_descriptors_that_are_closed(path: Path, closed: str) -> None:
    with serve(path, answer_well):
        done = run_closed(path, closed, "list")
    has_stdout = ">&-" not in closed.replace("2>&-", "")
    assert (done.returncode, done.stderr, "vm1" in done.stdout) == (0, "", has_stdout)
    refused = run_closed(path, closed, "list")
    assert (refused.returncode, refused.stdout) == (3, "")
    assert refused.stderr.count("\n") == ("2>&-" not in closed)


def test_arguments_from_a_stdin_that_is_closed(path: Path) -> None:
    with serve(path, answer_well) as daemon:
        done = run_closed(path, "<&-", "send", "vm1", "guest-ping", "--args", "-")
        assert daemon.calls == []
    assert done.returncode == 2
    assert "argument --args: no JSON" in done.stderr


@pytest.mark.parametrize(("arguments", "code"), [*((change, 4) for change in CHANGES), (("wait", "vm1"), 130)])
def test_interrupted_while_the_daemon_works(path: Path, arguments: tuple[str, ...], code: int) -> None:
    asked = threading.Event()

    def answer(_: Call) -> None:
        asked.set()

    with serve(path, answer), subprocess.Popen(build_command(path, arguments), stderr=subprocess.PIPE) as process:
        assert asked.wait(LIMIT_S)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, b"interrupted after it was sent" in errors) == (code, code == 4)
    assert errors.count(b"\n") == (code == 4)
