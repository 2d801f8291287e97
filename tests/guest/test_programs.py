"""Child processes: started, told of once, killed in time, and never waited for."""

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from sidecar.guest import programs as programs_module
from sidecar.guest.programs import RUNNING_LIMIT, Programs
from tests.guest.reports.guest_tree import plant_program
from tests.lab.waiting import wait_for

PATIENCE_S = 10.0
HANG = ["sleep", "600"]


class Watch:
    """Programs with an epoll of their own, and what they told."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.programs = Programs(self.epoll)
        self.ended: list[str] = []

    def start(self, *command: str, limit_s: float = 60.0, stdin: bytes = b"", **extra: str) -> bool:
        name = command[0]
        return self.programs.start(command, limit_s, lambda: self.ended.append(name), stdin=stdin, extra=extra)

    def only_pid(self) -> int:
        (child,) = self.programs._children.values()
        return child.process.pid

    def serve(self) -> None:
        """The next event; every one of them is a child's end."""
        ((fd, _),) = self.epoll.poll(PATIENCE_S, 1)
        assert self.programs.reap(fd)


@pytest.fixture
def watch() -> Iterator[Watch]:
    watch = Watch()
    yield watch
    watch.programs.close()
    watch.epoll.close()


def is_gone(pid: int) -> bool:
    """Whether it has ended, somebody having waited for it or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_program_gets_all_it_was_given(watch: Watch, tmp_path: Path) -> None:
    plant_program(tmp_path, "show", f'printf "%s|" "$@" "$KEY" >{tmp_path}/out; cat >>{tmp_path}/out; echo noise')
    assert watch.start(f"{tmp_path}/show", "a b", "$(id)", "", stdin=b'{"password": "x"}', KEY="value")
    assert watch.ended == []
    watch.serve()
    assert watch.ended == [f"{tmp_path}/show"]
    assert (tmp_path / "out").read_text() == 'a b|$(id)||value|{"password": "x"}'
    assert watch.programs.deadline == float("inf")


def test_its_input_is_in_no_pipe_that_could_be_full(watch: Watch, tmp_path: Path) -> None:
    stdin = json.dumps({"login": "x" * 1_000_000}).encode()
    plant_program(tmp_path, "late", f"read go <{tmp_path}/go; cat >{tmp_path}/out")
    os.mkfifo(tmp_path / "go")
    before = time.monotonic()
    assert watch.start(f"{tmp_path}/late", stdin=stdin)
    assert time.monotonic() - before < 1  # and it has read nothing of it yet
    (tmp_path / "go").write_text("go\n")
    watch.serve()
    assert (tmp_path / "out").read_bytes() == stdin


def test_it_has_a_session_of_its_own_and_none_of_our_descriptors(watch: Watch) -> None:
    assert watch.start(*HANG)
    pid = watch.only_pid()
    assert os.getsid(pid) == pid
    # Its loader has a file open for a moment; ours would stay.
    wait_for(lambda: sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2"], PATIENCE_S, "no other descriptors")
    assert os.readlink(f"/proc/{pid}/fd/1") == os.devnull


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("exit 0", ""),
        ("exit 3", "ended with status 3"),
        ("kill -USR1 $$", f"ended with status -{signal.SIGUSR1.value}"),
    ],
)
def test_how_it_ended_is_in_the_log(
    body: str, said: str, watch: Watch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plant_program(tmp_path, "end", body)
    watch.start(f"{tmp_path}/end")
    watch.serve()
    assert caplog.messages == ([f"{tmp_path}/end: {said}"] if said else [])


@pytest.mark.parametrize("mode", [None, 0o644, 0o755], ids=["missing", "not executable", "no program"])
def test_what_cannot_be_started_says_so(
    mode: int | None, watch: Watch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if mode is not None:
        (tmp_path / "odd").write_bytes(b"\x7fELF" if mode == 0o755 else b"")
        (tmp_path / "odd").chmod(mode)
    before = os.listdir("/proc/self/fd")
    assert not watch.start(f"{tmp_path}/odd", stdin=b"secret")
    assert not watch.start("a\0b")
    assert watch.ended == []
    assert len(caplog.messages) == 2
    assert caplog.messages[0].startswith(f"{tmp_path}/odd: not started: ")
    assert "secret" not in caplog.text
    assert os.listdir("/proc/self/fd") == before


def test_what_takes_too_long_is_killed_with_its_children(
    watch: Watch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plant_program(tmp_path, "hang", f"trap '' TERM; sleep 600 & echo $$ $! >{tmp_path}/pids; wait")
    watch.start(f"{tmp_path}/hang", limit_s=60)
    wait_for(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text(), PATIENCE_S, "the script")
    watch.programs.tick(watch.programs.deadline - 0.001)
    assert watch.ended == []
    watch.programs.tick(watch.programs.deadline)
    # It counts as ended, though nobody has seen its end yet: one that hangs in the kernel has none.
    assert watch.ended == [f"{tmp_path}/hang"]
    assert watch.programs.deadline == float("inf")
    watch.programs.tick(time.monotonic() + 10_000)
    watch.serve()
    assert watch.ended == [f"{tmp_path}/hang"]
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        wait_for(partial(is_gone, pid), PATIENCE_S, f"the end of {pid}")
    assert caplog.messages == [f"{tmp_path}/hang: killed: it did not end in time"]


def test_the_end_of_one_that_was_killed_starts_another(watch: Watch) -> None:
    watch.programs.start(HANG, 1.0, lambda: watch.ended.append(str(watch.start(*HANG))), stdin=b"", extra={})
    watch.programs.tick(watch.programs.deadline)
    assert watch.ended == ["True"]
    assert watch.programs.deadline < float("inf")


def test_no_more_than_so_many_at_once(watch: Watch, caplog: pytest.LogCaptureFixture) -> None:
    assert all(watch.start(*HANG, limit_s=60 + number) for number in range(RUNNING_LIMIT))
    first = watch.programs.deadline
    assert not watch.start("true")
    assert caplog.messages == [f"true: not started: {RUNNING_LIMIT} programs run already"]
    watch.programs.tick(first)
    watch.serve()
    assert watch.start("true")
    assert watch.ended == ["sleep"]


def test_what_is_none_of_its_children_is_somebody_elses(watch: Watch) -> None:
    assert not watch.programs.reap(0)


def test_nothing_outlives_it_and_nobody_is_told(watch: Watch) -> None:
    watch.start(*HANG)
    pid = watch.only_pid()
    watch.programs.close()
    assert not Path(f"/proc/{pid}").exists()
    assert watch.ended == []


def test_a_stop_does_not_wait_for_what_cannot_be_killed(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(programs_module, "_kill", lambda _pid: None)
        patch.setattr(programs_module, "CLOSE_S", 0.05)
        for _ in range(RUNNING_LIMIT):
            watch.start(*HANG)
        before = time.monotonic()
        watch.programs.close()
        assert time.monotonic() - before < 1


def test_no_descriptor_is_left(watch: Watch) -> None:
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        watch.start("true", stdin=b"x")
        watch.serve()
    assert os.listdir("/proc/self/fd") == before
    assert subprocess._active == []  # type: ignore[attr-defined]
