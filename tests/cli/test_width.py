"""How wide the terminal is, as the standard library would say."""

import os
import pty
import shutil
import struct
import termios
from fcntl import ioctl

import pytest

from sidecar.cli import width


@pytest.mark.parametrize(("wanted", "columns"), [("33", 33), ("0", 80), ("-3", 80), ("x", 80), ("", 80), (None, 80)])
def test_without_a_terminal(monkeypatch: pytest.MonkeyPatch, wanted: str | None, columns: int) -> None:
    reader, writer = os.pipe()
    monkeypatch.setattr(width, "_STDOUT", writer)
    monkeypatch.delenv("COLUMNS", raising=False)
    if wanted is not None:
        monkeypatch.setenv("COLUMNS", wanted)
    assert width.count_columns() == columns
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize(("size", "columns"), [(47, 47), (0, 80)])
def test_on_a_terminal(monkeypatch: pytest.MonkeyPatch, size: int, columns: int) -> None:
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, size, 0, 0))
    monkeypatch.setattr(width, "_STDOUT", theirs)
    monkeypatch.delenv("COLUMNS", raising=False)
    assert width.count_columns() == columns
    monkeypatch.setenv("COLUMNS", "33")
    assert width.count_columns() == shutil.get_terminal_size().columns == 33
    os.close(ours)
    os.close(theirs)
