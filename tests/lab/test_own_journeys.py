"""Our agent and our hosts: what each end believes at each stop is what the record says, and its tools with it."""

from collections.abc import Iterator

import pytest

from tests.lab.conftest import GuestFactory
from tests.lab.domain_xml import OVIRT_PORT, QGA_PORT, GuestSpec
from tests.lab.guest import Guest
from tests.lab.host import Host
from tests.lab.own_agent import LOCK_FILE, OWN, OWN_GUEST, configure, restart
from tests.lab.records import Record, count_writes, read_record, wait_agreed, wait_for_record

CAPPED_TO_2 = "[upgrade_levels]\novirt = 2\n"
CURRENT = '[tools]\ncurrent = {guest-tools = "0.1"}\n'
OLD = '[tools]\ncurrent = {guest-tools = "9.9"}\n'
RATES = "[rates]\nheartbeat_seconds = 0.5\napplications_seconds = 0.5\n"


@pytest.fixture
def host(alpha: Host, clean_hosts: None) -> Iterator[Host]:
    """Alpha, with its hook; each test gives it the daemon that it needs."""
    alpha.install_hook()
    yield alpha
    assert alpha.stop_sidecard() == 0
    assert "Traceback" not in alpha.log_text()


def wait_for_tools(guest: Guest, **wanted: str) -> Record:
    """The record once its tools show these attributes (``_`` for ``-``)."""
    attributes = {name.replace("_", "-"): value for name, value in wanted.items()}
    return wait_for_record(guest, f"tools {attributes}", lambda r: attributes.items() <= (r.tools or {}).items())


@pytest.mark.long
def test_alpha_beta_gamma_alpha(
    alpha: Host, beta: Host, gamma: Host, clean_hosts: None, boot_guest: GuestFactory
) -> None:
    for host, configuration in ((alpha, CURRENT), (beta, CAPPED_TO_2)):
        host.install_hook()
        host.start_sidecard(configuration)
    guest = boot_guest(OWN_GUEST)
    there = wait_agreed(guest, 4, arrivals=1)
    there = wait_for_tools(guest, source="guest-tools", upgradable="true", up_to_date="true")
    assert there.tools
    version = there.tools["version"]

    guest.migrate(beta)
    there = wait_agreed(guest, 2, arrivals=2)
    assert (there.ovirt["guest"], there.ovirt["host"]) == ("4", "2")
    # Beta is not told of tools at version 2; what alpha was told came along, and beta has nothing to compare it with.
    assert there.tools == {"source": "guest-tools", "version": version, "upgradable": "true", "up-to-date": "unknown"}

    guest.migrate(gamma)
    stale = read_record(guest)
    assert stale
    assert stale.attributes["host"] == "beta"  # nobody is there to write
    assert guest.agent_version() == 2  # and nobody told the agent

    guest.migrate(alpha)
    back = wait_agreed(guest, 4, arrivals=3)
    assert (back.ovirt["guest"], back.ovirt["host"]) == ("4", "4")
    wait_for_tools(guest, version=version, up_to_date="true")
    assert "bad input" not in guest.agent_log()
    for host in (alpha, beta):
        assert "Traceback" not in host.log_text()
        assert "bad-" not in host.log_text()


def test_an_arrival_is_agreed_in_one_round_trip(
    alpha: Host, beta: Host, clean_hosts: None, boot_guest: GuestFactory
) -> None:
    for host in (alpha, beta):
        host.install_hook()
        host.start_sidecard()
    guest = boot_guest(OWN_GUEST)
    restart(guest, "[rates]\nheartbeat_seconds = 3600\n")  # nothing but the answer to refresh can bring it
    wait_agreed(guest, 4)
    for stop, host in enumerate((beta, alpha), 2):
        guest.migrate(host)
        wait_agreed(guest, 4, arrivals=stop)


