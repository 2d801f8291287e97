"""Reads records as a user would, with nothing of the project's own code, and waits for what they should become."""

import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass

from tests.lab.domain_xml import OVIRT_PORT, RECORD_URI
from tests.lab.guest import Guest
from tests.lab.waiting import wait_for

TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Record:
    """The agreement of one domain: the element's attributes, and those of each channel by its name."""

    attributes: dict[str, str]
    channels: dict[str, dict[str, str]]

    @property
    def arrivals(self) -> int:
        return int(self.attributes["arrivals"])

    @property
    def ovirt(self) -> dict[str, str]:
        """The usual channel's attributes."""
        return self.channels[OVIRT_PORT]

    def verdict(self, channel: str = OVIRT_PORT) -> tuple[str, str, str | None]:
        """State, version and reason."""
        row = self.channels[channel]
        return row["state"], row["version"], row.get("reason")


def read_record(guest: Guest, config: bool = False) -> Record | None:
    """The record in the live XML, or in the persistent configuration."""
    options = ["--inactive"] if config else []
    metadata = ET.fromstring(guest.dumpxml(*options)).find("metadata")
    found = [] if metadata is None else [e for e in metadata if e.tag == f"{{{RECORD_URI}}}agreement"]
    if not found:
        return None
    return Record(dict(found[0].attrib), {child.attrib["name"]: dict(child.attrib) for child in found[0]})


def wait_for_record(guest: Guest, what: str, accept: Callable[[Record], bool], timeout_s: float = TIMEOUT_S) -> Record:
    """The first record of this guest's present host that is accepted, live and (if persistent) configured alike."""

    def look() -> Record | None:
        record = read_record(guest)
        if record is None or record.attributes["host"] != guest.here.name or not accept(record):
            return None
        if guest.spec.persistent and read_record(guest, config=True) != record:
            return None
        return record

    try:
        return wait_for(look, timeout_s, f"{guest.name}'s record: {what}", interval_s=0.05)
    except TimeoutError as error:
        raise TimeoutError(f"{error}; last: {read_record(guest)}") from None


def wait_for_verdict(
    guest: Guest,
    state: str,
    version: int = 0,
    reason: str | None = None,
    *,
    channel: str = OVIRT_PORT,
    arrivals: int | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Record:
    """The record once its channel shows this; with ``arrivals`` also once it counts so many."""

    def accept(record: Record) -> bool:
        right = channel in record.channels and record.verdict(channel) == (state, str(version), reason)
        return right and arrivals in (None, record.arrivals)

    return wait_for_record(guest, f"{channel} {state} {version} {reason} (arrivals {arrivals})", accept, timeout_s)


def wait_agreed(guest: Guest, version: int, *, arrivals: int | None = None, timeout_s: float = TIMEOUT_S) -> Record:
    """As ``wait_for_verdict``, and the agent in the guest must believe the same."""
    record = wait_for_verdict(guest, "agreed", version, arrivals=arrivals, timeout_s=timeout_s)
    wait_for(lambda: guest.agent_version() == version, timeout_s, f"the agent to be at {version}", interval_s=0.1)
    return record
