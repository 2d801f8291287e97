"""The agent in one file: the same file each time, with what the agent imports, and nothing of the host's side."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from contrib.guest_zipapp import NAME, SHEBANG, build
from sidecar import __version__
from tests.guest.scripted_host import REPOSITORY, environment

LIMIT_S = 20.0

# All that the agent ever imports of this project: these import the rest.
LOADED = """
import sys, sidecar.guest.main, sidecar.guest.agent, sidecar.guest.reports
print(*sorted(name for name in sys.modules if name.partition(".")[0] == "sidecar"), sep="\\n")
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dist") / "deeper" / NAME
    build(path)
    return path


def names(archive: Path) -> list[str]:
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() is None
        return opened.namelist()


def test_the_same_sources_make_the_same_file(archive: Path, tmp_path: Path) -> None:
    build(tmp_path / NAME)
    assert (tmp_path / NAME).read_bytes() == archive.read_bytes()


def test_the_day_it_was_made_does_not_show(archive: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        assert {one.date_time for one in opened.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_it_holds_what_is_imported_and_nothing_else(archive: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, env=environment(), timeout=LIMIT_S, check=True
    )
    files = [f"{name.replace('.', '/')}" for name in [*done.stdout.split(), "sidecar.guest.__main__"]]
    expected = [name + ("/__init__.py" if (REPOSITORY / name).is_dir() else ".py") for name in files]
    assert sorted(names(archive)) == sorted([*expected, "LICENSE", "__main__.py"])


def test_each_file_is_its_source(archive: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        for name in opened.namelist():
            source = "sidecar/guest/__main__.py" if name == "__main__.py" else name
            assert opened.read(name) == (REPOSITORY / source).read_bytes()


def test_nothing_of_the_hosts_side(archive: Path) -> None:
    for name in names(archive):
        assert not name.startswith(("sidecar/adapters", "sidecar/cli", "sidecar/engine", "sidecar/record", "tests"))
        assert name not in ("sidecar/config.py", "sidecar/daemon.py", "sidecar/protocol/ovirt_host.py")


def test_it_runs_by_itself_on_a_systems_python(archive: Path, tmp_path: Path) -> None:
    assert SHEBANG == b"#!/usr/bin/python3 -I\n"
    assert archive.read_bytes().startswith(SHEBANG)
    done = subprocess.run([archive, "--version"], capture_output=True, text=True, env={}, cwd=tmp_path, check=True)
    assert done.stdout == f"sidecar-guest-agent {__version__}\n"


def test_it_starts_with_psutil_beside_it(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text("")
    command = [sys.executable, "-I", str(archive), "--check-config", "--config", str(tmp_path / "agent.toml")]
    done = subprocess.run(command, capture_output=True, text=True, env={}, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_second_build_replaces_the_first(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"x" * 1_000_000)
    build(tmp_path / NAME)
    assert zipfile.is_zipfile(tmp_path / NAME)
    assert (tmp_path / NAME).stat().st_size < 500_000
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o755
