from pathlib import Path

import pytest

from sidecar.guest.reports.mounts import MOUNTS_LIMIT, find_local_mounts
from tests.guest.reports.guest_tree import PLAIN, plant

KINDS = PLAIN["proc/filesystems"]


def line(path: str, kind: str = "ext4", device: str = "8:1", top: str = "/", source: str = "/dev/x") -> str:
    return f"36 35 {device} {top} {path} rw,noatime master:1 - {kind} {source} rw\n"


def paths(root: Path, table: str | bytes, *ignored: str) -> list[bytes]:
    plant(root, {"proc/filesystems": KINDS, "proc/self/mountinfo": table})
    return [mount.path for mount in find_local_mounts(root, frozenset(ignored))]


def test_local_file_systems_alone(tmp_path: Path) -> None:
    table = (
        line("/")
        + line("/proc", "proc", "0:1")
        + line("/mnt", "nfs4", "0:2")
        + line("/tank", "zfs", "0:3")
        + line("/win", "fuseblk", "8:2")
        + line("/cluster", "gfs2", "8:3")  # has a device, and waits for other machines
        + line("/home/me/far", "fuse.sshfs", "0:4")
        + line("/new", "unheard-of", "8:4")
    )
    assert paths(tmp_path, table) == [b"/", b"/tank", b"/win"]


def test_ignored_types(tmp_path: Path) -> None:
    assert paths(tmp_path, line("/") + line("/win", "fuseblk", "8:2"), "fuseblk", "\udcff", "nothing") == [b"/"]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (line("/") + line("/bind", top="/srv"), b"/"),
        (line("/bind", top="/srv") + line("/"), b"/"),
        (line("/first", top="/a") + line("/second", top="/b"), b"/first"),
        (line("/first") + line("/second"), b"/first"),
    ],
)
def test_file_system_that_is_mounted_twice_is_one(table: str, expected: bytes, tmp_path: Path) -> None:
    assert paths(tmp_path, table) == [expected]


def test_what_was_mounted_last_at_a_path_is_what_is_seen(tmp_path: Path) -> None:
    assert paths(tmp_path, line("/mnt", device="8:1") + line("/mnt", "nfs4", "0:2")) == []
    plant(tmp_path, {"proc/self/mountinfo": line("/mnt", device="8:1") + line("/mnt", "fuseblk", "8:2")})
    assert [(mount.kind, mount.device) for mount in find_local_mounts(tmp_path)] == [(b"fuseblk", b"8:2")]


def test_no_path_leads_through_a_network_file_system(tmp_path: Path) -> None:
    table = line("/net", "nfs", "0:2") + line("/net/disk") + line("/network", device="8:2")
    assert paths(tmp_path, table) == [b"/network"]
    table = line("/home/me", "fuse.sshfs", "0:2") + line("/home/me/disk") + line("/home", device="8:2")
    assert paths(tmp_path, table) == [b"/home"]


def test_but_the_root_may_be_one(tmp_path: Path) -> None:
    assert paths(tmp_path, line("/", "virtiofs", "0:2") + line("/data")) == [b"/data"]


def test_escaped_paths(tmp_path: Path) -> None:
    table = line("/a\\040b\\134n\\011c\\012d") + line("/\\377\\777", device="8:2")
    assert paths(tmp_path, table) == [b"/a b\\n\tc\nd", b"/\xff\xff"]


def test_carriage_return_in_a_path_ends_no_line(tmp_path: Path) -> None:
    assert paths(tmp_path, line("/a\rb")) == [b"/a\rb"]


@pytest.mark.parametrize(
    "garbage", ["", "\n\n", " - ", "x\n", " - ext4\n", "1 2 3 4 5 - ext4\n", "36 35 8:2 / /x rw - \n", b"\xff\0\n"]
)
def test_lines_that_are_none(garbage: str | bytes, tmp_path: Path) -> None:
    plant(tmp_path, {})
    data = garbage.encode() if isinstance(garbage, str) else garbage
    assert paths(tmp_path, data + b"\n" + line("/").encode()) == [b"/"]


def test_optional_fields_may_lack(tmp_path: Path) -> None:
    assert paths(tmp_path, "36 35 8:1 / / rw - ext4 /dev/x rw\n36 35 8:2 / /b rw a:1 b:2 c:3 - ext4 x rw\n") == [
        b"/",
        b"/b",
    ]


def test_long_table_is_cut(tmp_path: Path) -> None:
    table = "".join(line(f"/{number}", device=f"8:{number}") for number in range(MOUNTS_LIMIT + 1))
    assert len(paths(tmp_path, table)) == MOUNTS_LIMIT


@pytest.mark.parametrize("missing", ["proc/filesystems", "proc/self/mountinfo"])
def test_tables_that_cannot_be_read_are_an_error(missing: str, tmp_path: Path) -> None:
    plant(tmp_path, PLAIN)
    (tmp_path / missing).unlink()
    with pytest.raises(FileNotFoundError):
        find_local_mounts(tmp_path)
