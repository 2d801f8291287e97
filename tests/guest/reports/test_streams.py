import os
import socket
import threading
import time

import pytest

from sidecar.guest.reports.streams import read_to_end


def in_seconds(seconds: float) -> float:
    return time.monotonic() + seconds


def test_reads_all_until_the_other_end_closes() -> None:
    ours, theirs = socket.socketpair()
    data = bytes(range(256)) * 1024

    def write() -> None:
        with theirs:
            theirs.sendall(data)

    writer = threading.Thread(target=write)
    with ours:
        writer.start()
        assert read_to_end(ours.fileno(), in_seconds(30), len(data)) == data
    writer.join(30)


def test_silence_ends_at_the_deadline() -> None:
    reading, writing = os.pipe()
    with open(reading), open(writing, "w"), pytest.raises(TimeoutError):
        read_to_end(reading, in_seconds(0.05), 100)


def test_a_drop_now_and_then_does_not_move_the_deadline() -> None:
    ours, theirs = socket.socketpair()
    ended = threading.Event()

    def drip() -> None:
        while not ended.wait(0.01):
            theirs.send(b"x")

    writer = threading.Thread(target=drip)
    writer.start()
    try:
        with pytest.raises(TimeoutError):
            read_to_end(ours.fileno(), in_seconds(0.2), 10**6)
    finally:
        ended.set()
        writer.join(30)
        ours.close()
        theirs.close()


def test_what_has_no_end_is_left_at_the_limit() -> None:
    with open("/dev/zero", "rb", buffering=0) as endless, pytest.raises(OSError, match="more than 1000 bytes"):
        read_to_end(endless.fileno(), in_seconds(30), 1000)


def test_a_deadline_that_is_over_reads_nothing() -> None:
    with open("/dev/zero", "rb", buffering=0) as endless, pytest.raises(TimeoutError):
        read_to_end(endless.fileno(), in_seconds(-1), 10**9)
