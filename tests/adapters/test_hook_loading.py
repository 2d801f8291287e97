"""Evidence that libvirt looks for hooks, from real files and a process tree that a test makes up."""

import os
import time
from pathlib import Path

import pytest

from sidecar.adapters.hook_loading import LibvirtProcess, find_libvirt, is_hook_loaded, note_hook_run


def now() -> float:
    return time.time()


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    return tmp_path / "proc"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run/libvirt").mkdir(parents=True)
    return tmp_path / "run"


def start(proc: Path, pid: int, name: str, age_s: float = 0.0) -> None:
    """A process that began so long ago."""
    (proc / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "comm").write_text(f"{name}\n")
    ticks = int((time.clock_gettime(time.CLOCK_BOOTTIME) - age_s) * os.sysconf("SC_CLK_TCK"))
    (proc / str(pid) / "stat").write_text(f"{pid} (a) b) S {' '.join(['0'] * 18)} {ticks} 0 0")


class TestFindLibvirt:
    @pytest.mark.parametrize("file", ["libvirtd.pid", "libvirt/libvirtd.pid", "virtqemud.pid", "libvirt/virtqemud.pid"])
    def test_by_each_of_its_pid_files(self, run: Path, proc: Path, file: str) -> None:
        name = Path(file).stem
        (run / file).write_text("62\n")
        start(proc, 62, name, age_s=100)
        found = find_libvirt(run, proc)
        assert found is not None
        assert (found.name, found.pid) == (name, 62)
        assert found.started_at == pytest.approx(now() - 100, abs=1)

    @pytest.mark.parametrize("text", ["", "x", "63", "62"])
    def test_a_pid_file_that_leads_elsewhere(self, run: Path, proc: Path, text: str) -> None:
        (run / "libvirtd.pid").write_text(text)
        start(proc, 62, "other")
        assert find_libvirt(run, proc) is None

    def test_its_start_is_that_of_the_real_process(self, run: Path) -> None:
        """This very process, under its own name."""
        (run / "libvirtd.pid").write_text(str(os.getpid()))
        assert find_libvirt(run) is None, "it is not called libvirtd"


class TestEvidence:
    @pytest.fixture
    def hooks(self, tmp_path: Path) -> Path:
        (tmp_path / "hooks/qemu.d").mkdir(parents=True)
        return tmp_path / "hooks"

    @pytest.fixture
    def state(self, tmp_path: Path) -> Path:
        (tmp_path / "state/spool").mkdir(parents=True)
        return tmp_path / "state"

    def loaded(self, hooks: Path, state: Path, started_at: float) -> bool:
        return is_hook_loaded(LibvirtProcess("libvirtd", 1, started_at), hooks, state, state / "spool")

    def test_none(self, hooks: Path, state: Path) -> None:
        (hooks / "qemu.d/50-sidecar").touch(0o755)
        assert not self.loaded(hooks, state, now() - 60)

    @pytest.mark.parametrize("script", ["qemu", "qemu.d/50-sidecar", "qemu.d/10-other"])
    def test_a_script_was_there_when_it_started(self, hooks: Path, state: Path, script: str) -> None:
        (hooks / script).touch(0o755)
        assert self.loaded(hooks, state, now() + 60)

    @pytest.mark.parametrize("script", ["lxc", "qemu.d/10-plain"])
    def test_what_its_qemu_driver_does_not_run_is_no_evidence(self, hooks: Path, state: Path, script: str) -> None:
        (hooks / script).touch(0o644 if "plain" in script else 0o755)
        assert not self.loaded(hooks, state, now() + 60)

    def test_a_hook_has_run_since(self, hooks: Path, state: Path) -> None:
        (hooks / "qemu.d/50-sidecar").touch(0o755)
        note_hook_run(state)
        assert self.loaded(hooks, state, now() - 60)
        assert not self.loaded(hooks, state / "spool", now() - 60)

    def test_a_hook_ran_before(self, hooks: Path, state: Path) -> None:
        note_hook_run(state)
        assert not self.loaded(hooks, state, now() + 60)

    def test_noting_again_is_news(self, hooks: Path, state: Path) -> None:
        note_hook_run(state)
        first = (state / "hook-seen").stat().st_ctime
        deadline = time.monotonic() + 5
        while (state / "hook-seen").stat().st_ctime == first:  # the kernel's clock ticks some milliseconds
            note_hook_run(state)
            assert time.monotonic() < deadline
        assert self.loaded(hooks, state, first)

    def test_what_a_daemon_that_is_down_has_not_read(self, hooks: Path, state: Path) -> None:
        (hooks / "qemu.d/50-sidecar").touch(0o755)
        (state / "spool/started.1.x").touch()
        assert self.loaded(hooks, state, now() - 60)

    def test_nothing_is_there(self, tmp_path: Path) -> None:
        nowhere = tmp_path / "nowhere"
        note_hook_run(nowhere)
        assert not self.loaded(nowhere, nowhere, now())
        assert not nowhere.exists()
