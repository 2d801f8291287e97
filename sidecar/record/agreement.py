"""The agreement record: an immutable value, to and from the XML element that libvirt keeps for us.

Source: docs/record.md.
"""

import re
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any
from xml.etree import ElementTree

from sidecar.protocol.tools import Source, ToolsVersion, Tristate

NAMESPACE = "urn:libvirt-sidecar:agreement:1"
"""The constant URI; libvirt does not check one, and a bad one loses the domain at its next restart."""

KEY = "sidecar"
"""The prefix that libvirt puts before our element."""

# Far above what a guest can live through, and what every reader's signed 32-bit integer holds.
ARRIVALS_LIMIT = 2**31 - 1

# A controller has 31 virtio ports. A domain with two of them, each port a guest agent's, is nobody's honest work.
ROWS_LIMIT = 64

# Our own records are well under 1 KiB a channel; a record that came along and is larger is nobody's, either.
RECORD_LIMIT_CHARACTERS = ROWS_LIMIT * 1024


_CHILDREN = ("channels", "tools")

# As ``engine.clocks`` renders times.
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)


class Origin(StrEnum):
    """How a domain came to run on this host (``@arrival``)."""

    START = "start"
    MIGRATION = "migration"
    RESTORE = "restore"
    SNAPSHOT = "snapshot"
    ATTACH = "attach"


@dataclass(frozen=True, slots=True)
class ChannelRow:
    """One ``channel`` element; every value is its text in the XML, ``None`` where the attribute is absent.

    The attributes are the fields, in their order, with ``-`` for ``_``; so they are in ``Agreement``.
    """

    name: str
    dialect: str
    state: str
    version: str
    guest: str | None
    host: str
    since: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class ToolsRow:
    """The ``tools`` element: the guest's tools, and this host's verdict; the attributes are the fields, likewise."""

    source: Source
    version: ToolsVersion
    upgradable: Tristate
    up_to_date: Tristate


@dataclass(frozen=True, slots=True)
class Agreement:
    """The whole record; docs/record.md says what each attribute means. Times are RFC 3339, UTC, milliseconds."""

    host: str
    host_uuid: str
    run: str
    arrival: str
    arrivals: int
    arrived: str
    channels: tuple[ChannelRow, ...]
    tools: ToolsRow | None = None


def render_agreement(agreement: Agreement) -> str:
    """The element as text, without a prefix: libvirt adds ours, and refuses an element that declares it already."""
    root = ElementTree.Element("agreement", _attributes(agreement))
    for row in agreement.channels:
        ElementTree.SubElement(root, "channel", _attributes(row))
    if agreement.tools is not None:
        ElementTree.SubElement(root, "tools", _attributes(agreement.tools))
    return ElementTree.tostring(root, encoding="unicode")


def parse_agreement(text: str) -> Agreement | None:
    """The record in this text; ``None`` when it is no XML, has a DTD, or is broken as ``read_agreement`` says.

    Unknown attributes and children are ignored. The element's namespace, when it has one, must be ours; libvirt's
    own answer to "give me the metadata" comes without.
    """
    # Entities grow where they are used; no honest record declares any.
    if len(text) > RECORD_LIMIT_CHARACTERS or "<!DOCTYPE" in text:
        return None
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError):
        return None
    return read_agreement(root)


def read_agreement(root: ElementTree.Element) -> Agreement | None:
    """The record in an element that somebody has parsed; ``None`` when it is broken.

    Broken is: another element than ours, over ``RECORD_LIMIT_CHARACTERS``, more than ``ROWS_LIMIT`` channels, or a
    count of arrivals that is none. A ``tools`` element that we would not write, or a second one, is none.
    """
    if _local_name(root) != "agreement" or _size(root) > RECORD_LIMIT_CHARACTERS:
        return None
    rows = [child for child in root if _local_name(child) == "channel"]
    values = _read_attributes(root, Agreement)
    arrivals = _parse_arrivals(values["arrivals"] or "")
    if arrivals is None or len(rows) > ROWS_LIMIT:
        return None
    values["arrivals"] = arrivals
    values["channels"] = tuple(ChannelRow(**_read_attributes(row, ChannelRow)) for row in rows)
    values["tools"] = _read_tools([child for child in root if _local_name(child) == "tools"])
    return Agreement(**values)


def is_written_by_us(agreement: Agreement) -> bool:
    """Whether the texts that we would go on writing are such as we write; that it is ours otherwise proves nothing.

    Host UUID and run are no secret, so whoever may edit the domain can forge them. What is left of a row is judged
    where it is used.
    """
    times = (agreement.arrived, *(row.since for row in agreement.channels))
    return agreement.arrival in set(Origin) and all(_TIME.fullmatch(time) for time in times)


def _read_tools(elements: list[ElementTree.Element]) -> ToolsRow | None:
    if len(elements) != 1:
        return None
    source, version, upgradable, up_to_date = (
        elements[0].get(name, "") for name in ("source", "version", "upgradable", "up-to-date")
    )
    try:
        return ToolsRow(Source(source), ToolsVersion.parse(version), Tristate(upgradable), Tristate(up_to_date))
    except ValueError:
        return None


def _parse_arrivals(text: str) -> int | None:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(ARRIVALS_LIMIT))):
        return None
    return int(text) if 0 < int(text) < ARRIVALS_LIMIT else None


def _attributes(value: Agreement | ChannelRow | ToolsRow) -> dict[str, str]:
    texts = {field.name.replace("_", "-"): getattr(value, field.name) for field in fields(value)}
    return {name: str(text) for name, text in texts.items() if text is not None and name not in _CHILDREN}


def _read_attributes(element: ElementTree.Element, kind: type[Agreement | ChannelRow]) -> dict[str, Any]:
    """The attribute of each field; one that is absent is ``""`` where a text must be, and ``None`` otherwise."""
    return {
        field.name: element.get(field.name.replace("_", "-"), "" if field.type is str else None)
        for field in fields(kind)
    }


def _size(root: ElementTree.Element) -> int:
    """How many characters the element has at least, as text: tags, attributes and text, down to the last child."""
    size = 0
    for element in root.iter():
        size += len(element.tag.rpartition("}")[2]) + len(element.text or "") + len(element.tail or "")
        size += sum(len(name.rpartition("}")[2]) + len(value) for name, value in element.items())
    return size


def _local_name(element: ElementTree.Element) -> str | None:
    namespace, brace, name = element.tag.rpartition("}")
    return name if not brace or namespace == "{" + NAMESPACE else None
