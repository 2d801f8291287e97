"""The spool in any order of events: files that come whole, in pieces, under any name, vanish, or are none at all.

Between two looks at the directory its loop stands still, so that everything that lies there by then counts, and each
good notice has to come exactly once.
"""

# What is waited for is the state of a directory, which no asyncio.Event tells.
# ruff: noqa: ASYNC110

import asyncio
import os
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from sidecar.adapters import spool as spool_module
from sidecar.adapters.spool import Spool
from sidecar.engine.notices import HookNotice
from tests.adapters.test_spool import Desk, render

# To end a hang, on a machine that is busy with other things.
LIMIT_S = 240
OTHER_UID = 61234
OPERATIONS = ("started", "reconnect", "stopped", "release", "migrate", "restore")
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def make_foreign(path: Path) -> None:
    """Another user's; where we may not give files away, somebody's of another format."""
    path.write_bytes(render("foreign") if os.geteuid() == 0 else b"foreign")
    if os.geteuid() == 0:
        os.chown(path, OTHER_UID, OTHER_UID)


NO_NOTICES: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_bytes(b"hello\n"),
    "unknown operation": lambda path: path.write_bytes(render(operation="prepare")),
    "two notices": lambda path: path.write_bytes(render() * 2),
    "large": lambda path: path.write_bytes(render("x" * 5000)),
    "foreign": make_foreign,
    "link": lambda path: path.symlink_to("/etc/passwd"),
    "fifo": os.mkfifo,
    "socket": make_socket,
    "directory": Path.mkdir,
}


