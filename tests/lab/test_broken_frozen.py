"""A frozen guest while libvirtd is slow to come back: what was agreed stands, although libvirt tells all anew."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from tests.lab.conftest import GuestFactory
from tests.lab.domain_xml import QGA_PORT, GuestSpec
from tests.lab.guest_qga import make_freezable
from tests.lab.harm import identify_qemu
from tests.lab.host import Host
from tests.lab.records import wait_for_qga
from tests.lab.waiting import wait_for

ONE_CHANNEL = GuestSpec(channels=(QGA_PORT,), agent=None)
DEBUG = '[log]\nlevel = "debug"\n'


@contextmanager
def standing(host: Host, qemu: str) -> Iterator[None]:
    """QEMU does not answer: a libvirtd that starts now lets clients in, and waits for QEMU with all that it tells."""
    host.run(["kill", "-STOP", qemu])
    try:
        yield
    finally:
        host.run(["kill", "-CONT", qemu])


def test_told_of_a_frozen_agent_once_more(alpha: Host, boot_guest: GuestFactory, clean_hosts: None) -> None:
    alpha.start_sidecard(DEBUG)
    guest = boot_guest(ONE_CHANNEL)
    first = wait_for_qga(guest, "agreed", "7.2")
    make_freezable(guest)
    alpha.virsh("domfsfreeze", guest.name)
    alpha.stop_libvirtd()
    said = len(alpha.log_text())
    with standing(alpha, identify_qemu(alpha, guest).split()[0]):
        alpha.start_libvirtd()
        # The daemon has found the agent in the XML and asked it: what libvirtd tells of it now comes as news.
        wait_for(lambda: "agent is not connected" in alpha.log_text()[said:], 30, "the daemon to have asked in vain")
    wait_for_qga(guest, "agreed", "7.2", "guest-frozen")
    assert not re.search("waiting .*guest-frozen", alpha.log_text()[said:]), "nor did it ever stand otherwise"
    alpha.virsh("domfsthaw", guest.name)
    assert wait_for_qga(guest, "agreed", "7.2").attributes == first.attributes
    assert alpha.stop_sidecard() == 0
