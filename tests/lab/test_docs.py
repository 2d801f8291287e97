"""A newcomer's walk: every command of the documents that names a host is typed there, and says what is shown."""

import os
import re
import signal

import pytest

from tests.lab.conftest import GuestFactory
from tests.lab.doc_walk import Step, is_shown, read_steps, rewrite
from tests.lab.domain_xml import OVIRT_PORT, QGA_PORT, AgentSpec, GuestSpec
from tests.lab.guest import Guest
from tests.lab.guest_files.control import OWN_AGENT
from tests.lab.host import Host
from tests.lab.records import wait_agreed, wait_for_qga
from tests.lab.sidecard import PROGRAMS
from tests.lab.waiting import wait_for

DOCUMENTS = ["README.md", "docs/first-steps.md", "docs/rolling-upgrade.md"]
HOME = "/run/lab/home"
CAPPED = '[upgrade_levels]\novirt = "ovirt-3.6"\nqga = "debian-11"\n'


@pytest.fixture
def hosts(alpha: Host, beta: Host, clean_hosts: None) -> dict[str, Host]:
    """Alpha and beta as the documents have them: daemon and hook on both, beta's caps older."""
    hosts = {"alpha": alpha, "beta": beta}
    for host in hosts.values():
        host.install_hook()
        host.path(HOME).mkdir(parents=True, exist_ok=True)
    alpha.start_sidecard()
    beta.start_sidecard(CAPPED)
    return hosts


@pytest.fixture
def guest(define_guest: GuestFactory, hosts: dict[str, Host]) -> Guest:
    guest = define_guest(
        GuestSpec(name="vm1", channels=(OVIRT_PORT, QGA_PORT), agent=AgentSpec(era=OWN_AGENT, heartbeat_s=5.0))
    )
    guest.start()
    wait_agreed(guest, 4)
    wait_for_qga(guest, "agreed", "7.2")
    return guest


def test_what_is_shown_is_told_from_what_is_not() -> None:
    assert is_shown(("a  1 s", "", "b"), "\na 22 s\n\nb\n")
    assert is_shown(("a", "...", "z"), "a\nb\nc\nz")
    assert not is_shown(("a", "...", "z"), "a\nz")
    assert not is_shown(("a",), "a\nb")
    assert not is_shown(("agreed 3",), "agreed 2")
    assert is_shown(("since 2026-11-21T20:14:18.723Z",), "since 2027-01-01T00:00:00.000Z")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_commands_of_the_documents_say_what_is_shown(document: str, hosts: dict[str, Host], guest: Guest) -> None:
    steps = read_steps(document)
    assert steps
    if os.environ.get("SIDECAR_REGENERATE"):
        rewrite(document, [type_in(step, hosts) for step in steps])
        return
    for step in steps:
        said = type_in(step, hosts)
        assert is_shown(step.output, said), (
            f"{step.place}: {step.command}\n--- shown:\n{step.output}\n--- said:\n{said}"
        )


def type_in(step: Step, hosts: dict[str, Host]) -> str:
    """What the command says on its host; what the laboratory does not have (ssh, systemd) is done in its stead.

    A command that is meant to fail shows its exit code, and ends with that.
    """
    host = hosts[step.host]
    if step.command == "systemctl reload sidecard":
        begin = len(host.log_text())
        host.sidecard.process.signal(signal.SIGHUP)  # type: ignore[union-attr]
        wait_for(lambda: "configuration reloaded" in host.log_text()[begin:], 10, "sidecard to have reloaded")
        return ""
    command = step.command
    for name, other in hosts.items():
        command = command.replace(f"qemu+ssh://{name}/system", other.migration_uri)
    elsewhere = re.fullmatch(r"ssh (\w+) (.*) > (\S+)", command)
    if elsewhere is not None:
        host.path(f"{HOME}/{elsewhere[3]}").write_text(run(hosts[elsewhere[1]], elsewhere[2]))
        return ""
    return run(host, command)


def run(host: Host, command: str) -> str:
    env = {"PATH": f"{PROGRAMS}:/usr/sbin:/usr/bin:/sbin:/bin", "COLUMNS": "120", "TERM": "dumb", "LC_ALL": "C.UTF-8"}
    done = host.run(["bash", "-c", f"cd {HOME}; exec 2>&1; {command}"], env=env, check=False)
    assert done.returncode == 0, f"{command}: exit {done.returncode}: {done.stdout}"
    return done.stdout
