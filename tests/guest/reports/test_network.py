import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from sidecar.guest.reports.bounds import LIST_LIMIT_BYTES
from sidecar.guest.reports.network import ADDRESSES_LIMIT, INTERFACES_LIMIT, report_interfaces
from tests.guest.reports.guest_tree import plant

UP, LOOPBACK = 0x1, 0x8


@dataclass(frozen=True)
class One:
    family: int
    address: str


def link(address: str) -> One:
    return One(socket.AF_PACKET, address)


def inet(address: str) -> One:
    return One(socket.AF_INET, address)


def inet6(address: str) -> One:
    return One(socket.AF_INET6, address)


def interfaces(
    root: Path, addresses: Mapping[str, Sequence[One]], ignored: frozenset[str] = frozenset(), **flags: int
) -> list[dict[str, object]]:
    plant(root, {f"sys/class/net/{name}/flags": f"{flag:#x}\n" for name, flag in flags.items()})
    found = report_interfaces(ignored, root, lambda: addresses)["interfaces"]
    assert isinstance(found, list)
    return found


def test_addresses_of_each_kind(tmp_path: Path) -> None:
    addresses = [inet("192.0.2.7"), inet("192.0.2.8"), inet6("2001:db8::7"), inet6("fe80::1%eth0"), link("52:54:00:01")]
    assert interfaces(tmp_path, {"eth0": addresses}, eth0=0x1003) == [
        {
            "name": "eth0",
            "hw": "52:54:00:01",
            "inet": ["192.0.2.7", "192.0.2.8"],
            "inet6": ["2001:db8::7", "fe80::1"],
        }
    ]


def test_only_those_that_are_up_no_loopback_and_not_ignored(tmp_path: Path) -> None:
    names = ("lo", "down", "docker0", "gone", "eth0")
    found = interfaces(
        tmp_path,
        {name: [inet("192.0.2.7")] for name in names},
        frozenset(["docker0"]),
        lo=UP | LOOPBACK,
        down=0x1002,
        docker0=UP,
        eth0=UP,
    )
    assert [one["name"] for one in found] == ["eth0"]


def test_interface_without_a_carrier_is_up(tmp_path: Path) -> None:
    assert interfaces(tmp_path, {"eth0": [link("52:54:00:01")]}, eth0=0x1003)  # not IFF_RUNNING (0x40)


def test_interface_without_any_address_but_its_own(tmp_path: Path) -> None:
    found = interfaces(tmp_path, {"tun0": [], "eth0": [link("52:54:00:01")]}, tun0=UP, eth0=UP)
    assert found == [
        {"name": "eth0", "hw": "52:54:00:01", "inet": [], "inet6": []},
        {"name": "tun0", "hw": "", "inet": [], "inet6": []},
    ]


def test_labelled_addresses_belong_to_their_interface(tmp_path: Path) -> None:
    found = interfaces(tmp_path, {"eth0:web": [inet("192.0.2.8")], "eth0": [inet("192.0.2.7")]}, eth0=UP)
    assert [(one["name"], one["inet"]) for one in found] == [("eth0", ["192.0.2.7", "192.0.2.8"])]


def test_label_of_an_ignored_interface(tmp_path: Path) -> None:
    assert interfaces(tmp_path, {"eth0:web": [inet("192.0.2.8")]}, frozenset(["eth0"]), eth0=UP) == []


@pytest.mark.parametrize("flags", ["", "x", "1003 x", "\xff", "0x"])
def test_flags_that_are_none(flags: str, tmp_path: Path) -> None:
    plant(tmp_path, {"sys/class/net/eth0/flags": flags})
    assert interfaces(tmp_path, {"eth0": [inet("192.0.2.7")]}) == []


@pytest.mark.parametrize("name", ["", ".", "..", "../..", ":1", "a\0b", "x" * 300])
def test_names_that_are_none(name: str, tmp_path: Path) -> None:
    assert interfaces(tmp_path, {name: [inet("192.0.2.7")]}, eth0=UP) == []


def test_texts_are_cleaned(tmp_path: Path) -> None:
    (tmp_path / "sys/class/net/e\udcff").mkdir(parents=True)
    plant(tmp_path, {"sys/class/net/e\udcff/flags": "0x1"})
    found = interfaces(tmp_path, {"e\udcff": [inet("192.0.2.7\x1b"), link("x" * 1000)]})
    assert found == [{"name": "e\ufffd", "hw": "x" * 64, "inet": ["192.0.2.7\ufffd"], "inet6": []}]


def test_lists_are_bounded(tmp_path: Path) -> None:
    many = {f"veth{number}": [link("52:54:00:01")] for number in range(INTERFACES_LIMIT + 1)}
    found = interfaces(tmp_path, many, frozenset(), **dict.fromkeys(many, UP))
    assert len(found) == INTERFACES_LIMIT
    found = interfaces(tmp_path, {"eth0": [inet6(f"2001:db8::{n}") for n in range(ADDRESSES_LIMIT + 1)]}, eth0=UP)
    assert isinstance(found[0]["inet6"], list)
    assert len(found[0]["inet6"]) == ADDRESSES_LIMIT


def test_many_addresses_of_many_interfaces_stay_within_the_bytes(tmp_path: Path) -> None:
    addresses = [inet6("2001:0db8:" + "f" * 50)] * ADDRESSES_LIMIT
    names = [f"veth{number}" for number in range(100)]
    found = interfaces(tmp_path, dict.fromkeys(names, addresses), frozenset(), **dict.fromkeys(names, UP))
    assert 10 < len(found) < 100
    assert len(str(found)) < LIST_LIMIT_BYTES


def test_this_machine_is_told_as_psutil_sees_it() -> None:
    found = report_interfaces()["interfaces"]
    assert isinstance(found, list)
    seen = psutil.net_if_addrs()
    for one in found:
        assert one["name"] != "lo"
        assert set(one["inet"]) == {a.address for a in seen[one["name"]] if a.family == socket.AF_INET}
