"""``sidecarctl hooks``, function by function, on real files."""

import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from sidecar.adapters import hook_setup
from sidecar.adapters.hook_file import HookState, judge, render_hook
from sidecar.adapters.hook_setup import find_helper_problem, find_paths, report_spool
from sidecar.cli import hooks
from sidecar.cli.admit import REFUSED
from sidecar.cli.hooks import install, remove, show_status
from sidecar.errors import ConfigurationError, HookConflictError

OTHER_UID = 61234
HELPER = str(Path(hooks.__file__).resolve().with_name("admit.py"))

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files to other users")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "hooks"


@pytest.fixture
def target(directory: Path) -> Path:
    return directory / "qemu.d" / "50-sidecar"


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    path = tmp_path / "spool"
    path.mkdir(0o700)
    return path


@pytest.fixture
def configuration(tmp_path: Path, spool: Path) -> Path:
    return configure(tmp_path, spool)


def configure(tmp_path: Path, spool: object) -> Path:
    path = tmp_path / "sidecar.toml"
    path.write_text(f"[paths]\nspool = {json.dumps(str(spool))}\n")
    return path


def test_installs_an_executable_hook_and_says_what_libvirt_needs(
    directory: Path, target: Path, configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = os.umask(0o077)
    try:
        install(directory, configuration)
    finally:
        os.umask(before)
    assert target.read_bytes() == render_hook(find_paths(configuration))
    assert [path.stat().st_mode & 0o777 for path in (target, target.parent, directory)] == [0o755] * 3
    assert [*directory.iterdir(), *target.parent.iterdir()] == [target.parent, target]
    assert target.stat().st_nlink == 1
    said = capsys.readouterr()
    assert "systemctl reload libvirtd" in said.out
    assert said.err == ""


def test_installing_again_changes_nothing(
    directory: Path, target: Path, configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(directory, configuration)
    inode = target.stat().st_ino
    capsys.readouterr()
    install(directory, configuration)
    assert target.stat().st_ino == inode
    said = capsys.readouterr().out
    assert "already" in said
    assert "reload" not in said


@pytest.mark.parametrize("other", ["qemu", "qemu.d/10-other"])
def test_with_other_hooks_no_reload_is_needed(
    directory: Path, configuration: Path, other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "qemu.d").mkdir(parents=True)
    (directory / other).touch(0o755)
    install(directory, configuration)
    assert "systemctl" not in capsys.readouterr().out


@pytest.mark.parametrize("other", ["lxc", "network", "qemu.d/10-plain"])
def test_what_libvirts_qemu_driver_does_not_run_does_not_count(
    directory: Path, configuration: Path, other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "qemu.d").mkdir(parents=True)
    (directory / other).touch(0o644 if "plain" in other else 0o755)
    install(directory, configuration)
    assert "systemctl reload" in capsys.readouterr().out


def spoil_content(target: Path) -> None:
    target.write_bytes(target.read_bytes() + b"# older\n")


def spoil_mode(target: Path) -> None:
    target.chmod(0o644)


def open_to_others(target: Path) -> None:
    target.chmod(0o775)


@pytest.mark.parametrize(
    ("spoil", "state"),
    [
        (spoil_content, HookState.OUTDATED),
        (spoil_mode, HookState.NOT_EXECUTABLE),
        (open_to_others, HookState.OUTDATED),
    ],
)
def test_our_own_file_is_brought_up_to_date(
    directory: Path, target: Path, configuration: Path, spoil: Callable[[Path], None], state: HookState
) -> None:
    install(directory, configuration)
    spoil(target)
    assert judge(target, render_hook(find_paths(configuration))) is state
    install(directory, configuration)
    assert judge(target, render_hook(find_paths(configuration))) is HookState.INSTALLED
    assert target.stat().st_mode & 0o777 == 0o755


def test_another_spool_makes_it_outdated(tmp_path: Path, directory: Path, configuration: Path) -> None:
    install(directory, configuration)
    assert show_status(directory, configuration, as_json=True)
    assert not show_status(directory, configure(tmp_path, tmp_path / "other"), as_json=True)


FOREIGN: dict[str, Callable[[Path], object]] = {
    "script": lambda path: path.write_text("#!/bin/sh\nexit 0\n"),
    "empty": lambda path: path.touch(),
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 1000),
    "marker elsewhere": lambda path: path.write_text("#!/bin/sh\n\n# This file belongs to libvirt-sidecar:\n"),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "directory": lambda path: path.mkdir(),
    "fifo": lambda path: os.mkfifo(path),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_not_ours_is_left_alone(directory: Path, target: Path, configuration: Path, kind: str) -> None:
    target.parent.mkdir(parents=True)
    FOREIGN[kind](target)
    before = target.lstat()
    with pytest.raises(HookConflictError, match="50-sidecar"):
        install(directory, configuration)
    with pytest.raises(HookConflictError, match="50-sidecar"):
        remove(directory)
    assert (target.lstat().st_ino, target.lstat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not show_status(directory, configuration, as_json=True)
    assert list(directory.iterdir()) == [target.parent]


def test_a_link_to_our_own_file_is_not_ours(tmp_path: Path, directory: Path, target: Path, configuration: Path) -> None:
    install(directory, configuration)
    target.rename(tmp_path / "moved")
    target.symlink_to(tmp_path / "moved")
    with pytest.raises(HookConflictError):
        remove(directory)
    assert target.is_symlink()


def test_a_file_that_comes_in_between_is_not_replaced(
    directory: Path, target: Path, configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_temporary = tempfile.mkstemp

    def come_in_between(*, prefix: str, dir: Path) -> tuple[int, str]:  # noqa: A002 - mkstemp's own name
        target.write_text("theirs")
        return make_temporary(prefix=prefix, dir=dir)

    monkeypatch.setattr(tempfile, "mkstemp", come_in_between)
    with pytest.raises(HookConflictError):
        install(directory, configuration)
    assert target.read_text() == "theirs"
    assert list(directory.iterdir()) == [target.parent]


def test_removes_only_its_own_file(
    directory: Path, target: Path, configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(directory, configuration)
    (target.parent / "60-other").touch()
    remove(directory)
    assert list(target.parent.iterdir()) == [target.parent / "60-other"]
    remove(directory)
    assert "not installed" in capsys.readouterr().out


def test_status_as_json(
    directory: Path, target: Path, spool: Path, configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not show_status(directory, configuration, as_json=True)
    assert json.loads(capsys.readouterr().out) == {
        "state": "not-installed",
        "path": str(target),
        "spool": str(spool),
        "spool_present": True,
        "spool_sound": True,
        "spool_problem": None,
        "helper": HELPER,
        "helper_problem": None,
    }


def test_status_for_people(
    directory: Path, spool: Path, configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(directory, configuration)
    spool.rmdir()
    capsys.readouterr()
    assert show_status(directory, configuration, as_json=False)
    hook_line, spool_line, helper_line = capsys.readouterr().out.splitlines()
    assert "installed" in hook_line
    assert "missing" in spool_line
    assert helper_line == f"helper: sound ({HELPER})"


def test_a_spool_that_others_can_write_is_one_warning(
    directory: Path, spool: Path, configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spool.chmod(0o770)
    install(directory, configuration)
    warning = capsys.readouterr().err
    assert warning.count("\n") == 1
    assert "written by others" in warning


def test_a_spool_that_is_no_directory_is_refused(
    tmp_path: Path, directory: Path, spool: Path, configuration: Path
) -> None:
    (tmp_path / "real").mkdir()
    spool.rmdir()
    spool.symlink_to("real")
    with pytest.raises(ConfigurationError, match=r"paths\.spool"):
        install(directory, configuration)
    assert not directory.exists()


@needs_root
def test_another_users_spool_is_refused(directory: Path, spool: Path, configuration: Path) -> None:
    os.chown(spool, OTHER_UID, OTHER_UID)
    with pytest.raises(ConfigurationError, match=f"uid {OTHER_UID}"):
        install(directory, configuration)
    assert not report_spool(str(spool)).is_usable


@pytest.mark.parametrize("spelling", ["link/spool", "link/../real/./spool/", "/link//spool"])
def test_links_above_the_spool_are_resolved(tmp_path: Path, directory: Path, target: Path, spelling: str) -> None:
    (tmp_path / "real" / "spool").mkdir(0o700, parents=True)
    (tmp_path / "link").symlink_to("real")
    install(directory, configure(tmp_path, f"{tmp_path}/{spelling}"))
    subprocess.run([target, "vm1", "started", "begin", "-"], check=True)
    assert len(list((tmp_path / "real" / "spool").iterdir())) == 1


@pytest.mark.parametrize("spool", ["/", "//", "/run/..", "/run/a\nb", "/run/\x1b"])
def test_impossible_spools(tmp_path: Path, directory: Path, spool: str) -> None:
    with pytest.raises(ConfigurationError, match=r"paths\.spool"):
        install(directory, configure(tmp_path, spool))


class TestHelper:
    """The hook's helper, which /usr/bin/python3 has to run."""

    BROKEN: ClassVar[dict[str, tuple[str, str]]] = {
        "fault": ("raise OSError('no such luck')", "ended with 1, not 10: OSError: no such luck"),
        "admits all": ("", "ended with 0, not 10: "),
        "killed": ("import os; os.kill(os.getpid(), 9)", "ended with -9, not 10: "),
        "unprintable": ("import sys; print('\\x1b[2J'); sys.exit(3)", "not 10: \\x1b[2J"),
    }

    @pytest.fixture(params=BROKEN)
    def broken(self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        text, problem = self.BROKEN[request.param]
        (tmp_path / "admit.py").write_text(text)
        monkeypatch.setattr(hook_setup, "HELPER", tmp_path / "admit.py")
        return problem

    def test_is_this_packages_own_with_links_resolved(self, configuration: Path, tmp_path: Path) -> None:
        paths = find_paths(configuration)
        assert paths.helper == HELPER
        assert paths.configuration == str(configuration)
        assert paths.offer == "/run/sidecar/host.json"
        configuration.write_text(f'[paths]\nstate = "{tmp_path}/state"\n')
        assert find_paths(configuration).offer == f"{tmp_path}/state/host.json"

    def test_of_the_default_configuration(self) -> None:
        assert find_paths(None).configuration == "/etc/sidecar/sidecar.toml"

    def test_a_relative_configuration_is_told_in_full(
        self, configuration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert find_paths(Path(configuration.name)).configuration == str(configuration)

    @pytest.mark.parametrize("state", ["/run/a\nb", "/run/\x1b"])
    def test_impossible_state_directories(self, tmp_path: Path, directory: Path, state: str) -> None:
        path = tmp_path / "sidecar.toml"
        path.write_text(f"[paths]\nstate = {json.dumps(state)}\n")
        with pytest.raises(ConfigurationError, match=r"paths\.state"):
            install(directory, path)
        assert not directory.exists()

    def test_that_does_not_work_is_one_warning(
        self, directory: Path, target: Path, configuration: Path, broken: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        install(directory, configuration)
        assert target.exists()
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("sidecarctl: warning: no policy will be judged: ")
        assert broken in line

    def test_that_does_not_work_shows_in_the_status(
        self, directory: Path, configuration: Path, broken: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        install(directory, configuration)
        capsys.readouterr()
        assert show_status(directory, configuration, as_json=True)
        assert broken in json.loads(capsys.readouterr().out)["helper_problem"]
        assert show_status(directory, configuration, as_json=False)
        assert broken in capsys.readouterr().out.splitlines()[2]

    def test_missing(self, configuration: Path) -> None:
        problem = find_helper_problem(replace(find_paths(configuration), helper="/nowhere/admit.py"))
        assert "/nowhere/admit.py" in problem
        assert "\n" not in problem

    def test_no_interpreter(self, configuration: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hook_setup, "HELPER_COMMAND", ("/nowhere/python3",))
        problem = find_helper_problem(find_paths(configuration))
        assert problem == "the helper cannot be run: /nowhere/python3: No such file or directory"

    def test_that_hangs(self, tmp_path: Path, configuration: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "admit.py").write_text("while True: pass")
        monkeypatch.setattr(hook_setup, "TRIAL_LIMIT_S", 0.3)
        problem = find_helper_problem(replace(find_paths(configuration), helper=str(tmp_path / "admit.py")))
        assert problem == "the helper gave no verdict within 0.3 s"

    def test_its_word_is_its_exit_code(self, tmp_path: Path, configuration: Path) -> None:
        (tmp_path / "admit.py").write_text(f"import sys; sys.exit({REFUSED})")
        assert find_helper_problem(replace(find_paths(configuration), helper=str(tmp_path / "admit.py"))) == ""

    def test_another_place_of_it_makes_the_hook_outdated(
        self, directory: Path, target: Path, configuration: Path, tmp_path: Path
    ) -> None:
        install(directory, configuration)
        for change in ("helper", "offer", "configuration"):
            moved = replace(find_paths(configuration), **{change: str(tmp_path / "moved")})
            assert judge(target, render_hook(moved)) is HookState.OUTDATED
