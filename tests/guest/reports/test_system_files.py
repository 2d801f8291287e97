import os
from pathlib import Path

import pytest

from sidecar.guest.reports.system_files import FILE_LIMIT_BYTES, open_regular, read_bytes, read_lines, read_word


def test_reads_a_bounded_beginning(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * (FILE_LIMIT_BYTES + 1))
    assert len(read_bytes(tmp_path / "file")) == FILE_LIMIT_BYTES
    assert read_bytes(tmp_path / "file", 3) == b"xxx"


def test_lines_end_at_line_feeds_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"a\rb\n\n c\x0bd \nlast")
    assert read_lines(tmp_path / "file") == [b"a\rb", b"", b" c\x0bd ", b"last"]


def test_a_line_that_the_limit_cuts_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"first\n" + b"x" * FILE_LIMIT_BYTES)
    assert read_lines(tmp_path / "file") == [b"first"]


def test_word_without_white_space_around_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b" two words\xff\n\0")
    assert read_word(tmp_path / "file") == "two words\udcff"


def test_what_the_kernel_makes_up_is_a_file_as_well() -> None:
    assert read_word(Path("/proc/sys/kernel/hostname")) == os.uname().nodename


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo", "device", "loop"])
def test_what_is_no_file_is_an_error_and_no_wait(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "it"
    match kind:
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "loop":
            path.symlink_to(path)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="it"):
        open_regular(path)
    assert os.listdir("/proc/self/fd") == before
