import os
from pathlib import Path

import pytest

from sidecar.guest.reports.operating_system import report_cpu_count, report_os_info, report_os_version
from tests.guest.reports.guest_tree import plant


def uname(release: str = "6.1.0-25-amd64", machine: str = "x86_64") -> os.uname_result:
    return os.uname_result(("Linux", "web", release, "#1 SMP", machine))


def info(root: Path, text: str | bytes, name: str = "etc/os-release") -> dict[str, object]:
    return report_os_info(plant(root, {name: text}), uname)


DEBIAN = """PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
NAME="Debian GNU/Linux"
VERSION_ID="12"
VERSION="12 (bookworm)"
VERSION_CODENAME=bookworm
ID=debian
"""


def test_os_version_is_the_kernels_release() -> None:
    assert report_os_version(uname) == {"version": "6.1.0-25-amd64"}
    assert report_os_version() == {"version": os.uname().release}


@pytest.mark.parametrize("name", ["etc/os-release", "usr/lib/os-release"])
def test_os_info(name: str, tmp_path: Path) -> None:
    assert info(tmp_path, DEBIAN, name) == {
        "version": "12",
        "distribution": "Debian GNU/Linux",
        "codename": "bookworm",
        "arch": "x86_64",
        "type": "linux",
        "kernel": "6.1.0-25-amd64",
    }


def test_administrators_file_counts_first(tmp_path: Path) -> None:
    plant(tmp_path, {"usr/lib/os-release": DEBIAN})
    assert info(tmp_path, "VERSION_ID=13")["version"] == "13"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("VERSION_ID=7\nVERSION='7 (Core)'", {"version": "7", "codename": "Core"}),
        ("BUILD_ID=rolling\nNAME=Arch", {"version": "rolling", "codename": "", "distribution": "Arch"}),
        ("VERSION_ID=", {"version": "unknown"}),
        ("", {"version": "unknown", "distribution": "", "codename": ""}),
        ('NAME="a \\"b\\" \\$c \\\\"', {"distribution": 'a "b" $c \\'}),
        ("NAME='$(reboot)'", {"distribution": "$(reboot)"}),
        ("NAME=`reboot`", {"distribution": "`reboot`"}),
        ("NAME=one\nNAME=two", {"distribution": "two"}),
        ("  NAME=x  ", {"distribution": "x"}),
        ("#NAME=x\n=\n=x\nNAME\nna me=x\n'\"\n", {"distribution": ""}),
        ('NAME="', {"distribution": '"'}),
        (b"NAME=\xff\x00\x1b[2J", {"distribution": "\ufffd\ufffd\ufffd[2J"}),
        ("NAME=" + "x" * 100_000, {"distribution": "x" * 4096}),
        ("NAME=" + "\\" * 99_999, {"distribution": "\\" * 4096}),
    ],
)
def test_odd_files(text: str | bytes, expected: dict[str, str], tmp_path: Path) -> None:
    found = info(tmp_path, text)
    assert found | expected == found
    assert all(isinstance(value, str) for value in found.values())
    assert all(found[key] for key in ("version", "arch", "type"))


def test_nothing_known(tmp_path: Path) -> None:
    found = report_os_info(tmp_path, lambda: uname("", ""))
    assert found == {
        "version": "unknown",
        "distribution": "",
        "codename": "",
        "arch": "unknown",
        "type": "linux",
        "kernel": "",
    }


@pytest.mark.parametrize(
    ("online", "count"),
    [
        ("0\n", 1),
        ("0-3\n", 4),
        ("0,2-3,8-15\n", 11),
        ("", -1),
        ("0-", -1),
        ("x", -1),
        ("3-0", -1),
        ("0-99999999", -1),
        ("0-" + "9" * 5000, -1),
        ("-1", -1),
    ],
)
def test_cpus_on_line(online: str, count: int, tmp_path: Path) -> None:
    assert report_cpu_count(plant(tmp_path, {"sys/devices/system/cpu/online": online})) == {"count": count}


@pytest.mark.parametrize(("known", "count"), [(6, 6), (None, -1)])
def test_cpus_without_sysfs(known: int | None, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: known)
    assert report_cpu_count(tmp_path) == {"count": count}
