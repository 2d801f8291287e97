"""Hooks: which run, in what order, for how long; and the answer that always comes."""

import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.guest.hooks import WAITING_LIMIT, Hooks, LifecycleEvent
from sidecar.guest.programs import RUNNING_LIMIT, Programs
from tests.guest.reports.guest_tree import plant_program

PATIENCE_S = 10.0
LIMIT_S = 60.0


class Rig:
    """A hooks.d, and the events that were answered in the order in which they were."""

    def __init__(self, folder: Path, limit_s: float = LIMIT_S) -> None:
        self.folder, self.output = folder / "hooks.d", folder / "output"
        self.folder.mkdir()
        self.epoll = select.epoll()
        self.programs = Programs(self.epoll)
        self.hooks = Hooks(self.folder, limit_s, self.programs)
        self.answered: list[str] = []

    def plant(self, kind: str, name: str, body: str = "") -> None:
        plant_program(self.folder / kind, name, f'{body}\necho {name} "$@" >>{self.output}')

    def run(self, kind: str, *, failure: bool = False, name: str = "") -> None:
        self.hooks.run(LifecycleEvent(kind, failure), lambda: self.answered.append(name or kind))

    def serve(self, answers: int) -> None:
        """Let hooks run until so many events are answered."""
        while len(self.answered) < answers:
            ((fd, _),) = self.epoll.poll(PATIENCE_S, 1)
            assert self.programs.reap(fd)

    def ran(self) -> list[str]:
        return self.output.read_text().splitlines() if self.output.exists() else []


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.programs.close()
    rig.epoll.close()


def test_in_the_order_of_their_names_without_arguments(rig: Rig) -> None:
    for name in ("90-last", "10-first", "50-Middle", "50-middle"):
        rig.plant("before_migration", name)
    rig.plant("after_migration", "another")
    rig.run("before_migration")
    assert rig.answered == []
    rig.serve(1)
    assert rig.ran() == ["10-first", "50-Middle", "50-middle", "90-last"]
    assert rig.answered == ["before_migration"]


@pytest.mark.parametrize("failure", [False, True])
def test_they_are_told_what_happened(failure: bool, rig: Rig) -> None:
    rig.plant("after_migration", "tell", f'echo "$SIDECAR_EVENT $SIDECAR_FAILURE" >>{rig.output}')
    rig.run("after_migration", failure=failure)
    rig.serve(1)
    assert rig.ran() == [f"after_migration {'true' if failure else 'false'}", "tell"]


def test_only_executables_that_are_not_hidden(rig: Rig) -> None:
    for name in ("run", "README", ".hidden", "disabled"):
        rig.plant("before_hibernation", name)
    for name in ("README", "disabled"):
        (rig.folder / "before_hibernation" / name).chmod(0o644)
    (rig.folder / "before_hibernation/subdirectory").mkdir()
    (rig.folder / "before_hibernation/dangling").symlink_to("nowhere")
    (rig.folder / "before_hibernation/linked").symlink_to("run")
    rig.run("before_hibernation")
    rig.serve(1)
    assert rig.ran() == ["run", "run"]  # by its own name, and as the link's


