"""``sidecarctl`` on a terminal: its width, its colours, and the line that shows that something goes on."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.client.fake_daemon import Call, Reply, serve
from tests.client.samples import DOMAIN, OVIRT, answer_always, answer_well

LIMIT_S = 20.0
LONG = DOMAIN | {"channels": [OVIRT | {"name": "x" * 300}]}


def run(path: Path, *arguments: str, columns: int, **environment: str) -> tuple[int, str]:
    """The exit code, and what the terminal got, on stdout and stderr."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    command = [sys.executable, "-m", "sidecar.cli.main", "--socket", str(path), *arguments]
    unwanted = {"NO_COLOR", "COLUMNS", "TERM"}
    inherited = {name: value for name, value in os.environ.items() if name not in unwanted}
    settings = {**inherited, "TERM": "xterm", **environment}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=settings) as process:
        os.close(theirs)
        text = read_all(ours)
        os.close(ours)
        return process.wait(LIMIT_S), text


def read_all(terminal: int) -> str:
    data, end = b"", time.monotonic() + LIMIT_S
    with suppress(OSError):  # how a terminal says that its other end is closed
        while select.select([terminal], [], [], max(0.0, end - time.monotonic()))[0]:
            data += os.read(terminal, 65536)
    return data.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_tables_fit_and_have_colours(tmp_path: Path, columns: int) -> None:
    with serve(tmp_path / "s", answer_always([LONG])):
        code, text = run(tmp_path / "s", "list", columns=columns)
    lines = re.sub(r"\x1b\[[0-9]*m", "", text).splitlines()
    assert (code, len(lines)) == (0, 2)
    assert max(map(len, lines)) == columns
    assert "\x1b[32magreed" in text


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colours_where_they_are_not_wanted(tmp_path: Path, environment: dict[str, str]) -> None:
    with serve(tmp_path / "s", answer_always([LONG])):
        code, text = run(tmp_path / "s", "list", columns=80, **environment)
    assert code == 0
    assert "agreed" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("wait", "vm1"), "vm1: waiting to be agreed, 60 s at most"),
        (("send", "vm1", "lock-screen"), "vm1: lock-screen: waiting for the answer, 10 s at most"),
    ],
)
def test_progress_while_it_takes_long_and_nothing_of_it_after(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    asked, may_answer = threading.Event(), threading.Event()

    def answer(call: Call) -> Reply:
        asked.set()
        may_answer.wait(LIMIT_S)
        return answer_well(call)

    with serve(tmp_path / "s", answer):
        results: list[tuple[int, str]] = []
        runner = threading.Thread(target=lambda: results.append(run(tmp_path / "s", *arguments, columns=80)))
        runner.start()
        assert asked.wait(LIMIT_S)
        may_answer.set()
        runner.join(LIMIT_S)
    [(code, text)] = results
    assert code == 0
    before, erased, after = text.partition("\r\x1b[K")
    assert (before, bool(erased)) == (words, True)
    assert "waiting" not in after
    assert after.strip()


def test_everything_in_a_pipe_and_nothing_else(tmp_path: Path) -> None:
    with serve(tmp_path / "s", answer_always([LONG])):
        done = subprocess.run(
            [sys.executable, "-m", "sidecar.cli.main", "list", "--socket", tmp_path / "s"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "COLUMNS": "40"},
            timeout=LIMIT_S,
        )
    assert "x" * 300 in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stderr == ""


def test_an_encoding_that_lacks_a_character(tmp_path: Path) -> None:
    with serve(tmp_path / "s", answer_always([DOMAIN | {"name": "新ü"}])):
        done = subprocess.run(
            [sys.executable, "-m", "sidecar.cli.main", "list", "--socket", tmp_path / "s"],
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONIOENCODING": "latin-1"},
            timeout=LIMIT_S,
        )
    assert done.stdout.split(b"\n")[1].startswith(b"\\u65b0\xfc")


def test_a_reader_that_has_gone(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with serve(tmp_path / "s", answer_always([LONG])), os.fdopen(writer, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "sidecar.cli.main", "list", "--socket", tmp_path / "s"],
            stdout=closed,
            stderr=subprocess.PIPE,
            check=False,
            timeout=LIMIT_S,
        )
    assert (done.returncode, done.stderr) == (1, b"")
