import os
import time
from pathlib import Path

import pytest

from sidecar.guest.reports.child_output import NOT_FOUND, Output, run_program
from tests.guest.reports.guest_tree import plant_program


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def is_gone(pid: int) -> bool:
    """Whether the process has ended, given time to do so; one that nobody has waited for counts as ended."""
    give_up = time.monotonic() + 10
    while time.monotonic() < give_up:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state in "ZX":
            return True
    return False


def test_output_and_status(programs: Path) -> None:
    plant_program(programs, "tell", 'echo "$1 $LC_ALL"; echo lost >&2; exit 3')
    assert run_program(["tell", "a b"], 30, 100) == Output(3, b"a b C\n")


def test_nothing_to_read(programs: Path) -> None:
    plant_program(programs, "read-it", "read line; echo $?")
    assert run_program(["read-it"], 30, 100) == Output(0, b"1\n")


def test_program_that_is_not_there(programs: Path) -> None:
    assert run_program(["nothing"], 30, 100) == Output(NOT_FOUND, b"")


def test_program_that_may_not_be_started(programs: Path) -> None:
    (programs / "plain").write_text("no program")
    with pytest.raises(PermissionError):
        run_program(["plain"], 30, 100)


@pytest.mark.parametrize("script", ["exec /bin/sleep 60", "/bin/sleep 60", "exec >&-; exec /bin/sleep 60"])
def test_one_that_hangs_is_killed(script: str, programs: Path) -> None:
    plant_program(programs, "hang", f"echo $$ > {programs}/pid; {script}")
    with pytest.raises(TimeoutError, match=r"^hang"):
        run_program(["hang"], 0.5, 100)
    assert is_gone(int((programs / "pid").read_text()))


def test_what_it_started_is_killed_with_it(programs: Path) -> None:
    plant_program(programs, "leave", f"/bin/sleep 60 & echo $! > {programs}/pid")
    with pytest.raises(TimeoutError):
        run_program(["leave"], 0.5, 100)
    assert is_gone(int((programs / "pid").read_text()))


def test_one_that_prints_for_ever_is_killed(programs: Path) -> None:
    plant_program(programs, "flood", f"echo $$ > {programs}/pid; while :; do echo much; done")
    with pytest.raises(OSError, match=r"^flood: more than 1000 bytes"):
        run_program(["flood"], 30, 1000)
    assert is_gone(int((programs / "pid").read_text()))


def test_no_descriptor_is_left(programs: Path) -> None:
    plant_program(programs, "tell", "echo")
    before = os.listdir("/proc/self/fd")
    run_program(["tell"], 30, 100)
    with pytest.raises(OSError, match="bytes"):
        run_program(["tell"], 30, 0)
    assert os.listdir("/proc/self/fd") == before
