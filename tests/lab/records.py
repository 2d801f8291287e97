"""Reads records as a user would, with nothing of the project's own code, and waits for what they should become."""

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab.api import wait_for_state
from tests.lab.domain_xml import OVIRT_PORT, QGA_PORT, RECORD_URI
from tests.lab.guest import Guest
from tests.lab.waiting import wait_for

TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Record:
    """The agreement of one domain: the element's attributes, those of each channel by its name, and of the tools."""

    attributes: dict[str, str]
    channels: dict[str, dict[str, str]]
    tools: dict[str, str] | None = None

    @property
    def arrivals(self) -> int:
        return int(self.attributes["arrivals"])

    @property
    def ovirt(self) -> dict[str, str]:
        """The usual channel's attributes."""
        return self.channels[OVIRT_PORT]

    @property
    def qga(self) -> dict[str, str]:
        """The attributes of the QEMU guest agent's channel."""
        return self.channels[QGA_PORT]

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
    channels = {e.attrib["name"]: dict(e.attrib) for e in found[0].iterfind(f"{{{RECORD_URI}}}channel")}
    tools = found[0].find(f"{{{RECORD_URI}}}tools")
    return Record(dict(found[0].attrib), channels, None if tools is None else dict(tools.attrib))


def wait_for_record(
    guest: Guest,
    what: str,
    accept: Callable[[Record], bool],
    timeout_s: float = TIMEOUT_S,
    prepare: Callable[[], None] = lambda: None,
) -> Record:
    """The first record of this guest's present host that is accepted, live and (if persistent) configured alike.

    ``prepare`` is called before each look.
    """

    def look() -> Record | None:
        prepare()
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
    version: int | str = 0,
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

    def wait() -> None:
        wait_for_state(guest.here, guest.name, state, channel, timeout_s)

    what = f"{channel} {state} {version} {reason} (arrivals {arrivals})"
    return wait_for_record(guest, what, accept, timeout_s, wait)


def wait_agreed(guest: Guest, version: int, *, arrivals: int | None = None, timeout_s: float = TIMEOUT_S) -> Record:
    """As ``wait_for_verdict``, and the agent in the guest must believe the same."""
    record = wait_for_verdict(guest, "agreed", version, arrivals=arrivals, timeout_s=timeout_s)
    wait_for(lambda: guest.agent_version() == version, timeout_s, f"the agent to be at {version}", interval_s=0.1)
    return record


def wait_for_qga(
    guest: Guest,
    state: str,
    version: str = "0",
    reason: str | None = None,
    *,
    channel: str = QGA_PORT,
    arrivals: int | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Record:
    """As ``wait_for_verdict``, for a channel of the QEMU guest agent."""
    return wait_for_verdict(guest, state, version, reason, channel=channel, arrivals=arrivals, timeout_s=timeout_s)


def answers(guest: Guest) -> list[list[object]]:
    """The versions that the agent was told, in order, after each `refresh`."""
    answers: list[list[object]] = []
    for name, arguments in guest.agent_received():
        if name == "refresh":
            answers.append([])
        elif name == "api-version":
            answers[-1].append(arguments["apiVersion"])
    return answers


def told(guest: Guest) -> list[object]:
    """Each version that the agent was told, in order; what was inferred and then confirmed counts once."""
    told = [version for version in answers(guest) if version]
    assert all(len(versions) <= 2 and len({*versions}) == 1 for versions in told)
    return [version for version, *_ in told]


def remove_record(guest: Guest) -> None:
    """Takes the record away, if there is one: what shows up next is new."""
    for where in ("--live", "--config"):
        guest.here.virsh("metadata", guest.name, RECORD_URI, "--remove", where, check=False)


@contextmanager
def count_writes(guest: Guest) -> Iterator[Callable[[], int]]:
    """How often somebody wrote the record since the beginning, as libvirt's events tell."""
    with watch_writes(guest) as log:
        yield lambda: log.read_text().count(RECORD_URI)


@contextmanager
def watch_writes(guest: Guest) -> Iterator[Path]:
    """What libvirt's events tell of metadata from the beginning on, as ``virsh event --timestamp`` shows it."""
    log = guest.here.root / "metadata-events"
    with log.open("w") as output:
        argv = ["virsh", "event", guest.name, "metadata-change", "--loop", "--timestamp"]
        watch = guest.here.popen(argv, stdout=output)
        try:
            wait_for(lambda: _note_and_look(guest, log), 10, "events about metadata")
            yield log
        finally:
            watch.end()


def _note_and_look(guest: Guest, log: Path) -> bool:
    """Whether the watcher has begun to hear: it hears of a note in a namespace that nobody reads."""
    guest.here.virsh("metadata", guest.name, "urn:lab:note", "--live", "--key", "lab", "--set", "<note/>")
    return "urn:lab:note" in log.read_text()
