"""One arrival is one arrival, however the domain came: starts, restores, snapshots, reboots, attaches."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.lab.conftest import GuestFactory
from tests.lab.domain_xml import OVIRT_PORT, AgentSpec, GuestSpec
from tests.lab.guest import Guest
from tests.lab.host import Host
from tests.lab.records import read_record, told, wait_agreed, wait_for_record, wait_for_verdict
from tests.lab.waiting import wait_for

ONE_CHANNEL = GuestSpec(channels=(OVIRT_PORT,))
STRANGER = '<other:note xmlns:other="urn:example:other">kept  as "it" &amp; was</other:note>'


def stranger_of(guest: Guest) -> str:
    """Another program's metadata, to the letter."""
    found = re.search(r"<\w+:note.*</\w+:note>", guest.dumpxml())
    assert found is not None
    return found[0]


@pytest.fixture
def host(alpha: Host, clean_hosts: None) -> Iterator[Host]:
    alpha.install_hook()
    alpha.start_sidecard('[log]\nlevel = "debug"\n')
    yield alpha
    assert alpha.stop_sidecard() == 0


def test_start(host: Host, define_guest: GuestFactory) -> None:
    guest = define_guest(GuestSpec(channels=(OVIRT_PORT,), metadata=STRANGER))
    before, stranger = datetime.now(UTC), stranger_of(guest)
    guest.start()
    record = wait_for_verdict(guest, "waiting", 0, "not-heard")
    assert record.attributes["arrival"] == "start"
    record = wait_agreed(guest, 3, arrivals=1)
    assert record.attributes["host-uuid"] == host.host_uuid
    assert record.ovirt == {
        "name": OVIRT_PORT, "dialect": "ovirt", "state": "agreed", "version": "3", "guest": "3", "host": "4",
        "since": record.ovirt["since"],
    }  # fmt: skip
    arrived, since = (datetime.fromisoformat(t) for t in (record.attributes["arrived"], record.ovirt["since"]))
    assert before - timedelta(seconds=1) < arrived < since < datetime.now(UTC)
    assert stranger_of(guest) == stranger
    assert guest.agent_received() == [("refresh", {"apiVersion": 4}), ("api-version", {"apiVersion": 3})]


def test_paused_start_counts_when_it_started(host: Host, define_guest: GuestFactory) -> None:
    guest = define_guest(ONE_CHANNEL)
    guest.start(paused=True)
    record = wait_for_verdict(guest, "waiting", 0, "not-heard", arrivals=1)
    assert record.attributes["arrival"] == "start"
    host.virsh("resume", guest.name)
    resumed = wait_agreed(guest, 3, arrivals=1)
    assert resumed.attributes == record.attributes


def test_destroy_and_start_again(host: Host, boot_guest: GuestFactory) -> None:
    guest = boot_guest(ONE_CHANNEL)
    first = wait_agreed(guest, 3, arrivals=1)
    host.virsh("destroy", guest.name)
    assert read_record(guest, config=True) == first, "after a stop nothing is written"
    guest.start()
    second = wait_agreed(guest, 3, arrivals=2)
    assert second.attributes["arrival"] == "start"
    assert second.attributes["run"] != first.attributes["run"]


def test_managed_save_and_restore(host: Host, boot_guest: GuestFactory) -> None:
    guest = boot_guest(ONE_CHANNEL)
    wait_agreed(guest, 3, arrivals=1)
    host.virsh("managedsave", guest.name)
    guest.start()
    assert wait_agreed(guest, 3, arrivals=2).attributes["arrival"] == "restore"
    assert told(guest) == [3, 3], "at each arrival, even when the number is the same"


def test_restored_paused_counts_when_it_resumes(host: Host, boot_guest: GuestFactory) -> None:
    guest = boot_guest(ONE_CHANNEL)
    first = wait_agreed(guest, 3, arrivals=1)
    host.virsh("managedsave", guest.name)
    guest.start(paused=True)
    wait_for(lambda: host.log_text().count("attached") == 2, 5, "the daemon to be attached again")
    assert read_record(guest) == first
    host.virsh("resume", guest.name)
    assert wait_agreed(guest, 3, arrivals=2).attributes["arrival"] == "restore"


