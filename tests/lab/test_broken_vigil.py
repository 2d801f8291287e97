"""The vigil itself: it sees what it is there to see, and is content with a guest that runs."""

from collections.abc import Callable
from signal import SIGCONT, SIGSTOP

import pytest

from tests.lab.conftest import GuestFactory
from tests.lab.domain_xml import OVIRT_PORT, GuestSpec
from tests.lab.guest import Guest
from tests.lab.harm import Vigil, identify_qemu
from tests.lab.host import Host
from tests.lab.waiting import wait_for

# Shorter than in tests that use it: here it must complain, and soon.
SHORT_S = 2.0


@pytest.fixture(scope="module")
def guest(boot_shared_guest: GuestFactory) -> Guest:
    return boot_shared_guest(GuestSpec(channels=(OVIRT_PORT,)))


def test_content_with_a_guest_that_moves(alpha: Host, beta: Host, guest: Guest, clean_hosts: None) -> None:
    with Vigil(guest, alpha, beta) as vigil:
        with vigil.moving():
            guest.migrate(beta)
        with vigil.libvirtd_broken(beta):
            beta.restart_libvirtd(kill=True)
        with vigil.moving():
            guest.migrate(alpha)
        with vigil.standing():
            alpha.virsh("managedsave", guest.name)
            guest.start()
    assert set(vigil.worst) == {"virsh", "list", "domstate", "dominfo", "silence"}


def test_sees_a_guest_that_stands(alpha: Host, guest: Guest) -> None:
    pid = identify_qemu(alpha, guest).split()[0]

    def stop() -> None:
        alpha.run(["kill", "-STOP", pid])

    complaints = _complaints(guest, stop, lambda: alpha.run(["kill", "-CONT", pid]))
    assert "the guest has said nothing for" in complaints


def test_sees_a_libvirtd_that_hangs(alpha: Host, guest: Guest) -> None:
    libvirtd = alpha.libvirtd.process
    assert libvirtd is not None
    stop, go_on = (lambda: libvirtd.signal(SIGSTOP)), (lambda: libvirtd.signal(SIGCONT))
    assert "virsh on alpha failed" in _complaints(guest, stop, go_on)


def test_sees_a_guest_that_was_started_anew(alpha: Host, guest: Guest) -> None:
    def restart() -> None:
        alpha.virsh("managedsave", guest.name)
        guest.start()

    complaints = _complaints(guest, restart, lambda: None)
    assert "QEMU was" in complaints


def _complaints(guest: Guest, harm: Callable[[], object], mend: Callable[[], object]) -> str:
    """What a vigil raises when this is done to the guest behind its back."""

    def do_harm() -> None:
        with Vigil(guest, answer_s=SHORT_S, still_s=SHORT_S) as vigil:
            harm()
            try:
                wait_for(lambda: vigil.faults, 60, "a complaint")
            finally:
                mend()

    with pytest.raises(AssertionError) as raised:
        do_harm()
    return str(raised.value)
