"""The port on real sockets and terminals, and what it makes of other things."""

import errno
import logging
import os
import pty
import select
import socket
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.guest import port as port_module
from sidecar.guest.port import READ_BYTES, RETRY_FIRST_S, RETRY_LAST_S, Port, Presence, open_end

PATIENCE_S = 10.0


@pytest.fixture
def epoll() -> Iterator[select.epoll]:
    with select.epoll() as epoll:
        yield epoll


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "port"))
        listener.listen(1)
        yield listener


@pytest.fixture
def port(tmp_path: Path, epoll: select.epoll) -> Iterator[Port]:
    """One whose path is the listener's."""
    port = Port([str(tmp_path / "port")], epoll)
    yield port
    port.close()


def next_events(port: Port, epoll: select.epoll) -> int:
    """What epoll tells of the port, once it does."""
    told = dict(epoll.poll(PATIENCE_S))
    assert list(told) == [port.fd]
    return told[port.fd]


def is_quiet(epoll: select.epoll) -> bool:
    """Whether the loop would sleep on."""
    return not epoll.poll(0)


def connect(port: Port, listener: socket.socket) -> socket.socket:
    assert port.open()
    return listener.accept()[0]


# Sockets.


def test_a_socket_that_is_connected_has_a_host(port: Port, listener: socket.socket, epoll: select.epoll) -> None:
    assert (port.fd, port.presence, port.sendable) == (-1, Presence.CLOSED, False)
    with connect(port, listener) as host:
        assert (port.presence, port.sendable) == (Presence.HOST, True)
        port.write(b"hello\n")
        assert host.recv(100) == b"hello\n"
        host.sendall(b"word")
        events = next_events(port, epoll)
        assert port.receive(events) == b"word"
        assert port.receive(events) == b""
        assert port.presence is Presence.HOST
        assert is_quiet(epoll)


def test_a_host_that_vanishes_leaves_its_last_words(port: Port, listener: socket.socket, epoll: select.epoll) -> None:
    host = connect(port, listener)
    host.sendall(b"last")
    host.close()
    events = next_events(port, epoll)
    assert port.receive(events) == b"last"
    assert port.receive(events) == b""
    assert (port.fd, port.presence) == (-1, Presence.CLOSED)
    with connect(port, listener):
        assert port.presence is Presence.HOST


def test_what_does_not_fit_follows(port: Port, listener: socket.socket, epoll: select.epoll) -> None:
    with connect(port, listener) as host:
        data = os.urandom(3_000_000)
        port.write(data)
        assert not port.sendable
        received = host.recv(len(data))
        while len(received) < len(data):
            assert port.receive(next_events(port, epoll)) == b""
            port.flush()
            received += host.recv(len(data))
        assert received == data
        assert port.sendable
        assert is_quiet(epoll)


def test_a_host_that_vanishes_while_much_waits(port: Port, listener: socket.socket, epoll: select.epoll) -> None:
    with connect(port, listener):
        port.write(bytes(3_000_000))
    while port.presence is not Presence.CLOSED:
        events = next_events(port, epoll)
        port.receive(events)
        port.flush()
    with connect(port, listener) as host:  # nobody gets another's half line, nor an end of one
        port.write(b"new\n")
        assert host.recv(100) == b"new\n"


def test_a_write_finds_that_the_host_is_gone(
    port: Port, listener: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    connect(port, listener).close()
    port.write(b"lost\n")
    assert port.presence is Presence.CLOSED
    assert "the port is gone: Broken pipe" in caplog.text
    port.close()


def test_reads_no_more_than_a_piece_at_once(port: Port, listener: socket.socket, epoll: select.epoll) -> None:
    with connect(port, listener) as host:
        host.setblocking(False)
        sent = sum(iter(lambda: _try_send(host), 0))
        assert sent > READ_BYTES
        events, pieces = next_events(port, epoll), []
        while piece := port.receive(events):
            pieces.append(len(piece))
        assert (sum(pieces), max(pieces)) == (sent, READ_BYTES)


def _try_send(host: socket.socket) -> int:
    try:
        return host.send(bytes(READ_BYTES))
    except BlockingIOError:
        return 0


def test_a_host_that_does_not_accept_is_tried_again(tmp_path: Path, epoll: select.epoll) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "port"))
        listener.listen(0)
        ports = [Port([str(tmp_path / "port")], epoll) for _ in range(2)]
        assert [one.open() for one in ports] == [True, False]
        listener.accept()[0].close()
        assert ports[1].open()
        for one in ports:
            one.close()


