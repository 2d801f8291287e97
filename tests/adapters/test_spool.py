"""The spool against a real directory and real inotify."""

# What is waited for here are states of a directory, which no asyncio.Event tells; and a test may block its own loop.
# ruff: noqa: ASYNC110, ASYNC240

import asyncio
import itertools
import logging
import os
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sidecar.adapters import spool as spool_module
from sidecar.adapters.spool import Spool, parse_notice
from sidecar.engine.notices import HookNotice
from sidecar.errors import ConfigurationError

LIMIT_S = 20
OTHER_UID = 61234
_numbers = itertools.count()

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files to other users")


def render(name: str = "vm1", operation: str = "started") -> bytes:
    return f"libvirt-sidecar notice 1\n{operation}\nbegin\n{name}\0".encode()


def drop(directory: Path, data: bytes) -> Path:
    file = directory / f"file.{next(_numbers)}"
    file.write_bytes(data)
    return file


class Desk:
    """Where notices are delivered; tests wait for conditions on what has come."""

    def __init__(self) -> None:
        self.notices: list[HookNotice] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self._changed = asyncio.Condition()

    async def receive(self, notice: HookNotice) -> None:
        async with self._changed:
            self.notices.append(notice)
            self._changed.notify_all()
        await self.gate.wait()

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT_S), self._changed:
            await self._changed.wait_for(condition)

    async def wait_for_name(self, name: str) -> None:
        await self.wait_for(lambda: any(notice.domain == name for notice in self.notices))


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory where possible, as the real spool is: thousands of files are made here."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "spool"
    path.mkdir(0o700)
    return path


@pytest.fixture
def desk() -> Desk:
    return Desk()


@asynccontextmanager
async def running(directory: Path, desk: Desk) -> AsyncIterator[Spool]:
    """A spool that runs, and has certainly begun to watch."""
    spool = Spool(directory, desk.receive)
    task = asyncio.create_task(spool.run())
    await see_next(directory, desk)
    try:
        yield spool
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def see_next(directory: Path, desk: Desk) -> None:
    """Return when the spool has looked at the directory as it is now: a notice of our own came back."""
    name = f"probe {next(_numbers)}"
    async with asyncio.timeout(LIMIT_S):
        while not directory.is_dir():
            await asyncio.sleep(0)
    drop(directory, render(name))
    await desk.wait_for_name(name)


def is_empty(directory: Path) -> bool:
    with os.scandir(directory) as entries:
        return next(entries, None) is None


async def see_empty(directory: Path, desk: Desk) -> None:
    """Return when all that was in the directory has been delivered or dropped."""
    async with asyncio.timeout(LIMIT_S):
        while not is_empty(directory):
            await asyncio.sleep(0)
    await see_next(directory, desk)


def real(desk: Desk) -> list[HookNotice]:
    return [notice for notice in desk.notices if not notice.domain.startswith("probe ")]


async def test_what_was_left_comes_first_in_its_order(directory: Path, desk: Desk) -> None:
    for name, operation in (("b", "migrate"), ("a", "started"), ("b", "started")):
        drop(directory, render(name, operation))
    async with running(directory, desk):
        assert real(desk) == [HookNotice("b", "migrate"), HookNotice("a", "started"), HookNotice("b", "started")]
        assert list(directory.iterdir()) == []


async def test_what_comes_later(directory: Path, desk: Desk) -> None:
    async with running(directory, desk):
        drop(directory, render("a\nb", "stopped"))
        await desk.wait_for_name("a\nb")
        assert real(desk) == [HookNotice("a\nb", "stopped")]
        assert list(directory.iterdir()) == []


async def test_a_file_that_is_renamed_into_the_spool(directory: Path, desk: Desk, tmp_path: Path) -> None:
    async with running(directory, desk):
        drop(tmp_path, render("moved")).rename(directory / "x")
        await desk.wait_for_name("moved")


