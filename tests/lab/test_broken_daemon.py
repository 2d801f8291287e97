"""The daemon is killed at every step of an arrival: the next one has the record right, and says nothing too much."""

import json
from collections.abc import Container, Iterable, Iterator

import pytest

from tests.lab.arrival_faults import (
    hooked,
    migrating,
    note_before,
    recorded_on,
    require_one_arrival,
    require_told,
    settle,
)
from tests.lab.conftest import GuestFactory
from tests.lab.domain_xml import OVIRT_PORT, GuestSpec
from tests.lab.fault_points import Step, kill_daemon, start_stopping_at, wait_stopped
from tests.lab.guest import Guest
from tests.lab.harm import Vigil
from tests.lab.host import Host
from tests.lab.waiting import wait_for

HOST_STEPS = (Step.OFFER_TO_WRITE, Step.OFFER_HALF, Step.OFFER_WRITTEN)
MESSAGE_STEPS = (Step.MESSAGE_TO_SEND, Step.MESSAGE_SENT, Step.COMMAND_TO_SEND, Step.COMMAND_ANSWERED)
ARRIVAL_STEPS = [step for step in Step if step not in HOST_STEPS + MESSAGE_STEPS]
# By then the daemon that was killed may have told the guest a version, which the next one cannot know.
TOLD = {step for step in ARRIVAL_STEPS[ARRIVAL_STEPS.index(Step.JOB_TO_ASK) :] if step is not Step.VERSION_TO_SEND}
# The others differ from one of these in less than it takes to tell; all of them are in the chain below.
CHOSEN = (Step.LOOK_DONE, Step.REFRESH_SENT, Step.RESUMED_TOLD, Step.RECORD_SET, Step.VERSION_SENT, Step.AGREED_SET)
# What every daemon comes to, also one that finds the guest running, and that takes nothing from the next one. Dialling
# and writing go on side by side, so what no daemon does once there is a record is before all that belongs to dialling.
CHAIN = (
    Step.SPOOL_READ,
    Step.SPOOL_REMOVED,
    Step.LOOK_BEGUN,
    Step.LOOK_DONE,
    Step.ARRIVAL_COUNTED,
    Step.JOB_TO_ASK,
    Step.JOB_ASKED,
    Step.RECORD_TO_WRITE,
    Step.CHANNEL_TO_DIAL,
    Step.CHANNEL_DIALLED,
    Step.REFRESH_TO_SEND,
    Step.REFRESH_SENT,
    Step.HEARTBEAT_RECEIVED,
    Step.VERSION_TO_SEND,
    Step.VERSION_SENT,
    Step.AGREED_TO_WRITE,
    Step.AGREED_SET,
)


@pytest.fixture(scope="module")
def guest(alpha: Host, beta: Host, boot_shared_guest: GuestFactory) -> Iterator[Guest]:
    """The module's guest, on two hosts with hooks."""
    with hooked(alpha, beta):
        yield boot_shared_guest(GuestSpec(channels=(OVIRT_PORT,)))


@pytest.fixture
def other(alpha: Host, beta: Host, guest: Guest) -> Host:
    """The host where it is not; it has no daemon, and the guest's own has one that has agreed."""
    return settle(guest, 3, alpha, beta)


def _cases(steps: Iterable[Step], chosen: Container[Step]) -> list[object]:
    """A case for each step; those that are not chosen are left to contrib/test --long."""
    return [pytest.param(s, id=s.name, marks=[] if s in chosen else [pytest.mark.long]) for s in steps]


@pytest.mark.parametrize("step", _cases(ARRIVAL_STEPS, CHOSEN))
def test_killed_while_a_guest_migrates_in(guest: Guest, other: Host, step: Step) -> None:
    before = note_before(guest, 3)
    start_stopping_at(other, step)
    with Vigil(guest, guest.here, other) as vigil:
        with vigil.moving(), migrating(guest, other):
            wait_stopped(other)
            kill_daemon(other)
            counted = recorded_on(other, guest)
            other.start_sidecard()
        require_one_arrival(guest, before, 3, counted, "migration")
    require_told(guest, before, 3, daemons=2 if step in TOLD else 1)
    wait_for(lambda: not list(other.path("/run/sidecar/spool").iterdir()), 10, "the spool to be empty")


def test_each_daemon_is_killed_at_the_next_step(guest: Guest, other: Host) -> None:
    before = note_before(guest, 3)
    start_stopping_at(other, CHAIN[0])
    with Vigil(guest, guest.here, other) as vigil:
        with vigil.moving(), migrating(guest, other):
            wait_stopped(other)
            for step in CHAIN[1:]:
                kill_daemon(other)
                start_stopping_at(other, step)
                wait_stopped(other)
            counted = recorded_on(other, guest)
            kill_daemon(other)
            other.start_sidecard()
        require_one_arrival(guest, before, 3, counted, counted["arrival"])
    require_told(guest, before, 3, daemons=1 + sum(step in TOLD for step in CHAIN))


RESTORE_STEPS = (Step.LOOK_DONE, Step.RECORD_SET, Step.VERSION_SENT)


@pytest.mark.parametrize("step", _cases(RESTORE_STEPS, [Step.RECORD_SET]))
def test_killed_while_a_guest_is_restored(guest: Guest, other: Host, step: Step) -> None:
    host, before = guest.here, note_before(guest, 3)
    with Vigil(guest) as vigil, vigil.standing():
        host.virsh("managedsave", guest.name)
        host.stop_sidecard()
        start_stopping_at(host, step)
        guest.start()
        wait_stopped(host)
        kill_daemon(host)
        counted = recorded_on(host, guest) if step is not Step.LOOK_DONE else {}
        host.start_sidecard()
        require_one_arrival(guest, before, 3, counted, "restore")
    require_told(guest, before, 3, daemons=2 if step in TOLD else 1)


@pytest.mark.parametrize("step", _cases((Step.RECORD_TO_WRITE, Step.REFRESH_SENT), []))
def test_killed_while_a_guest_starts(guest: Guest, other: Host, step: Step) -> None:
    host, before = guest.here, note_before(guest, 3)
    with Vigil(guest) as vigil, vigil.standing():
        host.virsh("destroy", guest.name)
        host.stop_sidecard()
        start_stopping_at(host, step)
        guest.start()
        wait_stopped(host)
        kill_daemon(host)
        host.start_sidecard()
        guest.wait_booted()
        require_one_arrival(guest, before, 3, {}, "start")


@pytest.mark.parametrize("step", _cases(HOST_STEPS, [Step.OFFER_HALF]))
def test_killed_while_it_writes_the_offer(other: Host, step: Step) -> None:
    offer = other.path("/run/sidecar/host.json")
    offer.unlink(missing_ok=True)
    start_stopping_at(other, step)
    wait_stopped(other)
    kill_daemon(other)
    assert offer.exists() == (step is Step.OFFER_WRITTEN)
    other.start_sidecard()
    wait_for(offer.exists, 20, "the offer")
    whole = json.loads(offer.read_text())
    assert (whole["hostname"], whole["host_uuid"]) == (other.name, other.host_uuid)
    assert not offer.with_name(".host.json.new").exists(), "half of another"