def test_snapshot_revert_of_a_running_guest(host: Host, boot_guest: GuestFactory) -> None:
    guest = boot_guest(GuestSpec(channels=(OVIRT_PORT,), disk=True))
    wait_agreed(guest, 3, arrivals=1)
    host.virsh("snapshot-create-as", guest.name, "one")
    host.virsh("managedsave", guest.name)
    guest.start()
    wait_agreed(guest, 3, arrivals=2)
    guest.revert("one")
    reverted = wait_for_record(guest, "a snapshot's arrival", lambda r: r.attributes["arrival"] == "snapshot")
    assert reverted.arrivals == 2, "the count went back with the metadata, and this is one more"
    wait_agreed(guest, 3, arrivals=2)


@pytest.mark.parametrize("how", ["reset", pytest.param("reboot", marks=pytest.mark.long)])
def test_reset_and_reboot_are_no_arrival(host: Host, boot_guest: GuestFactory, how: str) -> None:
    guest = boot_guest(ONE_CHANNEL)
    first = wait_agreed(guest, 3, arrivals=1)
    if how == "reset":
        guest.reset()
    else:
        guest.shell_no_answer("reboot -f")
    wait_for_record(guest, "the old agent gone", lambda r: r.verdict()[0] in ("lost", "waiting"))
    guest.wait_booted()
    again = wait_agreed(guest, 3, arrivals=1)
    assert again.attributes == first.attributes
    assert again.ovirt["since"] > first.ovirt["since"]


def test_attach_to_a_running_guest(alpha: Host, boot_guest: GuestFactory, clean_hosts: None) -> None:
    guest = boot_guest(ONE_CHANNEL)
    assert read_record(guest) is None
    alpha.start_sidecard()
    assert wait_agreed(guest, 3, arrivals=1).attributes["arrival"] == "attach"


def test_transient_domain(host: Host, define_guest: GuestFactory) -> None:
    guest = define_guest(GuestSpec(channels=(OVIRT_PORT,), persistent=False))
    guest.start()
    guest.wait_booted()
    wait_agreed(guest, 3, arrivals=1)
    host.virsh("destroy", guest.name)
    wait_for(lambda: guest.name not in host.virsh("list", "--all", "--name"), 5, "it to be gone")
    assert "Traceback" not in host.log_text()


def test_undefined_while_it_runs(host: Host, boot_guest: GuestFactory) -> None:
    guest = boot_guest(GuestSpec(channels=(OVIRT_PORT,)))
    wait_agreed(guest, 3)
    host.virsh("undefine", guest.name)
    guest.agent_stop()
    wait_for(lambda: (r := read_record(guest)) and r.verdict()[0] == "lost", 10, "the live record to go on")
    host.virsh("destroy", guest.name)
    assert "Traceback" not in host.log_text()


@pytest.mark.long
def test_two_domains_at_once(host: Host, define_guest: GuestFactory) -> None:
    guests = [define_guest(ONE_CHANNEL), define_guest(GuestSpec(channels=(OVIRT_PORT,), agent=AgentSpec(era="1.0.11")))]
    for guest in guests:
        guest.start()
    for guest, version in zip(guests, (3, 2), strict=True):
        guest.wait_booted()
        wait_agreed(guest, version, arrivals=1)


def test_domain_without_listed_channel_gets_no_record(host: Host, boot_guest: GuestFactory) -> None:
    guest = boot_guest(GuestSpec(channels=(), agent=None))
    witness = boot_guest(ONE_CHANNEL)
    wait_agreed(witness, 3)
    assert read_record(guest) is None


@pytest.mark.parametrize(
    ("came_along", "arrivals"),
    [
        ('<agreement xmlns="urn:libvirt-sidecar:agreement:1" arrivals="many" host="&#x41;"/>', 1),
        pytest.param(
            '<s:agreement xmlns:s="urn:libvirt-sidecar:agreement:1" arrivals="99999999999999999999"><x/></s:agreement>',
            1,
            marks=pytest.mark.long,
        ),
        (
            '<s:agreement xmlns:s="urn:libvirt-sidecar:agreement:1" host="omega" host-uuid="u" run="r" arrivals="41"'
            ' future="yes"><s:channel name="ovirt-guest-agent.0" state="agreed" version="9"/><s:new/></s:agreement>',
            42,
        ),
    ],
    ids=["broken", "huge", "newer"],
)
def test_record_that_came_along(host: Host, define_guest: GuestFactory, came_along: str, arrivals: int) -> None:
    guest = define_guest(GuestSpec(channels=(OVIRT_PORT,), metadata=came_along + STRANGER))
    stranger = stranger_of(guest)
    guest.start()
    guest.wait_booted()
    wait_agreed(guest, 3, arrivals=arrivals)
    assert stranger_of(guest) == stranger
