"""Files of the system: read in one piece, with a bound, and never something that makes us wait."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

# A long /etc/hosts against advertisements has more, a mount table of 4000 entries less: what counts stands at the top.
FILE_LIMIT_BYTES = 1024 * 1024

# Non-blocking: a FIFO in a file's place must not make us wait for its writer.
_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def open_regular(path: Path) -> BinaryIO:
    """The file, opened for reading; the caller closes it.

    Raises:
        OSError: It cannot be opened, or is no regular file; nothing is left open.
    """
    fd = os.open(path, _OPEN)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(f"{path} is no regular file")
        return open(fd, "rb")
    except BaseException:
        os.close(fd)
        raise


def read_bytes(path: Path, limit_bytes: int = FILE_LIMIT_BYTES) -> bytes:
    """The file's first bytes.

    Raises:
        OSError: As ``open_regular``, or it cannot be read.
    """
    with open_regular(path) as file:
        return file.read(limit_bytes)


def read_lines(path: Path) -> list[bytes]:
    """The file's lines without their LF, of a larger file those that stand whole within the limit.

    Raises:
        OSError: As ``read_bytes``.
    """
    data = read_bytes(path)
    lines = data.split(b"\n")
    if len(data) == FILE_LIMIT_BYTES:
        lines.pop()  # perhaps cut in its middle
    return lines


def read_word(path: Path) -> str:
    """The file's text without the white space around it; odd bytes as ``os.fsdecode`` does, for ``report_text``.

    Raises:
        OSError: As ``read_bytes``.
    """
    return os.fsdecode(read_bytes(path).strip(b" \t\r\n\0"))
