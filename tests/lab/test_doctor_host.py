"""The doctor on a host whose hook, sockets, daemon, configuration or libvirt is at fault; see ``test_doctor``."""

import signal
from collections.abc import Iterator
from time import monotonic

import pytest

from sidecar.cli import admit
from tests.lab.advice import Operator, read_steps
from tests.lab.conftest import GuestFactory
from tests.lab.diagnosis import codes, diagnose, find, look_for, wait_healthy
from tests.lab.domain_xml import OVIRT_PORT, QGA_PORT, GuestSpec
from tests.lab.guest import Guest
from tests.lab.guest_qga import start_qga
from tests.lab.host import Host
from tests.lab.hostile_qga import silence_qga, wait_port
from tests.lab.sidecard import CONFIG as CONFIG_FILE
from tests.lab.sidecard import PROGRAMS
from tests.lab.waiting import wait_for

CONFIG = "[ovirt]\nabsent_seconds = 1\nresponsive_seconds = 2\n[qga]\nabsent_seconds = 1\n"
ALONE_LIMIT_S = 10.0


@pytest.fixture(scope="module")
def booted_guest(boot_shared_guest: GuestFactory) -> Guest:
    return boot_shared_guest(GuestSpec(channels=(OVIRT_PORT, QGA_PORT), qga=False))


@pytest.fixture
def host(alpha: Host, clean_hosts: None, booted_guest: Guest) -> Iterator[Host]:
    """A host without hook and daemon; with its one guest all is well."""
    start_qga(booted_guest)
    wait_port(booted_guest, "connected")
    yield alpha
    silence_qga(booted_guest)


@pytest.fixture
def hand(host: Host, booted_guest: Guest) -> Operator:
    """Who mends what is wrong with the host."""
    return Operator(booted_guest, CONFIG)


def test_domain_without_a_channel(host: Host, boot_guest: GuestFactory) -> None:
    guest = boot_guest(GuestSpec(name="a b;$(id)'\"&", channels=(), agent=None))
    operator = Operator(guest, CONFIG)
    find(host, "channel-absent", guest, QGA_PORT)
    host.start_sidecard(CONFIG)
    wait_for(lambda: codes(host, guest) == ["channel-absent"], 10, "the daemon's finding")
    plug, _edit_instead = read_steps(find(host, "channel-absent", guest, QGA_PORT)["advice"])
    operator.follow([plug])
    wait_for(lambda: codes(host, guest) == ["not-opened"], 10, "the next finding")
    operator.follow(read_steps(find(host, "not-opened", guest, QGA_PORT)["advice"]))
    wait_healthy(guest)


def test_hook_from_nothing_to_healthy(host: Host, hand: Operator) -> None:
    """The faults of a host that has just got the package, one after the other."""
    assert [finding["code"] for finding in diagnose(host)["findings"]] == ["daemon-down", "hook-missing"]
    hand.follow(read_steps(find(host, "hook-missing")["advice"]))
    for way in read_steps(find(host, "hook-not-loaded")["advice"]):
        hand.follow([way])  # the second is the first in other words
    assert codes(host) == ["hook-not-loaded"], "as the advice says: nothing shows it before a hook runs"
    assert hand.follow(read_steps(find(host, "daemon-down")["advice"])), "it tells what sidecard said"
    assert codes(host) == ["hook-not-loaded"]
    host.virsh("managedsave", hand.guest.name)
    hand.guest.start()
    wait_healthy(hand.guest)
    assert diagnose(host)["healthy"]
    hook = host.path("/etc/libvirt/hooks/qemu.d/50-sidecar")
    hook.write_text(hook.read_text().replace(admit.__file__, "/opt/gone/admit.py"))
    hand.follow(read_steps(find(host, "hook-outdated")["advice"]))
    assert diagnose(host)["healthy"], "what has run since libvirt started still counts"
    hook.unlink()
    hook.write_text("#!/bin/sh\n")
    hand.follow(read_steps(find(host, "hook-missing")["advice"]))
    assert hook.with_name(f"{hook.name}-other").read_text() == "#!/bin/sh\n"
    assert diagnose(host)["healthy"]


def test_a_hook_that_was_there_when_libvirt_started(host: Host) -> None:
    host.run([str(PROGRAMS / "sidecarctl"), "hooks", "install"])
    assert codes(host) == ["hook-not-loaded"]
    host.restart_libvirtd()
    assert codes(host) == []


def test_configuration_that_was_spoilt(host: Host, hand: Operator) -> None:
    host.start_sidecard(CONFIG)
    host.path(CONFIG_FILE).write_text("[ovirt]\nabsent_seconds = 'soon'\n")
    check = read_steps(find(host, "configuration-broken")["advice"])
    with pytest.raises(RuntimeError, match="absent_seconds"):
        hand.follow(check)
    host.path(CONFIG_FILE).write_text(CONFIG)  # as it says: mend the file
    hand.follow(check)
    assert look_for(host, "configuration-broken") is None


def test_package_that_is_damaged(host: Host, hand: Operator) -> None:
    """The helper's file is another one for this host alone, until the package is installed anew."""
    host.start_sidecard(CONFIG)
    host.path("/run/damaged.py").write_text("import sidecar_of_another_release\n")
    host.run(["mount", "--bind", "/run/damaged.py", admit.__file__])
    try:
        install, status = read_steps(find(host, "helper-broken")["advice"])
        with pytest.raises(RuntimeError, match="sidecar_of_another_release"):
            hand.follow([status])
    finally:
        host.run(["umount", admit.__file__])
    hand.follow([install, status])
    assert look_for(host, "helper-broken") is None
    assert look_for(host, "hook-missing") is None


def test_daemon_sockets_and_spool(host: Host, hand: Operator) -> None:
    host.install_hook()
    host.restart_libvirtd()
    host.start_sidecard()
    for socket, mode in (("api.sock", 0o600), ("api-ro.sock", 0o660)):
        host.path(f"/run/sidecar/{socket}").chmod(mode)
        hand.follow(read_steps(find(host, "socket-wrong-mode")["advice"]))
        assert codes(host) == []
    for socket in ("api-ro.sock", "api.sock"):
        host.path(f"/run/sidecar/{socket}").unlink()
        hand.follow(read_steps(find(host, "socket-missing")["advice"]))
        assert codes(host) == []
    spool = host.path("/run/sidecar/spool")
    spool.rmdir()
    spool.symlink_to("elsewhere")
    hand.follow(read_steps(find(host, "spool-unusable")["advice"]))
    wait_for(lambda: spool.is_dir() and not spool.is_symlink(), 5, "sidecard to make another")
    host.stop_sidecard()
    spool.chmod(0o770)
    hand.follow(read_steps(find(host, "spool-unusable")["advice"]))
    assert codes(host) == []


def test_libvirt_away(host: Host, hand: Operator) -> None:
    host.install_hook()
    host.restart_libvirtd()
    libvirtd = host.libvirtd.process
    assert libvirtd is not None
    libvirtd.signal(signal.SIGSTOP)
    begin = monotonic()
    start, restart = read_steps(find(host, "libvirt-unavailable")["advice"])
    assert monotonic() - begin < ALONE_LIMIT_S + 1, "the interpreter's start included"
    hand.follow([restart])
    assert codes(host) == []
    host.start_sidecard()
    host.stop_libvirtd()
    wait_for(lambda: codes(host) == ["libvirt-unavailable"], 5, "the daemon's finding")
    host.stop_sidecard()
    assert read_steps(find(host, "libvirt-unavailable")["advice"]) == [start, restart]
    hand.follow([start])
    assert codes(host) == []
