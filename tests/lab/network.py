"""A cable between every two hosts: both ends are in their namespaces, and never on the machine itself."""

import subprocess

from tests.lab.namespaces import Namespaces


def connect(one: Namespaces, one_address: str, other: Namespaces, other_address: str) -> None:
    """Lays a veth pair between two hosts and gives each end its host's address.

    Point to point: a host has the same address on all of its cables, and no bridge is needed for three hosts.
    """
    name, peer = f"to-{other.hostname}"[:15], f"to-{one.hostname}"[:15]
    # "netns PID" is meant by the caller's PID namespace: so the network namespace alone is entered.
    inside_one = ["nsenter", f"--target={one.pid}", "--net", "--", "ip"]
    _run([*inside_one, "link", "add", name, "type", "veth", "peer", "name", peer, "netns", str(other.pid)])
    _bring_up(one, name, one_address, other_address)
    _bring_up(other, peer, other_address, one_address)


def _bring_up(host: Namespaces, link: str, address: str, peer_address: str) -> None:
    host.run(["ip", "address", "add", address, "peer", peer_address, "dev", link])
    host.run(["ip", "link", "set", link, "up"])


def _run(argv: list[str]) -> None:
    subprocess.run(argv, check=True, capture_output=True, text=True)


def links_of_the_machine() -> set[str]:
    """Names of the network links outside all lab hosts."""
    listing = subprocess.run(["ip", "-brief", "link"], check=True, capture_output=True, text=True).stdout
    return {line.split()[0].partition("@")[0] for line in listing.splitlines()}
