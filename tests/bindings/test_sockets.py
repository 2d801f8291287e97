"""The files of the sockets."""

import contextlib
import grp
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.bindings.sockets import SocketPlace, open_socket
from sidecar.errors import ConfigurationError

GROUP = grp.getgrgid(os.getgid()).gr_name


def place(path: Path, mode: int = 0o660, group: str | None = GROUP) -> SocketPlace:
    return SocketPlace("api.socket", path, mode, group)


@contextlib.contextmanager
def served(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(path))
        other.listen(0)
        yield other


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        assert os.umask(before) == mask


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        return client.connect_ex(str(path)) == 0


@pytest.mark.parametrize("mask", [0o000, 0o077])
@pytest.mark.parametrize("mode", [0o660, 0o666])
def test_modes_whatever_the_umask(tmp_path: Path, mode: int, mask: int) -> None:
    with umask(mask):
        file = open_socket(place(tmp_path / "a" / "b" / "s", mode))
    found = (tmp_path / "a" / "b" / "s").lstat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == mode
    assert found.st_gid == os.getgid()
    assert [stat.S_IMODE((tmp_path / part).stat().st_mode) for part in ("a", "a/b")] == [0o755, 0o755]
    assert connects(tmp_path / "a" / "b" / "s")
    file.remove()
    assert not os.path.lexists(tmp_path / "a" / "b" / "s")


def test_it_is_never_wider_and_nobody_connects_before_the_group_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s"
    seen = []
    chown = os.chown

    def look(*arguments: object, **named: object) -> None:
        seen.append((stat.S_IMODE(path.lstat().st_mode), connects(path)))
        chown(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "chown", look)
    with umask(0):
        open_socket(place(path)).remove()
    assert seen == [(0o660, False)]


def test_a_missing_group_makes_it_roots_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = open_socket(place(tmp_path / "s", group="no-such-group"))
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o660
    (record,) = caplog.records
    assert "no group 'no-such-group'" in record.getMessage()
    file.remove()


def test_a_stale_socket_gives_way(tmp_path: Path) -> None:
    with served(tmp_path / "s"):
        pass
    file = open_socket(place(tmp_path / "s"))
    assert connects(tmp_path / "s")
    file.remove()


@pytest.mark.parametrize("waiting", [0, 5])
def test_a_socket_that_is_served_does_not(tmp_path: Path, waiting: int) -> None:
    """Nor one whose queue is full."""
    path = tmp_path / "s"
    with served(path), contextlib.ExitStack() as stack:
        for _ in range(waiting):
            client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            client.setblocking(False)
            client.connect_ex(str(path))
        with pytest.raises(ConfigurationError, match=f"api.socket: {path}: another program serves it"):
            open_socket(place(path))
        assert path.is_socket()


def test_neither_does_a_socket_of_another_kind(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(tmp_path / "s"))
        with pytest.raises(ConfigurationError, match="another program serves it"):
            open_socket(place(tmp_path / "s"))


@pytest.mark.parametrize("kind", ["file", "directory", "dangling link", "link to a stale socket", "link to a file"])
def test_what_is_no_socket_stays(tmp_path: Path, kind: str) -> None:
    path, target = tmp_path / "s", tmp_path / "target"
    match kind:
        case "file":
            path.write_text("precious")
        case "directory":
            path.mkdir()
        case "link to a stale socket":
            with served(target):
                path.symlink_to(target)
        case "link to a file":
            target.write_text("precious")
            path.symlink_to(target)
        case _:
            path.symlink_to(target)
    before = path.lstat().st_ino
    with pytest.raises(ConfigurationError, match="something that is no socket is there"):
        open_socket(place(path))
    assert path.lstat().st_ino == before
    assert target.exists() == (kind in ("link to a stale socket", "link to a file"))


def test_paths_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="too long"):
        open_socket(place(tmp_path / ("x" * 120)))
    with pytest.raises(ConfigurationError, match="Not a directory"):
        open_socket(place(tmp_path / "file" / "s"))


def test_when_the_group_may_not_be_given_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    with pytest.raises(ConfigurationError, match="Operation not permitted"):
        open_socket(place(tmp_path / "s"))
    assert not list(tmp_path.iterdir())


def test_only_our_own_file_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    file = open_socket(place(path))
    path.rename(tmp_path / "moved")
    path.write_text("another's")
    file.remove()
    assert path.read_text() == "another's"
