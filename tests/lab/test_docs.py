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
    """What the command says on its host; what the laboratory does not have (ssh, systemd) is done in its stead."""
    host = hosts[step.host]
    if step.command == "systemctl reload sidecard":
        host.sidecard.process.signal(signal.SIGHUP)  # type: ignore[union-attr]
        return ""
    command = step.command.replace("qemu+ssh://beta/system", hosts["beta"].migration_uri)
    elsewhere = re.fullmatch(r"ssh (\w+) (.*) > (\S+)", command)
    if elsewhere is not None:
        host.path(f"{HOME}/{elsewhere[3]}").write_text(run(hosts[elsewhere[1]], elsewhere[2]))
        return ""
    return run(host, command)


def run(host: Host, command: str) -> str:
    env = {"PATH": f"{PROGRAMS}:/usr/sbin:/usr/bin:/sbin:/bin", "COLUMNS": "120", "TERM": "dumb", "LC_ALL": "C.UTF-8"}
    script = f"cd {HOME}; exec 2>&1; {command}"
    return host.run(["bash", "-c", script], env=env, check=False).stdout