@pytest.mark.parametrize("kind", ["nothing_to_run", "", "..", "a/b", "../../bin", ".", "A", "a" * 65, "a\n", "ä", "\0"])
def test_the_answer_comes_at_once_when_nothing_is_to_run(kind: str, rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.plant("a", "b")
    rig.run(kind, name="answered")
    assert rig.answered == ["answered"]
    assert rig.programs.deadline == float("inf")
    assert all(message.isprintable() for message in caplog.messages)
    assert len(caplog.messages) == (kind != "nothing_to_run")


def test_a_directory_that_cannot_be_read(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    (rig.folder / "before_migration").write_text("")
    rig.run("before_migration")
    assert rig.answered == ["before_migration"]
    assert caplog.messages == [f"{rig.folder}/before_migration: Not a directory"]


def test_one_that_fails_or_cannot_be_started_stops_nothing(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.plant("before_migration", "1-fails", "exit 7")
    rig.plant("before_migration", "2-no-program")
    (rig.folder / "before_migration/2-no-program").write_bytes(b"\x7fELF")
    rig.plant("before_migration", "3-good")
    rig.run("before_migration")
    rig.serve(1)
    assert rig.ran() == ["3-good"]
    assert ["status 7" in caplog.messages[0], "not started" in caplog.messages[1]] == [True, True]


def test_the_answer_comes_also_when_none_can_be_started(rig: Rig) -> None:
    for number in range(RUNNING_LIMIT):
        rig.programs.start(["sleep", "600"], LIMIT_S + number, lambda: None, stdin=b"", extra={})
    rig.plant("before_migration", "never")
    rig.run("before_migration")
    assert (rig.answered, rig.ran()) == (["before_migration"], [])


def test_one_event_after_another(rig: Rig) -> None:
    for kind in ("before_migration", "after_migration"):
        rig.plant(kind, f"1-{kind}")
        rig.plant(kind, f"2-{kind}")
    rig.run("before_migration")
    rig.run("nothing_to_run")
    rig.run("after_migration")
    assert rig.answered == []
    rig.serve(3)
    assert rig.answered == ["before_migration", "nothing_to_run", "after_migration"]
    assert rig.ran() == ["1-before_migration", "2-before_migration", "1-after_migration", "2-after_migration"]


def test_a_time_limit_for_all_hooks_of_an_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(tmp_path, limit_s=8.0)
    now = 1000.0
    monkeypatch.setattr("sidecar.guest.hooks.time.monotonic", lambda: now)
    rig.plant("before_migration", "1-quick")
    rig.plant("before_migration", "2-hangs", "sleep 600")
    rig.plant("before_migration", "3-too-late")
    rig.plant("after_migration", "next")
    rig.run("before_migration")
    rig.run("after_migration")
    now += 5.0
    ((fd, _),) = rig.epoll.poll(PATIENCE_S, 1)
    rig.programs.reap(fd)
    assert rig.programs.deadline == pytest.approx(1008.0)  # what is left for the second
    now += 3.0
    rig.programs.tick(now)
    assert rig.answered == ["before_migration"]
    assert caplog.messages[1:] == ["before_migration: no time left for 1 hooks"]
    rig.serve(2)
    while rig.programs._children:  # the killed one may be the last to end
        ((fd, _),) = rig.epoll.poll(PATIENCE_S, 1)
        rig.programs.reap(fd)
    assert rig.ran() == ["1-quick", "next"]
    rig.epoll.close()


def test_a_host_that_sends_them_without_end(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.plant("before_migration", "slow", f"read go <{rig.folder}/go")
    (rig.folder / "go").symlink_to("/dev/null")
    rig.run("before_migration", name="first")
    for number in range(WAITING_LIMIT):
        rig.run("nothing_to_run", name=str(number))
    assert rig.answered == []
    rig.run("x" * 10_000, name="too many")
    assert rig.answered == ["too many"]
    (message,) = caplog.messages
    assert len(message) < 200
    rig.serve(2 + WAITING_LIMIT)
    assert rig.answered == ["too many", "first", *map(str, range(WAITING_LIMIT))]


def test_whoever_waits_when_the_agent_ends_is_answered(rig: Rig) -> None:
    rig.plant("before_migration", "hang", "exec sleep 600")
    rig.run("before_migration", name="running")
    rig.run("after_migration", name="waiting")
    assert rig.answered == []
    rig.hooks.close()
    assert rig.answered == ["running", "waiting"]


def test_an_entry_that_cannot_be_looked_at_keeps_no_other_from_running(rig: Rig) -> None:
    rig.plant("before_migration", "20-good")
    (rig.folder / "before_migration" / "10-bad").symlink_to("x" * 300)
    rig.run("before_migration")
    rig.serve(1)
    assert rig.ran() == ["20-good"]
