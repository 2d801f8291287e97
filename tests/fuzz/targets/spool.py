"""The spool and the hook's own file: any name, content and kind of entry, and one look that makes notices of them."""

import os
import shlex
import tempfile
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import TypeVar

from sidecar.adapters.hook_file import HookPaths, HookState, judge, render_hook
from sidecar.adapters.spool import Problem, Spool, parse_notice
from sidecar.engine.notices import HookNotice
from tests.fuzz.script import byte, run_steps

WORDS = (
    *(f"libvirt-sidecar notice 1\n{name}\nbegin\nvm1\0".encode() for name in ("started", "migrate", "release")),
    b"libvirt-sidecar notice 1\n",
    b"restore\n-\n",
    b"\xffk",
    b"\xffh#!/bin/sh\n# This file belongs to libvirt-sidecar:",
    b"\xffq",
)

T = TypeVar("T")

LIMIT_BYTES = 4096


class Walk:
    """One directory, and what has to come of what was put into it."""

    def __init__(self, place: Path) -> None:
        self.place, self.directory = place, place / "spool"
        self.directory.mkdir(0o700)
        self.expected: set[HookNotice] = set()
        self.unfinished: set[bytes] = set()
        self.stuck: set[bytes] = set()
        self.count = 0

    def new_path(self) -> bytes:
        while os.path.lexists(path := os.fsencode(self.directory) + b"/%d" % self.count):
            self.count += 1
        return path

    def drop(self, content: bytes) -> None:
        """A file; it lies there when the spool is looked at, so that a good one has to be delivered."""
        path = self.new_path()
        Path(os.fsdecode(path)).write_bytes(content)
        self.expect(path, content)

    def drop_named(self, argument: bytes) -> None:
        """A file under any name that the kernel takes."""
        name, _, content = argument.partition(b"\n\n")
        name = name.replace(b"/", b"").replace(b"\0", b"")[:255]
        path = os.fsencode(self.directory) + b"/" + name
        if name in (b"", b".", b"..") or os.path.lexists(path):
            return
        Path(os.fsdecode(path)).write_bytes(content)
        self.expect(path, content)

    def expect(self, path: bytes, content: bytes) -> None:
        found = parse_notice(content)
        if len(content) > LIMIT_BYTES:
            return
        if isinstance(found, HookNotice):
            check_notice(found, content)
            self.expected.add(found)
        elif found is Problem.YOUNG:
            self.unfinished.add(path)

    def make_other(self, argument: bytes) -> None:
        """What is no file."""
        path = os.fsdecode(self.new_path())
        match byte(argument) % 4:
            case 0:
                os.symlink("/etc/hostname", path)
            case 1:
                os.mkfifo(path)
            case 2:
                os.mkdir(path)
            case _:
                Path(path, "inside").mkdir(parents=True)
                self.stuck.add(os.fsencode(path))

    def judge_hook(self, argument: bytes) -> None:
        """A file where the hook should be: ours by its second line, and whole only to the byte."""
        target = self.place / "hook"
        target.write_bytes(argument)
        wanted = render_hook(HookPaths("/a", "/b", "/c", "/d"))
        marked = argument.partition(b"\n")[2].startswith(b"# This file belongs to libvirt-sidecar:")
        assert judge(target, wanted) is (HookState.OUTDATED if marked else HookState.FOREIGN)
        target.write_bytes(wanted)
        target.chmod(0o755)
        assert judge(target, wanted) is HookState.INSTALLED

    def quote_path(self, argument: bytes) -> None:
        """Whatever the path, the shell reads it as one word, and the rest of the hook stays as it is."""
        path = argument.replace(b"\0", b"").decode("utf-8", "replace")
        text = render_hook(HookPaths(path, path, path, path)).decode()
        plain = render_hook(HookPaths("", "", "", "")).decode()
        quoted = "'" + path.replace("'", "'\\''") + "'"
        assert shlex.split(quoted) == [path]
        assert text == plain.replace("=''\n", f"={quoted}\n")

    def look(self) -> None:
        """One look at the directory: every good notice once, everything gone but what may still be written."""
        spool = Spool(self.directory, self.refuse)
        fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            batch = run_to_end(spool._read_files(fd))
        finally:
            os.close(fd)
        assert Counter(batch.notices.keys()) == Counter(self.expected)
        left = {os.fsencode(path) for path in self.directory.iterdir()}
        assert left == self.unfinished | self.stuck
        assert batch.has_young == bool(self.unfinished)

    async def refuse(self, notice: HookNotice) -> None:
        raise AssertionError(notice)


def run_to_end(look: Coroutine[object, None, T]) -> T:
    """What only lets others run needs no loop; one for each input would take most of the time."""
    while True:
        try:
            look.send(None)
        except StopIteration as ended:
            found: T = ended.value
            return found


def check_notice(notice: HookNotice, content: bytes) -> None:
    """A notice says what stands in the file, and nothing else does."""
    header, operation, _, name = content[:-1].split(b"\n", 3)
    assert content.endswith(b"\0")
    assert header == b"libvirt-sidecar notice 1"
    assert (notice.operation.encode(), notice.domain.encode()) == (operation, name)


STEPS = {
    ord("n"): Walk.drop_named,
    ord("k"): Walk.make_other,
    ord("h"): Walk.judge_hook,
    ord("q"): Walk.quote_path,
}


def check(data: bytes) -> None:
    """The entries, and a look at them."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as place:
        walk = Walk(Path(place))
        run_steps(walk, data, STEPS, Walk.drop, lambda _: None)
        walk.look()
