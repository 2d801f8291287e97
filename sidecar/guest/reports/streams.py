"""Reading from something that may be slow, silent or without an end: a pipe or a socket, until it is closed."""

import os
import select
import time

_PIECE_BYTES = 64 * 1024


def read_to_end(fd: int, deadline: float, limit_bytes: int) -> bytes:
    """Everything up to the end of the stream; the descriptor stays open, what was read is gone from it.

    Args:
        fd: What to read.
        deadline: Monotonic seconds, for all of it: a drop every second does not keep us.
        limit_bytes: More than this is an error.

    Raises:
        TimeoutError: The end did not come in time.
        OSError: Reading failed, or there is more.
    """
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    data = bytearray()
    while True:
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not poller.poll(left_s * 1000):
            raise TimeoutError("no end in time")
        piece = os.read(fd, _PIECE_BYTES)
        if not piece:
            return bytes(data)
        data += piece
        if len(data) > limit_bytes:
            raise OSError(f"more than {limit_bytes} bytes")
