"""What an operator requires in a domain's XML is refused by a host that lacks it, before the guest leaves its own."""

import json
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from tests.lab.conftest import GuestFactory
from tests.lab.domain_xml import OVIRT_PORT, RECORD_URI, AgentSpec, GuestSpec
from tests.lab.guest import Guest
from tests.lab.host import Host
from tests.lab.records import Record, read_record, wait_agreed, wait_for_verdict
from tests.lab.sidecard import CONFIG, PROGRAMS
from tests.lab.waiting import wait_for

POLICY = '<policy:policy xmlns:policy="urn:libvirt-sidecar:policy:1">%s</policy:policy>'
NEEDS_3 = POLICY % '<policy:require dialect="ovirt" min-version="3"/>'
NEEDS_TOOLS = POLICY % '<policy:require tools="true"/>'
BROKEN = POLICY % '<policy:require dialect="ovirt" min-version="three"/>'
CAPPED_TO_2 = "[upgrade_levels]\novirt = 2\n"
REFUSED = (
    'domain \'%s\' is refused: its policy requires dialect="ovirt" min-version="3", and this host offers ovirt up to 2'
)
HOOK = "/etc/libvirt/hooks/qemu.d/50-sidecar"
OFFER = "/run/sidecar/host.json"
# The hook waits for its helper for 2 s; the migration itself takes another 3 here.
FEW_S = 15.0


@pytest.fixture
def hosts(alpha: Host, beta: Host, clean_hosts: None) -> Iterator[tuple[Host, Host]]:
    """Alpha with its daemon at 4, and beta with its hook, and a daemon that is capped to 2."""
    for host in (alpha, beta):
        host.install_hook()
    alpha.start_sidecard()
    beta.start_sidecard(CAPPED_TO_2)
    wait_for(beta.path(OFFER).exists, 10, "beta's offer")
    yield alpha, beta
    for host in (alpha, beta):
        if host.sidecard.process is not None:
            assert host.stop_sidecard() == 0
        assert "Traceback" not in host.log_text()


def spec(metadata: str, agent: AgentSpec | None = AgentSpec()) -> GuestSpec:  # noqa: B008 (it is frozen)
    return GuestSpec(channels=(OVIRT_PORT,), metadata=metadata, agent=agent)


def expect_refusal(guest: Guest, beta: Host, words: str, before: Record | None) -> None:
    """It fails with these words, the guest runs on where it is, and beta has nothing of it."""
    pid = qemu_pid(guest)
    with pytest.raises(RuntimeError, match=words):
        guest.migrate(beta)
    assert guest.is_running()
    assert guest.shell("echo alive").strip() == "alive"
    assert qemu_pid(guest) == pid
    assert read_record(guest) == before
    assert beta.virsh("list", "--all", "--name").split() == []


def qemu_pid(guest: Guest) -> str:
    return guest.here.path(f"/run/libvirt/qemu/{guest.name}.pid").read_text()


def test_a_host_below_the_minimum_refuses_with_its_daemon_up_and_down(
    hosts: tuple[Host, Host], boot_guest: GuestFactory
) -> None:
    _alpha, beta = hosts
    guest = boot_guest(spec(NEEDS_3))
    record = wait_agreed(guest, 3, arrivals=1)
    words = REFUSED % guest.name
    expect_refusal(guest, beta, words, record)
    assert beta.stop_sidecard() == 0
    expect_refusal(guest, beta, words, record)
    beta.path(OFFER).unlink()
    expect_refusal(guest, beta, words, record)
    assert beta.path(CONFIG).read_text() == CAPPED_TO_2, "what it was judged from"
    beta.start_sidecard()
    wait_for(beta.path(OFFER).exists, 10, "beta's new offer")
    guest.migrate(beta)
    wait_agreed(guest, 3, arrivals=2)


