"""Others edit the metadata at any moment: the record is put back once, theirs is not touched, there is no duel."""

import re
from collections.abc import Iterator
from enum import Enum
from time import monotonic

import pytest

from tests.lab.arrival_faults import hooked, migrating, note_before, require_one_arrival, settle
from tests.lab.conftest import GuestFactory
from tests.lab.domain_xml import OVIRT_PORT, RECORD_URI, GuestSpec
from tests.lab.fault_points import Step, let_go_on, start_stopping_at, wait_stopped
from tests.lab.guest import Guest
from tests.lab.harm import Vigil
from tests.lab.host import Host
from tests.lab.records import count_writes, read_record, wait_agreed, wait_for_record
from tests.lab.waiting import wait_for

FOREIGN_EDIT_S = 3.0
NOTE = '<other:note xmlns:other="urn:example:other">kept  as "it" &amp; was<![CDATA[<&]]></other:note>'
BROKEN = '<agreement host="{host}" arrivals="many"/>'
FORGED = '<agreement host="{host}" host-uuid="{uuid}" run="forged" arrival="start" arrivals="{count}"><x/></agreement>'


class Edit(Enum):
    """What somebody does to our element, live and in the configuration."""

    REMOVED = "removed"
    FORGED = "replaced by one of their own"
    BROKEN = "replaced by one that is none"


@pytest.fixture(scope="module")
def guest(alpha: Host, beta: Host, boot_shared_guest: GuestFactory) -> Iterator[Guest]:
    """The module's guest, with somebody else's metadata in it."""
    with hooked(alpha, beta):
        yield boot_shared_guest(GuestSpec(channels=(OVIRT_PORT,), metadata=NOTE))


@pytest.fixture
def other(alpha: Host, beta: Host, guest: Guest) -> Host:
    """The host where it is not."""
    return settle(guest, 3, alpha, beta)


def note_of(guest: Guest) -> list[str]:
    """Somebody else's metadata, to the letter, live and configured."""
    xml = guest.dumpxml() + guest.dumpxml("--inactive")
    return re.findall(r"<other:note.*?</other:note>", xml, re.DOTALL)


def edit(guest: Guest, host: Host, how: Edit) -> None:
    """Somebody does this now."""
    argv = ["metadata", guest.name, RECORD_URI, "--live", "--config"]
    if how is Edit.REMOVED:
        host.virsh(*argv, "--remove", check=False)
        return
    text = (
        FORGED.format(host=host.name, uuid=host.host_uuid, count=77)
        if how is Edit.FORGED
        else BROKEN.format(host=host.name)
    )
    host.virsh(*argv, "--key", "other", "--set", text)


STEPS = (
    Step.LOOK_DONE,
    Step.RECORD_TO_WRITE,
    Step.RECORD_SET,
    Step.RECORD_WRITTEN,
    Step.AGREED_TO_WRITE,
    Step.AGREED_SET,
)
CHOSEN = {(Step.RECORD_SET, Edit.FORGED), (Step.AGREED_SET, Edit.REMOVED), (Step.AGREED_TO_WRITE, Edit.BROKEN)}
CASES = [
    pytest.param(step, how, id=f"{step.name}-{how.name}", marks=[] if (step, how) in CHOSEN else pytest.mark.long)
    for step in STEPS
    for how in Edit
]


@pytest.mark.parametrize(("step", "how"), CASES)
def test_edited_while_the_daemon_stands_at_a_step(guest: Guest, other: Host, step: Step, how: Edit) -> None:
    before, note = note_before(guest, 3), note_of(guest)
    assert len(note) == 2
    start_stopping_at(other, step, foreign_edit_s=FOREIGN_EDIT_S)
    with Vigil(guest, guest.here, other) as vigil:
        with vigil.moving(), migrating(guest, other):
            wait_stopped(other)
        edit(guest, other, how)
        let_go_on(other)
        require_one_arrival(guest, before, 3, {}, "migration")
    assert note_of(guest) == note


@pytest.mark.parametrize("how", [Edit.REMOVED, *(pytest.param(how, marks=pytest.mark.long) for how in list(Edit)[1:])])
def test_put_back_once_and_then_left_alone(guest: Guest, other: Host, how: Edit) -> None:
    host = guest.here
    host.stop_sidecard()
    start_stopping_at(host, None, foreign_edit_s=FOREIGN_EDIT_S)
    before, note = note_before(guest, 3), note_of(guest)
    with Vigil(guest), count_writes(guest) as writes:
        edit(guest, host, how)
        assert read_record(guest) != before.record
        wait_for_record(guest, "put back", lambda record: record == before.record, 60)
        put_back = writes()
        edit(guest, host, how)
        stand(FOREIGN_EDIT_S * 2)
        assert writes() == put_back + 1, "theirs, and no duel"
        guest.agent_restart()
        assert wait_agreed(guest, 3).attributes == before.record.attributes, "at the next change"
    assert note_of(guest) == note
    host.stop_sidecard()


def stand(seconds: float) -> None:
    """Lets time pass, where passing time is the very thing that is tested."""
    end = monotonic() + seconds
    wait_for(lambda: monotonic() >= end, seconds + 5, "time to pass")


def test_edited_again_and_again(guest: Guest, other: Host) -> None:
    before, note = note_before(guest, 3), note_of(guest)
    edits = 40
    with Vigil(guest), count_writes(guest) as writes:
        for number in range(edits):
            edit(guest, guest.here, list(Edit)[number % 3])
        assert writes() <= edits + 6, "six a minute are ours at most"
        guest.agent_restart()
        assert wait_agreed(guest, 3, timeout_s=90).attributes == before.record.attributes
    assert note_of(guest) == note


@pytest.mark.long
def test_rolled_back_by_a_snapshot(alpha: Host, guest: Guest, boot_guest: GuestFactory) -> None:
    if alpha.sidecard.process is None:
        alpha.start_sidecard()
    reverted = boot_guest(GuestSpec(channels=(OVIRT_PORT,), metadata=NOTE, disk=True))
    first, note = note_before(reverted, 3).record, note_of(reverted)
    alpha.virsh("snapshot-create-as", reverted.name, "one")
    with Vigil(reverted) as vigil, vigil.standing():
        alpha.virsh("managedsave", reverted.name)
        reverted.start()
        assert wait_agreed(reverted, 3).arrivals == first.arrivals + 1
        reverted.revert("one")
        back = wait_for_record(reverted, "a snapshot's arrival", lambda r: r.attributes["arrival"] == "snapshot")
        assert back.arrivals == first.arrivals + 1, "the count went back with the metadata, and this is one more"
        wait_agreed(reverted, 3, arrivals=first.arrivals + 1)
    assert note_of(reverted) == note