class Life(RuleBasedStateMachine):
    """One directory, the spool that runs on it, and what has to come of it."""

    batch_files = 16
    # Listing a few entries takes nothing; listing thousands keeps the spool from its work.
    interval_s = 0.001

    @initialize()
    def begin(self) -> None:
        self.stack = ExitStack()
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.place = Path(self.stack.enter_context(tempfile.TemporaryDirectory(dir=memory)))
        self.directory = self.place / "spool"
        self.directory.mkdir(0o700)
        self.age_s, self.count = 0.0, 0
        self.wanted: Counter[HookNotice] = Counter()
        self.unfinished: dict[Path, bytes] = {}
        self.stuck: set[Path] = set()
        self.patch()
        self.runner = self.stack.enter_context(asyncio.Runner())
        self.start()

    def patch(self) -> None:
        """A file grows old when we say so; batches are small, and what is retried is retried at once."""
        clock = SimpleNamespace(time_ns=lambda: time.time_ns() + int(self.age_s * 1e9))
        constants = {
            "time": clock,
            "_UNFINISHED_S": 1e5,
            "_BATCH_FILES": self.batch_files,
            "_RETRY_S": 0.001,
            "_REARM_S": 0.001,
        }
        for name, value in constants.items():
            self.stack.enter_context(mock.patch.object(spool_module, name, value))

    def start(self) -> None:
        self.desk = Desk()
        self.task = self.runner.get_loop().create_task(Spool(self.directory, self.desk.receive).run())

    def new_path(self) -> Path:
        self.count += 1
        return self.directory / f"{self.count}"

    def new_notice(self, name: str, operation: str) -> tuple[HookNotice, bytes]:
        """Unlike every other."""
        self.count += 1
        domain = f"{self.count} {name}"
        return HookNotice(domain, operation), render(domain, operation)

    # Files come and go.

    @rule(name=NAMES, operation=st.sampled_from(OPERATIONS), copies=st.integers(1, 3), moved=st.booleans())
    def drop(self, name: str, operation: str, copies: int, moved: bool) -> None:
        notice, data = self.new_notice(name, operation)
        for _ in range(copies):
            path = self.new_path()
            (self.place / "new" if moved else path).write_bytes(data)
            if moved:
                (self.place / "new").rename(path)
        self.wanted[notice] += copies

    @rule(count=st.integers(17, 60))
    def drop_many(self, count: int) -> None:
        """More than a batch."""
        for _ in range(count):
            self.drop("many", "started", 1, moved=False)

    @precondition(lambda self: len(self.unfinished) < 8)  # a batch of them makes the others wait until they are old
    @rule(name=NAMES, size=st.integers(0, 60), beginning=st.binary(max_size=3))
    def begin_file(self, name: str, size: int, beginning: bytes) -> None:
        """The hook was interrupted in the middle; under a name that nobody's hook gives."""
        _, data = self.new_notice(name, "started")
        size = min(size, len(data) - 1)
        path = self.directory / (os.fsdecode(beginning.replace(b"/", b"").replace(b"\0", b"")) + f" {self.count}")
        path.write_bytes(data[:size])
        self.unfinished[path] = data[size:]

    @precondition(lambda self: self.unfinished)
    @rule(data=st.data())
    def end_file(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(self.unfinished)))
        with path.open("ab") as file:
            file.write(self.unfinished.pop(path))
        _, operation, _, name = path.read_bytes()[:-1].decode().split("\n", 3)
        self.wanted[HookNotice(name, operation)] += 1

    @precondition(lambda self: self.unfinished)
    @rule(data=st.data())
    def vanish(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(self.unfinished)))
        path.unlink()
        del self.unfinished[path]

    @rule(kind=st.sampled_from(sorted(NO_NOTICES)), count=st.integers(1, 3))
    def drop_no_notice(self, kind: str, count: int) -> None:
        for _ in range(count):
            NO_NOTICES[kind](self.new_path())

    @precondition(lambda self: len(self.stuck) < 5)
    @rule()
    def drop_what_cannot_be_removed(self) -> None:
        path = self.new_path()
        (path / "inside").mkdir(parents=True)
        self.stuck.add(path)

    @rule()
    def grow_old(self) -> None:
        """What is unfinished by now never will be finished."""
        self.age_s += 1e6
        self.unfinished.clear()
        self.look()
        self.age_s = 0.0

    # The directory and its reader.

    @rule()
    def look(self) -> None:
        """Everything that lies there has been looked at: what remains is what has to."""
        self.runner.run(self.settle())
        came = Counter(notice for notice in self.desk.notices if not notice.domain.startswith("probe "))
        assert came.keys() == self.wanted.keys()
        # Of equal ones each batch gives one.
        assert all(1 <= came[notice] <= copies for notice, copies in self.wanted.items())
        self.wanted.clear()
        self.desk.notices.clear()

    async def settle(self) -> None:
        async with asyncio.timeout(LIMIT_S):
            self.drop_probe("first")  # that something has grown old wakes nobody
            while {*self.directory.iterdir()} != {*self.unfinished} | self.stuck:
                await asyncio.sleep(self.interval_s)
            # What was read last has been delivered once this came.
            self.drop_probe("last")
            await self.desk.wait_for_name("probe last")

    def drop_probe(self, name: str) -> None:
        (self.directory / f"probe {name}").write_bytes(render(f"probe {name}"))

    @rule()
    def restart(self) -> None:
        """The daemon ends, and another one finds what lies there by then."""
        self.look()
        self.stop()
        self.start()

    def stop(self) -> None:
        self.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            self.runner.run(self.wait_for_end())

    async def wait_for_end(self) -> None:
        await self.task

    @rule()
    def exchange(self) -> None:
        """Another directory is there now; what is put into the first one does not count any more."""
        self.look()
        self.count += 1
        self.directory.rename(self.place / f"old {self.count}")
        self.directory.mkdir(0o700)
        self.unfinished.clear()
        self.stuck.clear()

    def teardown(self) -> None:
        if not hasattr(self, "runner"):
            return
        with self.stack:
            self.look()
            self.stop()


TestLife = pytest.mark.thorough(Life.TestCase)
TestLife.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


@pytest.mark.thorough
def test_ten_thousand_files_of_all_kinds() -> None:
    """Ten thousand at once, a third of them no good: each good one comes exactly once, and nothing is left."""
    life = Life()
    life.batch_files, life.interval_s = spool_module._BATCH_FILES, 0.25
    life.begin()
    kinds = sorted(NO_NOTICES)
    for number in range(10_000):
        if number % 3:
            life.drop("many", OPERATIONS[number % 6], 1, moved=False)
        elif number % 18:
            NO_NOTICES[kinds[number // 3 % len(kinds)]](life.new_path())
        else:
            life.begin_file("half", number % 60, b"")
    wanted = 10_000 * 2 // 3
    assert len(life.wanted) in (wanted, wanted + 1)
    life.look()
    life.grow_old()
    life.teardown()