@pytest.mark.long
def test_an_offline_migration_is_refused_likewise(hosts: tuple[Host, Host], boot_guest: GuestFactory) -> None:
    alpha, beta = hosts
    guest = boot_guest(spec(NEEDS_3))
    record = wait_agreed(guest, 3, arrivals=1)
    alpha.virsh("destroy", guest.name)
    with pytest.raises(RuntimeError, match=REFUSED % guest.name):
        guest.migrate(beta, offline=True)
    assert beta.virsh("list", "--all", "--name").split() == []
    assert read_record(guest, config=True) == record
    guest.start()
    wait_agreed(guest, 3, arrivals=2)


def test_a_guest_without_tools_is_refused(hosts: tuple[Host, Host], boot_guest: GuestFactory) -> None:
    alpha, beta = hosts
    guest = boot_guest(spec(NEEDS_TOOLS, agent=None))
    record = wait_for_verdict(guest, "waiting", 0, "not-heard")
    expect_refusal(guest, beta, f"domain '{guest.name}' is refused: its policy requires tools=\"true\"", record)
    assert alpha.stop_sidecard() == 0
    tools = '<tools source="guest-tools" version="1.4.0"/>'
    alpha.virsh(
        "metadata", guest.name, RECORD_URI, "--live", "--key", "sidecar", "--set", f"<agreement>{tools}</agreement>"
    )
    guest.migrate(beta)
    assert guest.shell("echo alive").strip() == "alive"


def test_a_broken_policy_admits_and_is_reported(hosts: tuple[Host, Host], boot_guest: GuestFactory) -> None:
    alpha, beta = hosts
    guest = boot_guest(spec(BROKEN))
    wait_agreed(guest, 3, arrivals=1)
    guest.migrate(beta)
    wait_agreed(guest, 2, arrivals=2)
    for host in (alpha, beta):
        (line,) = [line for line in host.log_text().splitlines() if "bad-policy" in line]
        assert guest.name in line
        assert "min-version 'three'" in line
    # Mended where it runs, and broken again: libvirt tells, and the daemon looks.
    uri = "urn:libvirt-sidecar:policy:1"
    for element in ('<policy><require tools="false"/></policy>', '<policy><require tools="perhaps"/></policy>'):
        beta.virsh("metadata", guest.name, uri, "--live", "--key", "policy", "--set", element)
    wait_for(lambda: "tools 'perhaps'" in beta.log_text(), 10, "the new problem in beta's log")
    assert "'perhaps'" not in alpha.log_text()


@pytest.mark.parametrize(
    "text", ["import time\ntime.sleep(30)\n", pytest.param("raise SystemError\n", marks=pytest.mark.long), None]
)
def test_a_helper_that_does_not_work_admits(
    hosts: tuple[Host, Host], boot_guest: GuestFactory, tmp_path: Path, text: str | None
) -> None:
    _alpha, beta = hosts
    guest = boot_guest(spec(NEEDS_3))
    wait_agreed(guest, 3, arrivals=1)
    helper = tmp_path / "admit.py"
    if text is not None:
        helper.write_text(text)
    replace_helper(beta, helper)
    begin = monotonic()
    guest.migrate(beta)
    assert monotonic() - begin < FEW_S
    wait_agreed(guest, 2, arrivals=2)


def replace_helper(host: Host, helper: Path) -> None:
    hook = host.path(HOOK)
    lines = hook.read_text().splitlines()
    places = [place for place, line in enumerate(lines) if line.startswith("helper='/")]
    assert len(places) == 1
    lines[places[0]] = f"helper='{helper}'"
    hook.write_text("\n".join(lines) + "\n")


def test_the_status_says_that_the_helper_works(hosts: tuple[Host, Host]) -> None:
    _alpha, beta = hosts
    status = json.loads(beta.run([str(PROGRAMS / "sidecarctl"), "hooks", "status", "--json"]).stdout)
    assert (status["state"], status["helper_problem"]) == ("installed", None)