def test_tools_that_may_not_be_upgraded_are_up_to_date_and_a_rewrite_is_no_write(
    host: Host, boot_guest: GuestFactory
) -> None:
    host.start_sidecard(OLD)
    guest = boot_guest(OWN_GUEST)
    restart(guest, RATES)
    wait_for_tools(guest, upgradable="true", up_to_date="false")
    guest.shell(f"touch {LOCK_FILE}")
    wait_for_tools(guest, upgradable="false", up_to_date="true")
    with count_writes(guest) as writes:
        before = host.log_text()
        guest.shell(f"touch {LOCK_FILE}")
        restart(guest)  # tells the same again, with an `updated` that has grown
        wait_for_record(guest, "agreed", lambda record: record.ovirt["state"] == "agreed")
        changes = [line for line in host.log_text()[len(before) :].splitlines() if "tools" in line]
        assert changes == []
        assert writes() <= 4  # of the channel's own states: the agent was restarted
    guest.shell(f"rm {LOCK_FILE}")
    wait_for_tools(guest, upgradable="true", up_to_date="false")


@pytest.mark.long
def test_other_versions_of_the_tools(host: Host, boot_guest: GuestFactory) -> None:
    host.start_sidecard('[tools]\ncurrent = {guest-tools = "1.4.0-12"}\n')
    guest = boot_guest(OWN_GUEST)
    for version, told, verdict in (
        ("1.4.0-12", "1.4.0-12", "true"),
        ("1.4.0-11", "1.4.0-11", "false"),
        ("1.10", "1.10.0-0", "true"),  # the message has all four numbers
    ):
        restart(guest, f'{RATES}[tools]\nversion = "{version}"\n')
        assert wait_for_tools(guest, version=told, up_to_date=verdict).ovirt["version"] == "4"


@pytest.mark.long
def test_without_our_agent_the_tools_are_those_of_the_other_agents(host: Host, boot_guest: GuestFactory) -> None:
    host.start_sidecard('[tools]\ncurrent = {applications = "1.0.16", qga = "9.0"}\n')
    guest = boot_guest(GuestSpec(channels=(OVIRT_PORT, QGA_PORT)))
    wait_for_tools(guest, source="applications", version="1.0.16", upgradable="unknown", up_to_date="true")
    alone = boot_guest(GuestSpec(channels=(QGA_PORT,)))
    wait_for_tools(alone, source="qga", version="7.2.22", upgradable="unknown", up_to_date="false")


@pytest.mark.parametrize(
    ("locked", "upgradable", "up_to_date"),
    [(True, "false", "true"), pytest.param(False, "true", "false", marks=pytest.mark.long)],
)
def test_the_lock_file_is_read_through_the_qemu_guest_agent(
    host: Host, boot_guest: GuestFactory, locked: bool, upgradable: str, up_to_date: str
) -> None:
    guest = boot_guest(GuestSpec(channels=(QGA_PORT,), agent=None))
    if locked:
        guest.shell(f"mkdir -p /etc; touch {LOCK_FILE}")
    host.start_sidecard('[tools]\nread_guest_file = true\ncurrent = {qga = "9.0"}\n')
    wait_for_tools(guest, source="qga", upgradable=upgradable, up_to_date=up_to_date)


def test_our_agent_beside_qemu_ga(host: Host, boot_guest: GuestFactory) -> None:
    host.start_sidecard()
    guest = boot_guest(GuestSpec(channels=(OVIRT_PORT, QGA_PORT), agent=OWN))
    record = wait_for_tools(guest, source="guest-tools")
    assert record.verdict(OVIRT_PORT) == ("agreed", "4", None)
    wait_for_record(guest, "both agreed", lambda r: {row["state"] for row in r.channels.values()} == {"agreed"})
    configure(guest, RATES)
    restart(guest)
    assert wait_agreed(guest, 4).arrivals == 1


def test_a_policy_that_requires_tools(alpha: Host, beta: Host, clean_hosts: None, boot_guest: GuestFactory) -> None:
    for host in (alpha, beta):
        host.install_hook()
        host.start_sidecard()
    policy = '<policy xmlns="urn:libvirt-sidecar:policy:1"><require tools="true"/></policy>'
    bare = boot_guest(GuestSpec(channels=(OVIRT_PORT,), agent=None, metadata=policy))
    with pytest.raises(RuntimeError, match=r"tools="):
        bare.migrate(beta)
    assert bare.is_running()
    guest = boot_guest(GuestSpec(channels=(OVIRT_PORT,), agent=OWN, metadata=policy))
    wait_for_tools(guest, source="guest-tools")
    guest.migrate(beta)
    wait_agreed(guest, 4, arrivals=2)