# Paths.


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: None, "No such file or directory"),
        (lambda path: path.write_text(""), "neither a character device nor a unix socket"),
        (lambda path: path.mkdir(), "neither a character device nor a unix socket"),
        (lambda path: os.mkfifo(path), "neither a character device nor a unix socket"),
        (lambda path: path.symlink_to("/dev/null"), "a device that never tells when it can be read"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        (lambda path: socket.socket(socket.AF_UNIX).bind(str(path)), "Connection refused"),
    ],
    ids=["nothing", "file", "directory", "fifo", "null", "loop", "nobody listens"],
)
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_what_cannot_be_opened_is_said_once(
    make: object, why: str, port: Port, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert callable(make)
    make(tmp_path / "port")
    before = os.listdir("/proc/self/fd")
    assert [port.open(), port.open()] == [False, False]
    assert caplog.messages == [f"no port yet: {tmp_path}/port: {why}"]
    assert os.listdir("/proc/self/fd") == before
    assert (port.fd, port.presence) == (-1, Presence.CLOSED)


def test_the_first_path_that_can_be_opened(
    tmp_path: Path, epoll: select.epoll, caplog: pytest.LogCaptureFixture
) -> None:
    paths = [tmp_path / "first", tmp_path / "second"]
    port = Port([str(path) for path in paths], epoll)
    assert not port.open()
    assert caplog.text.count("No such file") == 2
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        second.bind(str(paths[1]))
        second.listen(1)
        assert port.open()
        second.accept()[0].close()
        port.close()
        first.bind(str(paths[0]))
        first.listen(1)
        assert port.open()
        first.accept()[0].close()
        port.close()


def test_each_retry_waits_longer_until_a_host_speaks(port: Port, listener: socket.socket, epoll: select.epoll) -> None:
    waits = [port.next_retry_s() for _ in range(7)]
    assert waits == [0.25, 0.5, 1, 2, 4, 5, 5]
    assert (waits[0], waits[-1]) == (RETRY_FIRST_S, RETRY_LAST_S)
    with connect(port, listener) as host:
        assert port.next_retry_s() == RETRY_LAST_S  # one that accepts and hangs up at once gains nothing
        host.sendall(b"x")
        port.receive(next_events(port, epoll))
        assert port.next_retry_s() == RETRY_FIRST_S


# Serial lines.


def test_a_serial_line_carries_bytes_as_they_are(epoll: select.epoll) -> None:
    master, slave = pty.openpty()
    port = Port([os.ttyname(slave)], epoll)
    assert port.open()
    assert not port.sendable
    port.receive(next_events(port, epoll))
    assert port.sendable
    port.write(b"a\nb\r\x03")
    assert os.read(master, 100) == b"a\nb\r\x03"
    os.write(master, b"\x04\r\x03\n")
    assert port.receive(next_events(port, epoll)) == b"\x04\r\x03\n"
    os.close(slave)
    os.close(master)
    while port.presence is not Presence.CLOSED:  # it hung up for good; another may have its name soon
        port.receive(next_events(port, epoll))
    assert not port.open()


def test_a_line_that_hangs_up_while_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang_up(fd: int) -> None:
        os.close(master)
        real_setraw(fd)

    real_setraw, (master, slave) = tty.setraw, pty.openpty()
    monkeypatch.setattr(tty, "setraw", hang_up)
    path = os.ttyname(slave)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="Input/output error"):
        open_end(path)
    assert len(os.listdir("/proc/self/fd")) == before - 1
    os.close(slave)


def test_a_port_that_somebody_else_has_open(
    port: Port, epoll: select.epoll, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_path: str) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(port_module, "open_end", refuse)
    assert not port.open()
    assert "Device or resource busy" in caplog.text
