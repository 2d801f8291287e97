"""One arrival with something broken in its midst: begun, judged by the contract, and never counted twice."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.lab.domain_xml import OVIRT_PORT, RECORD_URI
from tests.lab.guest import Guest
from tests.lab.guest_files.control import OWN_AGENT
from tests.lab.host import Host
from tests.lab.records import Record, read_record, wait_agreed

# A machine that is busy with other laboratories takes its time.
ARRIVAL_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Before:
    """How things stood before the arrival: the record, and how much a scripted agent had received."""

    record: Record
    received: int


@contextmanager
def hooked(*hosts: Host) -> Iterator[None]:
    """Hosts as they are at first, with hooks; afterwards no daemon of theirs may have raised anything."""
    for host in hosts:
        host.clean()
        host.install_hook()
    yield
    for host in hosts:
        assert "Traceback" not in host.log_text()
        host.clean()


def settle(guest: Guest, version: int, *hosts: Host, config_text: str = "") -> Host:
    """A daemon where the guest is, and it has agreed; none on the other host, which is returned."""
    other = next(host for host in hosts if host is not guest.here)
    if other.sidecard.process is not None:
        other.stop_sidecard()
    if guest.here.sidecard.process is None:
        guest.here.start_sidecard(config_text)
    wait_agreed(guest, version, timeout_s=ARRIVAL_TIMEOUT_S)
    return other


def note_before(guest: Guest, version: int) -> Before:
    """What the arrival begins with: agreed, the agent as well."""
    record = wait_agreed(guest, version, timeout_s=ARRIVAL_TIMEOUT_S)
    scripted = guest.spec.agent is not None and guest.spec.agent.era != OWN_AGENT
    return Before(record, len(guest.agent_received()) if scripted else 0)


@contextmanager
def migrating(guest: Guest, destination: Host) -> Iterator[None]:
    """While virsh migrates it; it ends well, and then the guest is there."""
    virsh = guest.here.popen(["virsh", *guest.migrate_command(destination)])
    try:
        yield
    finally:
        try:
            status = virsh.wait(ARRIVAL_TIMEOUT_S)
        finally:
            virsh.end()
        if status == 0:  # whatever happened in the block: the next test begins where the guest is
            guest.moved_to(destination)
    assert status == 0, "the migration itself"


def recorded_on(host: Host, guest: Guest) -> dict[str, str]:
    """The attributes of the record that this host's daemon has written there; none when it has not (yet)."""
    text = host.virsh("metadata", guest.name, RECORD_URI, check=False)
    start = re.search(r"<\S*agreement\b([^>]*)>", text)
    attributes = {} if start is None else dict(re.findall(r"""([\w-]+)=['"]([^'"]*)['"]""", start[1]))
    return attributes if attributes.get("host") == host.name else {}


def require_one_arrival(guest: Guest, before: Before, version: int, counted: dict[str, str], came: str) -> Record:
    """Return the record once it is what the contract says of one arrival more.

    Args:
        guest: On its new host.
        before: What stood there.
        version: What is to be agreed.
        counted: What the daemon that was there first had written of this arrival.
        came: ``migration``, ``start``, ``restore``.
    """
    record = wait_agreed(guest, version, arrivals=before.record.arrivals + 1, timeout_s=ARRIVAL_TIMEOUT_S)
    found = record.attributes
    assert (found["host"], found["host-uuid"]) == (guest.here.name, guest.here.host_uuid)
    assert found["run"] != before.record.attributes["run"]
    if counted:
        same = ("run", "arrival", "arrivals", "arrived")
        assert {name: found[name] for name in same} == {name: counted[name] for name in same}
        assert found["arrival"] == came
    else:  # it may have been running when the daemon that counted it saw it first
        assert found["arrival"] in (came, "attach")
    row = record.ovirt
    assert (row["name"], row["dialect"], row["host"]) == (OVIRT_PORT, "ovirt", "4")
    assert "reason" not in row
    assert read_record(guest, config=True) == record
    return record


def require_told(guest: Guest, before: Before, version: int, daemons: int) -> None:
    """It was told this version and nothing else since then, by so many daemons that lived to tell it.

    Each tells it in answer to the heartbeat, and may have told it before, when it had inferred it.
    """
    received = guest.agent_received()[before.received :]
    told = [arguments["apiVersion"] for name, arguments in received if name == "api-version"]
    assert {name for name, _ in received} <= {"refresh", "api-version"}
    assert set(told) == {version}
    assert len(told) <= 2 * daemons