async def test_thousands_at_once_become_few(directory: Path, desk: Desk) -> None:
    for number in range(5000):
        drop(directory, render(f"vm{number % 10}"))
    async with running(directory, desk):
        await see_empty(directory, desk)
        # Once a batch at most, not once a file.
        assert 10 <= len(real(desk)) <= 10 * (5000 // 1024 + 1)
        assert {notice.domain for notice in real(desk)} == {f"vm{number}" for number in range(10)}
        assert list(directory.iterdir()) == []


async def test_thousands_of_different_ones_all_come(directory: Path, desk: Desk) -> None:
    for number in range(3000):
        drop(directory, render(f"vm{number}"))
    async with running(directory, desk):
        await see_empty(directory, desk)
        assert len(real(desk)) == len({notice.domain for notice in real(desk)}) == 3000


async def test_the_loop_runs_on_while_thousands_are_read(directory: Path, desk: Desk) -> None:
    for _ in range(2000):
        drop(directory, render())
    rounds = 0
    spool = Spool(directory, desk.receive)
    task = asyncio.create_task(spool.run())
    while not is_empty(directory):
        await asyncio.sleep(0)
        rounds += 1
    task.cancel()
    assert rounds >= 2000 // 32


async def test_many_events_are_answered_with_few_looks(
    directory: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    scan = os.scandir

    def count(fd: int) -> object:
        nonlocal looks
        looks += 1
        return scan(fd)

    async with running(directory, desk):
        for number in range(500):
            drop(directory, render(f"vm{number}"))
        monkeypatch.setattr(os, "scandir", count)
        await desk.wait_for(lambda: len(real(desk)) == 500)
        await see_next(directory, desk)
        monkeypatch.undo()
    # The library reads some twenty or more events at a time; a look an event would be 500.
    assert looks <= 50


async def test_a_slow_receiver_leaves_files_in_the_spool(directory: Path, desk: Desk) -> None:
    async with running(directory, desk):
        desk.gate.clear()
        drop(directory, render("first"))
        await desk.wait_for_name("first")
        for number in range(100):
            drop(directory, render(f"vm{number % 2}"))
        for _ in range(1000):
            await asyncio.sleep(0)
        assert len(list(directory.iterdir())) == 100
        desk.gate.set()
        await desk.wait_for_name("vm1")
        assert [notice.domain for notice in real(desk)] == ["first", "vm0", "vm1"]


async def test_an_overflow_of_the_event_queue_loses_nothing(directory: Path, desk: Desk) -> None:
    queue = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    async with running(directory, desk):
        desk.gate.clear()
        drop(directory, render("first"))
        await desk.wait_for_name("first")
        for _ in range(queue + 100):
            drop(directory, render("many"))
        drop(directory, render("last"))
        desk.gate.set()
        await desk.wait_for_name("last")
        await see_empty(directory, desk)


async def test_a_directory_that_is_removed_comes_back(directory: Path, desk: Desk) -> None:
    async with running(directory, desk):
        directory.rmdir()
        await see_next(directory, desk)
        assert directory.stat().st_mode & 0o777 == 0o700


async def test_a_directory_that_is_exchanged(directory: Path, desk: Desk, tmp_path: Path) -> None:
    async with running(directory, desk):
        directory.rename(tmp_path / "old")
        directory.mkdir(0o700, exist_ok=True)
        await see_next(directory, desk)
        kept = drop(tmp_path / "old", render("old"))
        for _ in range(3):
            await see_next(directory, desk)
        assert kept.exists()


async def test_a_half_written_file_waits_for_its_end(directory: Path, desk: Desk) -> None:
    async with running(directory, desk):
        for size in (0, 5, 30):
            with (directory / "slow").open("wb", buffering=0) as file:
                data = render(f"slow {size}")
                file.write(data[:size])
                await see_next(directory, desk)
                assert (directory / "slow").exists()
                file.write(data[size:])
            await desk.wait_for_name(f"slow {size}")


async def test_a_half_written_file_is_given_up(
    directory: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(spool_module, "_UNFINISHED_S", 0.05)
    abandoned = [drop(directory, data) for data in (b"", render()[:-1], b"libvirt-s")]
    async with running(directory, desk), asyncio.timeout(LIMIT_S):
        while any(file.exists() for file in abandoned):
            await asyncio.sleep(0)
        assert real(desk) == []
        await see_next(directory, desk)
    assert "never written to its end" in caplog.text


async def test_a_half_written_file_from_the_future_is_given_up_at_once(
    directory: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(directory, b"")
    monkeypatch.setattr(time, "time_ns", lambda: 1)  # somebody has set the clock back
    async with running(directory, desk):
        await see_empty(directory, desk)


GARBAGE: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_bytes(b"hello\n"),
    "other version": lambda path: path.write_bytes(b"libvirt-sidecar notice 2\nstarted\nbegin\nvm1\0"),
    "unknown operation": lambda path: path.write_bytes(render(operation="prepare")),
    "empty name": lambda path: path.write_bytes(render("")),
    "second NUL": lambda path: path.write_bytes(render("a\0b")),
    "not UTF-8": lambda path: path.write_bytes(b"libvirt-sidecar notice 1\nstarted\nbegin\n\xff\xfe\0"),
    "too few lines": lambda path: path.write_bytes(b"libvirt-sidecar notice 1\nstarted\0"),
    "large": lambda path: path.write_bytes(render("x" * 5000)),
    "endless": lambda path: _make_endless(path),
    "link": lambda path: path.symlink_to("/etc/passwd"),
    "dangling link": lambda path: path.symlink_to("/nowhere"),
    "fifo": lambda path: os.mkfifo(path),
    "socket": lambda path: _bind(path),
    "empty directory": lambda path: path.mkdir(),
}


def _make_endless(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def _bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize("kind", GARBAGE)
async def test_garbage_is_dropped_with_one_line_a_kind(
    directory: Path, desk: Desk, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        GARBAGE[kind](directory / f"evil\n{number}")
    drop(directory, render("good"))
    async with running(directory, desk):
        assert real(desk) == [HookNotice("good", "started")]
        assert list(directory.iterdir()) == []
    assert len(caplog.records) == 1
    assert "3" in caplog.records[0].getMessage()
    assert caplog.records[0].levelno == logging.WARNING


@needs_root
async def test_another_users_file_is_dropped(directory: Path, desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    os.chown(drop(directory, render("foreign")), OTHER_UID, OTHER_UID)
    async with running(directory, desk):
        assert real(desk) == []
        assert list(directory.iterdir()) == []
    assert "owned by another user" in caplog.text


async def test_what_cannot_be_removed_is_logged_once(
    directory: Path, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    (directory / "full" / "inside").mkdir(parents=True)
    async with running(directory, desk):
        for _ in range(3):
            await see_next(directory, desk)
    assert len(caplog.records) == 1
    assert (directory / "full" / "inside").is_dir()


async def test_more_stuck_entries_than_a_batch_do_not_hide_the_rest(
    directory: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "_BATCH_FILES", 8)
    for number in range(7):
        (directory / f"{number}" / "inside").mkdir(parents=True)
    for number in range(50):
        drop(directory, render(f"vm{number}"))
    async with running(directory, desk):
        await desk.wait_for(lambda: len(real(desk)) == 50)


async def test_permissions_are_mended_while_running(
    directory: Path, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(directory, desk), asyncio.timeout(LIMIT_S):
        directory.chmod(0o777)
        while directory.stat().st_mode & 0o777 != 0o700:
            await asyncio.sleep(0)
    assert len([record for record in caplog.records if "open to others" in record.getMessage()]) == 1


async def test_a_directory_gone_bad_is_one_line_and_waited_for(
    directory: Path, desk: Desk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "_RETRY_S", 0.001)
    tried = 0
    prepare = Spool.prepare

    def count(spool: Spool) -> None:
        nonlocal tried
        tried += 1
        prepare(spool)

    monkeypatch.setattr(Spool, "prepare", count)
    (directory.parent / "elsewhere").mkdir()
    async with running(directory, desk), asyncio.timeout(LIMIT_S):
        for number in range(2):
            directory.rename(directory.parent / f"old{number}")
            directory.symlink_to("elsewhere")
            before = tried
            while tried < before + 3:
                await asyncio.sleep(0)
            directory.unlink()
            await see_next(directory, desk)
    # One line each time it goes bad, however often it was tried.
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert "symbolic link" in caplog.text


def test_prepare_creates_spool_and_parents_whatever_the_umask(tmp_path: Path, desk: Desk) -> None:
    path = tmp_path / "a" / "b" / "spool"
    before = os.umask(0o077)
    try:
        Spool(path, desk.receive).prepare()
    finally:
        os.umask(before)
    assert [p.stat().st_mode & 0o777 for p in (path, path.parent, path.parent.parent)] == [0o700, 0o755, 0o755]


def test_prepare_mends_permissions_with_one_warning(
    directory: Path, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    directory.chmod(0o775)
    for _ in range(2):
        Spool(directory, desk.receive).prepare()
    assert directory.stat().st_mode & 0o777 == 0o700
    assert len(caplog.records) == 1


def _make_link(path: Path) -> None:
    path.with_name("target").mkdir()
    path.symlink_to("target")


@pytest.mark.parametrize(
    ("spoil", "expectation"),
    [
        (_make_link, "symbolic link"),
        (lambda path: path.symlink_to("nowhere"), "symbolic link"),
        (lambda path: path.write_bytes(b""), "Not a directory"),
        (lambda path: os.mkfifo(path), "Not a directory"),
    ],
)
def test_prepare_refuses(directory: Path, desk: Desk, spoil: Callable[[Path], None], expectation: str) -> None:
    directory.rmdir()
    spoil(directory)
    with pytest.raises(ConfigurationError, match=rf"^paths\.spool: .*{expectation}"):
        Spool(directory, desk.receive).prepare()


@needs_root
def test_prepare_refuses_another_users_directory(directory: Path, desk: Desk) -> None:
    directory.chmod(0o777)
    os.chown(directory, OTHER_UID, OTHER_UID)
    with pytest.raises(ConfigurationError, match=f"belongs to uid {OTHER_UID}"):
        Spool(directory, desk.receive).prepare()
    assert directory.stat().st_mode & 0o777 == 0o777


def test_prepare_refuses_a_spool_below_a_file(tmp_path: Path, desk: Desk) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"^paths\.spool: "):
        Spool(tmp_path / "file" / "spool", desk.receive).prepare()


def test_every_beginning_of_a_notice_may_still_become_one() -> None:
    data = render("a\nb")
    assert {parse_notice(data[:size]) for size in range(len(data))} == {spool_module.Problem.YOUNG}
    assert parse_notice(data) == HookNotice("a\nb", "started")
