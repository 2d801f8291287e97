"""The agreement record: an immutable value, to and from the XML element that libvirt keeps for us.

Source: contract, "The record in the domain's XML".
"""

from dataclasses import dataclass
from enum import StrEnum
from xml.etree import ElementTree

NAMESPACE = "urn:libvirt-sidecar:agreement:1"
"""The constant URI; libvirt does not check one, and a bad one loses the domain at its next restart."""

KEY = "sidecar"
"""The prefix that libvirt puts before our element."""

# Far above what a guest can live through, and what every reader's signed 32-bit integer holds.
ARRIVALS_LIMIT = 2**31 - 1

# Our own records are under 1 KiB a channel; a record that came along and is larger is nobody's honest work.
RECORD_LIMIT_BYTES = 64 * 1024


class Origin(StrEnum):
    """How a domain came to run on this host (``@arrival``)."""

    START = "start"
    MIGRATION = "migration"
    RESTORE = "restore"
    SNAPSHOT = "snapshot"
    ATTACH = "attach"


@dataclass(frozen=True, slots=True)
class ChannelRow:
    """One ``channel`` element; every value is its text in the XML, ``None`` where the attribute is absent."""

    name: str
    dialect: str
    state: str
    version: str
    guest: str | None
    host: str
    since: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """The whole record; see the contract for what each attribute means. Times are RFC 3339, UTC, milliseconds."""

    host: str
    host_uuid: str
    run: str
    arrival: str
    arrivals: int
    arrived: str
    channels: tuple[ChannelRow, ...]


def render_agreement(agreement: Agreement) -> str:
    """The element as text, without a prefix: libvirt adds ours, and refuses an element that declares it already."""
    root = ElementTree.Element(
        "agreement",
        {
            "host": agreement.host,
            "host-uuid": agreement.host_uuid,
            "run": agreement.run,
            "arrival": agreement.arrival,
            "arrivals": str(agreement.arrivals),
            "arrived": agreement.arrived,
        },
    )
    for row in agreement.channels:
        attributes = {
            "name": row.name,
            "dialect": row.dialect,
            "state": row.state,
            "version": row.version,
            "guest": row.guest,
            "host": row.host,
            "since": row.since,
            "reason": row.reason,
        }
        ElementTree.SubElement(root, "channel", {key: value for key, value in attributes.items() if value is not None})
    return ElementTree.tostring(root, encoding="unicode")


def parse_agreement(text: str) -> Agreement | None:
    """The record in this text, or ``None`` when it is broken: too large, no XML, with a DTD, or a count that is none.

    Unknown attributes and children are ignored. The element's namespace, when it has one, must be ours; libvirt's
    own answer to "give me the metadata" comes without.
    """
    # Entities grow where they are used; no honest record declares any.
    if len(text) > RECORD_LIMIT_BYTES or "<!DOCTYPE" in text:
        return None
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError):
        return None
    return read_agreement(root)


def read_agreement(root: ElementTree.Element) -> Agreement | None:
    """As ``parse_agreement``, from an element that is parsed already."""
    if _local_name(root) != "agreement":
        return None
    arrivals = root.get("arrivals", "")
    if not (arrivals.isascii() and arrivals.isdigit() and len(arrivals) <= len(str(ARRIVALS_LIMIT))):
        return None
    if not 0 < int(arrivals) < ARRIVALS_LIMIT:
        return None
    return Agreement(
        host=root.get("host", ""),
        host_uuid=root.get("host-uuid", ""),
        run=root.get("run", ""),
        arrival=root.get("arrival", ""),
        arrivals=int(arrivals),
        arrived=root.get("arrived", ""),
        channels=tuple(_read_row(child) for child in root if _local_name(child) == "channel"),
    )


def _read_row(element: ElementTree.Element) -> ChannelRow:
    return ChannelRow(
        name=element.get("name", ""),
        dialect=element.get("dialect", ""),
        state=element.get("state", ""),
        version=element.get("version", ""),
        guest=element.get("guest"),
        host=element.get("host", ""),
        since=element.get("since", ""),
        reason=element.get("reason"),
    )


def _local_name(element: ElementTree.Element) -> str | None:
    namespace, brace, name = element.tag.rpartition("}")
    return name if not brace or namespace == "{" + NAMESPACE else None
