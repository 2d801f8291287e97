"""The guest's network interfaces with their addresses.

Source: if_addrs through psutil; ``flags`` in Linux's sysfs-class-net, netdevice(7).
"""

import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol

import psutil

from sidecar.guest.reports.bounds import bound_items, report_text
from sidecar.guest.reports.system_files import read_word

# A host of containers has some hundreds, most of them without an address.
INTERFACES_LIMIT = 1000
# A load balancer's virtual addresses; the limit in bytes still holds for all interfaces together.
ADDRESSES_LIMIT = 256
_ADDRESS_CHARACTERS = 64

# IFF_UP and IFF_LOOPBACK. psutil's own "up" means a carrier, and it asks the driver for its speed to tell it.
_UP = 0x1
_LOOPBACK = 0x8


class Address(Protocol):
    """One address of an interface, as psutil has it; a link's address is one of family ``AF_PACKET``."""

    @property
    def family(self) -> int:
        """A constant of ``socket``."""

    @property
    def address(self) -> str:
        """The address as a text, with ``%`` and the scope behind an IPv6 address that has one."""


def report_interfaces(
    ignored: frozenset[str] = frozenset(),
    root: Path = Path("/"),
    read_addresses: Callable[[], Mapping[str, Sequence[Address]]] = psutil.net_if_addrs,
) -> dict[str, object]:
    """network-interfaces: those that are up, are no loopback and not ignored, by name.

    Raises:
        OSError: The kernel does not tell its addresses.
    """
    found: dict[str, list[Address]] = {}
    for label, addresses in sorted(read_addresses().items()):
        # An address may be labelled (eth0:1); the interface is what stands before the colon.
        found.setdefault(label.partition(":")[0], []).extend(addresses)
    wanted = (item for item in found.items() if item[0] not in ignored and _is_up(root, item[0]))
    return {"interfaces": bound_items((_describe(*item) for item in wanted), INTERFACES_LIMIT)}


def _is_up(root: Path, name: str) -> bool:
    """An interface that went away meanwhile is not up."""
    try:
        flags = int(read_word(root / "sys/class/net" / name / "flags"), 16)
    except (OSError, ValueError):
        return False
    return bool(flags & _UP) and not flags & _LOOPBACK


def _describe(name: str, addresses: Sequence[Address]) -> dict[str, object]:
    return {
        "name": report_text(name),
        "hw": next(iter(_select(addresses, socket.AF_PACKET)), ""),
        "inet": _select(addresses, socket.AF_INET),
        "inet6": _select(addresses, socket.AF_INET6),
    }


def _select(addresses: Iterable[Address], family: int) -> list[str]:
    """The addresses of one family, without prefix or scope: a scope is a name inside the guest."""
    texts = (one.address.partition("%")[0] for one in addresses if one.family == family)
    return [report_text(text, _ADDRESS_CHARACTERS) for text in islice(texts, ADDRESSES_LIMIT)]
