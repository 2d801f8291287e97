"""The record: whatever came along is read within bounds or is none, and what is written is read back as it was.

The input: a record's text; or, after a first byte of 0xFF, texts of which a record is made; after two, a tree of what
is in ``LANGUAGE``.
"""

from xml.etree import ElementTree

from sidecar.protocol.guest_text import clean_text
from sidecar.protocol.tools import Source, ToolsVersion, Tristate
from sidecar.record.agreement import (
    ARRIVALS_LIMIT,
    NAMESPACE,
    RECORD_LIMIT_CHARACTERS,
    ROWS_LIMIT,
    Agreement,
    ChannelRow,
    ToolsRow,
    parse_agreement,
    render_agreement,
)
from sidecar.record.domain_xml import parse_domain_xml
from tests.fuzz.script import SEPARATOR
from tests.fuzz.trees import Language, render_tree

WORDS = (
    f'<sidecar:agreement xmlns:sidecar="{NAMESPACE}"'.encode(),
    b"</sidecar:agreement>",
    b'<agreement arrivals="1"/>',
    b' arrivals="2147483646"',
    b'<sidecar:channel name="ovirt-guest-agent.0" dialect="ovirt" state="agreed" version="3"',
    b' guest="3" host="4" since="" reason="flapping"/>',
    b'<sidecar:tools source="guest-tools" version="1.4.0-12" upgradable="false" up-to-date="true"/>',
    b"<!DOCTYPE a [<!ENTITY b 'c'>]>",
    b"&#10;",
    b"<![CDATA[",
    b'<?xml version="1.0" encoding="utf-16"?>',
    b"\xff",
)


LANGUAGE = Language(
    tags=("s:channel", "s:tools", "channel", "tools", "o:channel", "o:tools", "s:other", "s:agreement"),
    names=(
        *("arrivals", "host", "host-uuid", "run", "arrival", "arrived", "name", "dialect", "state", "version", "guest"),
        *("since", "reason", "source", "upgradable", "up-to-date", "s:arrivals", "o:host"),
    ),
    values=(
        *(
            "1",
            "2147483646",
            "2147483647",
            "0",
            "01",
            "",
            "\u0663",
            "-1",
            "1.4.0-12",
            "0.0",
            "1.2147483648",
            "3",
            "7.2",
        ),
        *(
            "guest-tools",
            "applications",
            "qga",
            "true",
            "false",
            "unknown",
            "ovirt",
            "agreed",
            "<\r\n\t\"&'>",
            "x" * 9000,
        ),
    ),
)


def check(data: bytes) -> None:
    """A record that came along, as text or tree, or one that is made of these texts."""
    if data.startswith(SEPARATOR * 2):
        check_read(render_tree(data[2:], "s:agreement", LANGUAGE))
    elif data.startswith(SEPARATOR):
        check_written(data[1:])
    else:
        check_read(data.decode("utf-8", "replace"))


def check_read(text: str) -> None:
    record = parse_agreement(text)
    check_inside(text, record)
    if record is None:
        return
    assert 0 < record.arrivals < ARRIVALS_LIMIT
    assert len(record.channels) <= ROWS_LIMIT
    ours = [child for child in ElementTree.fromstring(text) if child.tag in ("channel", f"{{{NAMESPACE}}}channel")]
    assert [row.name for row in record.channels] == [child.get("name", "") for child in ours]
    assert len(text) <= RECORD_LIMIT_CHARACTERS
    check_there_and_back(record)


def check_inside(text: str, record: Agreement | None) -> None:
    """In a domain's XML the same record is found, or, if it has no namespace, none."""
    if text.lstrip().startswith(("<?", "<!")) or "<!DOCTYPE" in text:
        return
    try:
        found = parse_domain_xml(f"<domain><metadata>{text}</metadata></domain>", ())
    except ElementTree.ParseError:
        assert record is None
        return
    if found.record_present and record is not None:
        assert found.record == record


def check_there_and_back(record: Agreement) -> None:
    """What is rendered is read as the same, and rendered as the same; in it is nothing but our elements."""
    rendered = render_agreement(record)
    root = ElementTree.fromstring(rendered)
    wanted = ["channel"] * len(record.channels) + ["tools"] * (record.tools is not None)
    assert [element.tag for element in root.iter()] == ["agreement", *wanted]
    assert not any((element.text or element.tail) for element in root.iter())
    # What needs escaping grows; more than our own rows ever have is not read again.
    if len(rendered) <= RECORD_LIMIT_CHARACTERS:
        assert parse_agreement(rendered) == record


def check_written(data: bytes) -> None:
    """Whatever texts stand in the fields, each is found where it was put."""
    texts = [clean_text(text.decode("utf-8", "replace")) for text in data.split(SEPARATOR)][: 8 * ROWS_LIMIT]
    texts += [""] * 5
    number = len(data)
    rows = tuple(make_row(texts[at:]) for at in range(5, len(texts) - 7, 7))
    version = ToolsVersion(number, 0, None, number) if number % 2 else ToolsVersion(number, 1, 2)
    tools = ToolsRow(list(Source)[number % 3], version, Tristate.UNKNOWN, Tristate.TRUE) if number % 5 else None
    host, host_uuid, run, arrival, arrived, *_ = texts
    check_there_and_back(Agreement(host, host_uuid, run, arrival, number + 1, arrived, rows[:ROWS_LIMIT], tools))


def make_row(texts: list[str]) -> ChannelRow:
    name, dialect, state, version, guest, host, since, *_ = texts
    return ChannelRow(name, dialect, state, version, guest, host, since, None)
