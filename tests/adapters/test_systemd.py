"""Notification datagrams to a real socket; log lines as they come out of a real process."""

import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.adapters.systemd import LineFormatter, configure_logging, escape, notify


@pytest.fixture
def receiver() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.settimeout(10)
        yield server


def test_notifies_a_path(receiver: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver.bind(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    notify("READY=1")
    assert receiver.recv(100) == b"READY=1"


def test_notifies_an_abstract_address(receiver: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"sidecar-test-{os.getpid()}"
    receiver.bind("\0" + name)
    monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
    notify("STOPPING=1\nSTATUS=ä\udcff")
    assert receiver.recv(100) == "STOPPING=1\nSTATUS=ä?".encode()


@pytest.mark.parametrize(
    "address", [None, "", "relative", "/nowhere/notify", "@nobody", "/" + "x" * 500, "/etc/passwd"]
)
def test_without_a_listener_nothing_happens(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    before = len(os.listdir("/proc/self/fd"))
    notify("READY=1")
    assert len(os.listdir("/proc/self/fd")) == before


LOGGING = """
import logging, os, sys
from sidecar.adapters.systemd import configure_logging
if sys.argv[2:] == ["journal"]:
    found = os.fstat(2)
    os.environ["JOURNAL_STREAM"] = f"{found.st_dev}:{found.st_ino}"
configure_logging(sys.argv[1])
log = logging.getLogger("x")
log.debug("quiet")
log.info("told %s", "evil\\n<0>forged\\x1b[2J\\r\\u2028")
log.warning("careful")
log.error("bad")
log.critical("dead")
try:
    raise ValueError("one\\n<0>two")
except ValueError:
    log.exception("with traceback")
"""


def log_lines(*arguments: str, environment: dict[str, str] | None = None) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", LOGGING, *arguments],
        stderr=subprocess.PIPE,
        env={**os.environ, "JOURNAL_STREAM": "", **(environment or {})},
        check=True,
        timeout=30,
    )
    text = done.stderr.decode()
    assert text.endswith("\n")
    return text.removesuffix("\n").split("\n")


def test_into_the_journal_with_priorities() -> None:
    lines = log_lines("debug", "journal")
    assert lines[:6] == [
        "<7>quiet",
        "<6>told evil\\n<0>forged\\x1b[2J\\r\\u2028",
        "<4>careful",
        "<3>bad",
        "<2>dead",
        "<3>with traceback",
    ]
    assert lines[6] == "<3>| Traceback (most recent call last):"
    assert lines[-2:] == ["<3>| ValueError: one", "<3>| <0>two"]


@pytest.mark.parametrize("stream", ["", "1:2", "nonsense"])
def test_elsewhere_with_time_and_level(stream: str) -> None:
    lines = log_lines("warning", environment={"JOURNAL_STREAM": stream})
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (WARNING|ERROR|CRITICAL) \S", line) for line in lines)
    assert [line.split(" ", 1)[1] for line in lines[:2]] == ["WARNING careful", "ERROR bad"]
    assert lines[-1].endswith("ERROR | <0>two")


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_every_level_of_the_configuration(level: str) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        for _ in range(2):
            configure_logging(level)
            assert len(root.handlers) == 1
        assert root.level == logging.getLevelNamesMapping()[level.upper()]
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])


def test_a_closed_stderr_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    monkeypatch.setattr(sys, "stderr", None)
    try:
        configure_logging("info")
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])


def test_no_control_character_is_left() -> None:
    every = "".join(map(chr, range(0x3000)))
    escaped = escape(every + "\udc80\ud800")
    assert all(character >= " " for character in escaped)
    assert len((escaped + "x").splitlines()) == 1
    assert not set(escaped) & set("\x7f\x85\x9b\u200f\u2028\u2029\u202e\u2066\udc80\ud800")
    assert escape("vm-1 ä日😀 \\n") == "vm-1 ä日😀 \\n"


def test_a_record_is_one_line() -> None:
    record = logging.LogRecord("x", logging.WARNING, "", 0, "a\nb", None, None)
    assert LineFormatter(is_journal=True).format(record) == "<4>a\\nb"
