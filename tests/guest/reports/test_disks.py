import os
import shutil
from pathlib import Path

import pytest

from sidecar.guest.reports.disks import DISKS_LIMIT, SERIAL_LIMIT_CHARACTERS, report_disks
from tests.guest.reports.guest_tree import PLAIN, plant


@pytest.fixture
def root(tmp_path: Path) -> Path:
    plant(tmp_path, PLAIN)
    (tmp_path / "sys/block/vda/serial").unlink()
    return tmp_path


def mapping(root: Path, files: dict[str, str | bytes]) -> object:
    return report_disks(root=plant(root, {f"sys/block/{name}": content for name, content in files.items()}))["mapping"]


def table(*paths: str) -> str:
    return "".join(f"21 1 8:{number} / {path} rw - ext4 /dev/x rw\n" for number, path in enumerate(paths))


def test_usage_is_the_file_systems(root: Path) -> None:
    rows = report_disks(root=root)["disks"]
    assert isinstance(rows, list)
    row = rows[0]
    assert row["path"] == "/"
    assert row["fs"] == "ext4"
    total, used, _ = shutil.disk_usage(root)
    assert row["total"] == total
    assert abs(row["used"] - used) < total // 10  # others write meanwhile, and a part is root's alone
    assert type(row["total"]) is type(row["used"]) is int


def test_used_is_what_is_not_free(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # bsize, frsize, blocks, bfree, bavail, files, ffree, favail, flag, namemax
    found = os.statvfs_result((65536, 512, 2**40, 2**39, 2**38, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: found)
    assert report_disks(root=root)["disks"] == [{"path": "/", "fs": "ext4", "total": 2**49, "used": 2**48}]


def test_mount_points_that_fail_are_left_out(root: Path) -> None:
    (root / "good").mkdir()
    (root / "loop").symlink_to(root / "loop")
    plant(root, {"proc/self/mountinfo": table("/missing", "/good", "/loop", "/etc/timezone/below", "/a\\000b")})
    rows = report_disks(root=root)["disks"]
    assert isinstance(rows, list)
    assert [row["path"] for row in rows] == ["/good"]


def test_mount_point_that_is_forbidden(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def statvfs(path: bytes) -> os.statvfs_result:
        if path.endswith(b"/secret"):
            raise PermissionError
        return real(path)

    real = os.statvfs
    monkeypatch.setattr(os, "statvfs", statvfs)
    plant(root, {"proc/self/mountinfo": table("/", "/secret")})
    rows = report_disks(root=root)["disks"]
    assert isinstance(rows, list)
    assert [row["path"] for row in rows] == ["/"]


def test_network_file_systems_are_never_touched(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def statvfs(path: bytes) -> os.statvfs_result:
        touched.append(path)
        return real(path)

    touched: list[bytes] = []
    real = os.statvfs
    monkeypatch.setattr(os, "statvfs", statvfs)
    (root / "net/disk").mkdir(parents=True)
    plant(root, {"proc/self/mountinfo": table("/", "/net/disk") + "9 1 0:9 / /net rw - nfs4 server:/ rw\n"})
    report_disks(root=root)
    assert touched == [os.fsencode(root) + b"/"]


def test_names_with_odd_bytes(root: Path) -> None:
    os.mkdir(os.fsencode(root) + b"/odd\xff\x1b dir")
    plant(root, {"proc/self/mountinfo": table("/odd\\377\x1b\\040dir")})
    rows = report_disks(root=root)["disks"]
    assert isinstance(rows, list)
    assert [row["path"] for row in rows] == ["/odd\ufffd\ufffd dir"]


def test_ignored_types(root: Path) -> None:
    assert report_disks(frozenset(["ext4"]), root)["disks"] == []


def test_serials_of_each_kind_of_disk(root: Path) -> None:
    found = mapping(
        root,
        {
            "vda/serial": "virtio-1\n",
            "nvme0n1/device/serial": "nvme-1   \n",
            "sda/device/vpd_pg80": b"\0\x80\0\x08scsi-1  rest",
            "loop0/size": "0",
            "cciss!c0d0/serial": "old-1",
        },
    )
    assert found == {
        "virtio-1": {"name": "/dev/vda"},
        "nvme-1": {"name": "/dev/nvme0n1"},
        "scsi-1": {"name": "/dev/sda"},
        "old-1": {"name": "/dev/cciss/c0d0"},
    }


def test_first_disk_of_a_serial_counts(root: Path) -> None:
    assert mapping(root, {"sdb/serial": "same", "sda/serial": "same"}) == {"same": {"name": "/dev/sda"}}


@pytest.mark.parametrize(
    "page", [b"", b"\0", b"\0\x80\0\0serial", b"\0\x80\0\x04    ", b"\0\x80\xff\xff", b"\0\x80\0\x02\0\0"]
)
def test_pages_without_a_serial(page: bytes, root: Path) -> None:
    assert mapping(root, {"sda/device/vpd_pg80": page}) == {}


@pytest.mark.parametrize(
    ("content", "serial"), [(b"a\xff\0b", "a\ufffd\ufffdb"), (b"x" * 5000, "x" * SERIAL_LIMIT_CHARACTERS)]
)
def test_odd_serials(content: bytes, serial: str, root: Path) -> None:
    assert mapping(root, {"vda/serial": content}) == {serial: {"name": "/dev/vda"}}


def test_empty_serial_is_none(root: Path) -> None:
    assert mapping(root, {"vda/serial": "\n", "vdb/serial": "", "vdb/device/serial": "later"}) == {
        "later": {"name": "/dev/vdb"}
    }


def test_many_disks(root: Path) -> None:
    found = mapping(root, {f"vd{number}/serial": f"{number}" for number in range(DISKS_LIMIT + 1)})
    assert isinstance(found, dict)
    assert len(found) == DISKS_LIMIT


def test_without_sysfs_there_is_no_mapping(root: Path) -> None:
    shutil.rmtree(root / "sys")
    assert report_disks(root=root)["mapping"] == {}


def test_without_a_mount_table_it_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        report_disks(root=tmp_path)
