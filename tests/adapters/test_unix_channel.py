import asyncio
import contextlib
import gc
import multiprocessing
import os
import resource
import socket
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import pytest

from sidecar.adapters.unix_channel import (
    READ_BURST_BYTES,
    READ_BYTES,
    READ_RATE_BYTES_S,
    SEND_LIMIT_BYTES,
    UnixConnection,
    UnixDialer,
    _has_socket,
)
from sidecar.errors import ChannelUnreachableError, ForeignSocketError


class Listener:
    """A listening unix socket; `name` is what it is bound to, which may be shorter than the path it is reached by."""

    def __init__(self, path: Path, backlog: int = 1) -> None:
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(self.path)
        self.socket.listen(backlog)
        self.clients: list[socket.socket] = []

    def accept(self) -> socket.socket:
        client, _ = self.socket.accept()
        self.clients.append(client)
        return client

    def close(self) -> None:
        for client in (self.socket, *self.clients):
            client.close()


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    made = Listener(tmp_path / "channel")
    yield made
    made.close()


async def dial(path: str, pid: int | None = None) -> UnixConnection:
    return await UnixDialer().dial(path, os.getpid() if pid is None else pid, lambda _: None)


def open_files() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


class TestPath:
    async def test_symbolic_link_is_refused(self, listener: Listener, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(listener.path)
        with pytest.raises(ChannelUnreachableError):
            await dial(str(tmp_path / "link"))

    @pytest.mark.parametrize("kind", ["file", "directory", "fifo", "dangling"])
    async def test_what_is_no_socket_is_refused(self, kind: str, tmp_path: Path) -> None:
        path = tmp_path / "node"
        match kind:
            case "file":
                path.write_text("x")
            case "directory":
                path.mkdir()
            case "fifo":
                os.mkfifo(path)
            case "dangling":
                path.symlink_to(tmp_path / "nothing")
        with pytest.raises(ChannelUnreachableError):
            await dial(str(path))

    @pytest.mark.parametrize("path", ["", "a\0b", "/" + "x" * 5000, "\udcff\n"])
    async def test_what_is_no_path_is_refused(self, path: str) -> None:
        with pytest.raises(ChannelUnreachableError):
            await dial(path)

    async def test_longer_than_a_socket_address(self, tmp_path: Path) -> None:
        directory = tmp_path / ("d" * 120)
        directory.mkdir()
        listener = Listener(tmp_path / "channel")
        (directory / "channel").hardlink_to(listener.path)
        assert len(str(directory / "channel")) > 108
        connection = await dial(str(directory / "channel"))
        connection.send(b"hello")
        assert listener.accept().recv(5) == b"hello"
        connection.close()
        await connection.wait_closed()
        listener.close()

    async def test_full_queue_is_refused_at_once(self, tmp_path: Path) -> None:
        listener = Listener(tmp_path / "channel", backlog=0)
        first = await dial(listener.path)
        async with asyncio.timeout(1):
            with pytest.raises(ChannelUnreachableError):
                await dial(listener.path)
        first.close()
        await first.wait_closed()
        listener.close()

    async def test_no_file_left_for_a_socket(self, listener: Listener) -> None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        hogs = []
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(limit[0], 256), limit[1]))
            with contextlib.suppress(OSError):
                while True:
                    hogs.append(os.open("/", os.O_RDONLY))
            with pytest.raises(ChannelUnreachableError):
                await dial(listener.path)
        finally:
            for hog in hogs:
                os.close(hog)
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)

    async def test_failures_leak_no_file(self, listener: Listener, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        before = open_files()
        for path, pid in ((listener.path, 1), (str(tmp_path / "file"), None), (str(tmp_path / "nothing"), None)):
            with pytest.raises((ChannelUnreachableError, ForeignSocketError)):
                await dial(path, pid)
        assert open_files() == before


def serve_in_child(path: str, pipe: Pipe) -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(4)
    pipe.send(os.getpid())
    pipe.poll(30)


@pytest.fixture
def child(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """A process of its own that serves a socket: its path, its process id."""
    path = str(tmp_path / "childs")
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve_in_child, args=(path, theirs))
    process.start()
    assert ours.poll(20)
    yield path, ours.recv()
    ours.send("end")
    process.join(10)
    assert process.exitcode == 0
    process.close()
    ours.close()
    theirs.close()


async def test_the_process_that_listens_is_the_one_that_counts(child: tuple[str, int]) -> None:
    path, pid = child
    connection = await dial(path, pid)
    connection.close()
    await connection.wait_closed()
    for foreign in (os.getpid(), 1, 0):
        with pytest.raises(ForeignSocketError, match=str(pid)):
            await dial(path, foreign)


class TestUnread:
    async def test_counts_our_queue_and_the_kernels(self, listener: Listener) -> None:
        connection = await dial(listener.path)
        peer = listener.accept()
        connection.send(b"x")
        alone = connection.unread_bytes()
        assert alone >= 1  # the kernel counts its own overhead, too
        while connection._transport is not None and not connection._transport.get_write_buffer_size():
            connection.send(b"y" * 4096)
        full = connection.unread_bytes()
        connection.send(b"z" * 8192)  # for which the kernel has no room
        assert connection.unread_bytes() == full + 8192
        peer.setblocking(False)
        while connection.unread_bytes():
            try:
                peer.recv(1 << 20)
            except BlockingIOError:
                await asyncio.sleep(0)
        connection.close()
        await connection.wait_closed()

    async def test_waiting_in_line_is_unread(self, tmp_path: Path) -> None:
        listener = Listener(tmp_path / "channel", backlog=4)
        first, second = await dial(listener.path), await dial(listener.path)
        peer = listener.accept()
        for connection in (first, second):
            connection.send(b"refresh\n")
        assert peer.recv(100) == b"refresh\n"
        assert (first.unread_bytes(), second.unread_bytes() > 0) == (0, True)
        for connection in (first, second):
            connection.close()
            await connection.wait_closed()
        listener.close()

    async def test_peer_that_does_not_read_is_cut_off_at_the_limit(self, listener: Listener) -> None:
        connection = await dial(listener.path)
        listener.accept()
        most = 0
        transport = connection._transport
        assert transport is not None
        while not transport.is_closing():
            most = max(most, transport.get_write_buffer_size())
            connection.send(b"x" * 1000)
        await connection.wait_closed()
        assert SEND_LIMIT_BYTES / 2 < most <= SEND_LIMIT_BYTES


class TestInUse:
    async def test_nobody_one_and_one_in_line(self, tmp_path: Path) -> None:
        listener = Listener(tmp_path / "channel", backlog=4)
        dialer = UnixDialer()
        assert not await dialer.is_in_use(listener.path)
        program = socket.socket(socket.AF_UNIX)
        program.connect(listener.path)
        assert not await dialer.is_in_use(listener.path)  # QEMU has not taken it yet
        served = listener.accept()
        assert await dialer.is_in_use(listener.path)
        ours = await dial(listener.path)
        program.close()
        served.close()
        assert not await dialer.is_in_use(listener.path)
        ours.close()
        await ours.wait_closed()
        listener.close()

    async def test_of_another_path_with_the_same_end(self, tmp_path: Path) -> None:
        listener = Listener(tmp_path / "channel")
        program = socket.socket(socket.AF_UNIX)
        program.connect(listener.path)
        listener.accept()
        dialer = UnixDialer()
        assert await dialer.is_in_use(listener.path)
        assert not await dialer.is_in_use("channel")
        assert not await dialer.is_in_use(listener.path[: len(listener.path) // 2])
        program.close()
        listener.close()

    @pytest.mark.parametrize(
        "name", ["with blank", "trailing ", "li\nne", "carriage\rreturn", "a[b].*", "ünï", "\udcff"]
    )
    async def test_any_name_that_a_file_may_have(self, name: str, tmp_path: Path) -> None:
        listener = Listener(tmp_path / name)
        program = socket.socket(socket.AF_UNIX)
        program.connect(listener.path)
        listener.accept()
        assert await UnixDialer().is_in_use(listener.path)
        program.close()
        listener.close()

    def test_lines_that_it_does_not_know(self) -> None:
        assert not _has_socket(b"", b"/x", b"03")
        assert not _has_socket(b"Num RefCount Protocol Flags Type St Inode Path\n/x\n 03 /x\n", b"/x", b"03")


class TestFlood:
    async def test_is_read_in_small_pieces_and_not_for_long(self, tmp_path: Path) -> None:
        listener, pieces = Listener(tmp_path / "channel"), list[int]()
        heard_burst, heard_more = asyncio.Event(), asyncio.Event()

        def receive(data: bytes) -> None:
            pieces.append(len(data))
            if sum(pieces) >= READ_BURST_BYTES:
                heard_burst.set()
            if sum(pieces) >= READ_BURST_BYTES + 4 * READ_BYTES:
                heard_more.set()

        connection = await UnixDialer().dial(listener.path, os.getpid(), receive)
        guest = listener.accept()
        flood = threading.Thread(target=_send_until_closed, args=(guest,))
        flood.start()
        loop = asyncio.get_running_loop()
        begin = loop.time()
        await asyncio.wait_for(heard_burst.wait(), 10)
        for _ in range(20):  # as fast as the loop turns
            await asyncio.sleep(0)
        allowed = READ_BURST_BYTES + READ_BYTES + (loop.time() - begin) * READ_RATE_BYTES_S
        assert sum(pieces) <= allowed
        assert max(pieces) <= READ_BYTES
        await asyncio.wait_for(heard_more.wait(), 10)  # it goes on, slowly
        connection.close()
        await connection.wait_closed()
        guest.close()
        flood.join()
        listener.close()


def _send_until_closed(guest: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            guest.sendall(b"x\n" * 32768)


class TestAwaited:
    async def test_only_a_client_that_was_not_accepted_waits(self, tmp_path: Path) -> None:
        listener, dialer = Listener(tmp_path / "channel"), UnixDialer()
        served, queued = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        served.connect(listener.path)
        listener.accept()
        assert not await dialer.is_awaited(listener.path)
        queued.connect(listener.path)
        assert await dialer.is_awaited(listener.path)
        listener.accept()
        assert not await dialer.is_awaited(listener.path)
        for program in (served, queued):
            program.close()
        listener.close()


class TestSharedRead:
    async def test_who_asks_at_the_same_time_gets_an_answer_of_his_own(self, tmp_path: Path) -> None:
        used, unused = Listener(tmp_path / "used"), Listener(tmp_path / "unused")
        program = socket.socket(socket.AF_UNIX)
        program.connect(used.path)
        used.accept()
        dialer = UnixDialer()
        answers = await asyncio.gather(*(dialer.is_in_use(path) for path in (used.path, unused.path) * 20))
        assert answers == [True, False] * 20
        program.close()
        used.close()
        unused.close()

    async def test_one_who_gives_up_takes_nobody_along(self, listener: Listener) -> None:
        dialer = UnixDialer()
        asked = [asyncio.create_task(dialer.is_in_use(listener.path)) for _ in range(3)]
        await asyncio.sleep(0)
        asked[0].cancel()
        assert await asyncio.gather(*asked[1:]) == [False, False]
        assert asked[0].cancelled()

    async def test_a_later_question_is_answered_anew(self, listener: Listener) -> None:
        dialer = UnixDialer()
        assert not await dialer.is_in_use(listener.path)
        program = socket.socket(socket.AF_UNIX)
        program.connect(listener.path)
        listener.accept()
        assert await dialer.is_in_use(listener.path)
        program.close()
