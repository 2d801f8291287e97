"""libvirtd is killed, restarted or hangs under a daemon that stands at a step of an arrival: the record comes right."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from signal import SIGCONT, SIGSTOP
from time import monotonic

import pytest

from tests.lab.arrival_faults import hooked, migrating, note_before, recorded_on, require_one_arrival, settle
from tests.lab.conftest import GuestFactory
from tests.lab.crashes import restarting
from tests.lab.fault_points import Step, let_go_on, start_stopping_at, wait_stopped
from tests.lab.guest import Guest
from tests.lab.harm import Vigil
from tests.lab.host import Host
from tests.lab.own_agent import OWN_GUEST
from tests.lab.waiting import wait_for

IMPATIENT = "[libvirt]\nkeepalive_seconds = 1\n"
HANG_S, LONG_HANG_S = 10.0, 60.0


class Fault(Enum):
    """What is done to libvirtd."""

    KILLED = "killed, and started while the daemon tries"
    RESTARTED = "restarted"
    HUNG = "stopped for longer than keepalive bears"
    HUNG_LONG = "stopped for a minute"


STEPS = (
    Step.LOOK_BEGUN,
    Step.LOOK_DONE,
    Step.CHANNEL_TO_DIAL,
    Step.CHANNEL_DIALLED,
    Step.REFRESH_SENT,
    Step.RESUMED_TOLD,
    Step.ARRIVAL_COUNTED,
    Step.JOB_TO_ASK,
    Step.JOB_ASKED,
    Step.RECORD_TO_WRITE,
    Step.RECORD_SET,
    Step.RECORD_WRITTEN,
    Step.HEARTBEAT_RECEIVED,
    Step.VERSION_SENT,
    Step.AGREED_TO_WRITE,
    Step.AGREED_SET,
    Step.AGREED_WRITTEN,
)
CHOSEN = {
    (Step.LOOK_DONE, Fault.RESTARTED),
    (Step.RECORD_TO_WRITE, Fault.KILLED),
    (Step.LOOK_BEGUN, Fault.HUNG),
    (Step.RECORD_SET, Fault.KILLED),
    (Step.AGREED_TO_WRITE, Fault.RESTARTED),
}
CASES = [
    pytest.param(step, fault, id=f"{step.name}-{fault.name}", marks=[] if (step, fault) in CHOSEN else pytest.mark.long)
    for step, fault in itertools.product(STEPS, Fault)
]


@pytest.fixture(scope="module")
def guest(alpha: Host, beta: Host, boot_shared_guest: GuestFactory) -> Iterator[Guest]:
    """The module's guest, with the project's own agent, on two hosts with hooks."""
    with hooked(alpha, beta):
        yield boot_shared_guest(OWN_GUEST)


@pytest.fixture
def other(alpha: Host, beta: Host, guest: Guest) -> Host:
    """The host where it is not; it has no daemon, and the guest's own has one that has agreed."""
    return settle(guest, 4, alpha, beta, config_text=IMPATIENT)


@pytest.mark.parametrize(("step", "fault"), CASES)
def test_libvirtd_broken_at_a_step(guest: Guest, other: Host, step: Step, fault: Fault) -> None:
    before = note_before(guest, 4)
    start_stopping_at(other, step, IMPATIENT)
    with restarting(other, IMPATIENT), Vigil(guest, guest.here, other) as vigil:
        with vigil.moving(), migrating(guest, other):
            wait_stopped(other)
        counted = recorded_on(other, guest)
        with vigil.libvirtd_broken(other), broken(other, fault):
            let_go_on(other)
        require_one_arrival(guest, before, 4, counted, "migration")


@contextmanager
def broken(host: Host, fault: Fault) -> Iterator[None]:
    """The block runs while libvirtd is broken; it is whole afterwards."""
    if fault is Fault.KILLED:
        host.stop_libvirtd(kill=True)
        yield
        host.start_libvirtd()
    elif fault is Fault.RESTARTED:
        host.restart_libvirtd()
        yield
    else:
        with _hanging(host, LONG_HANG_S if fault is Fault.HUNG_LONG else HANG_S):
            yield


@contextmanager
def _hanging(host: Host, seconds: float) -> Iterator[None]:
    """libvirtd stands for so long, which is longer than the daemon's keepalive bears."""
    libvirtd = host.libvirtd.process
    assert libvirtd is not None
    begin = monotonic()
    lost = _count_lost(host)
    libvirtd.signal(SIGSTOP)
    try:
        yield
        wait_for(lambda: _count_lost(host) > lost, seconds + 30, "keepalive to give the connection up")
        wait_for(lambda: monotonic() > begin + seconds, seconds + 5, "time to pass")
    finally:
        libvirtd.signal(SIGCONT)


def _count_lost(host: Host) -> int:
    return host.log_text().count("connection to libvirt lost") + host.log_text().count("libvirt failed right after")


def test_libvirtd_killed_again_and_again_during_a_restart_of_the_daemon(guest: Guest, other: Host) -> None:
    host, before = guest.here, note_before(guest, 4)
    with Vigil(guest) as vigil:
        for step in (Step.OFFER_TO_WRITE, Step.LOOK_BEGUN, Step.LOOK_DONE):
            host.stop_sidecard()
            start_stopping_at(host, step, IMPATIENT)
            wait_stopped(host)
            with vigil.libvirtd_broken(host), broken(host, Fault.KILLED):
                let_go_on(host)
        after = note_before(guest, 4)
    assert after.record == before.record
