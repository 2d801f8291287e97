import time
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.protocol.tools import Source, ToolsVersion, Tristate
from sidecar.record.agreement import (
    ARRIVALS_LIMIT,
    KEY,
    NAMESPACE,
    RECORD_LIMIT_CHARACTERS,
    ROWS_LIMIT,
    Agreement,
    ChannelRow,
    Origin,
    ToolsRow,
    parse_agreement,
    read_agreement,
    render_agreement,
)
from tests.conftest import Golden

OVIRT_ROW = ChannelRow(
    name="ovirt-guest-agent.0",
    dialect="ovirt",
    state="agreed",
    version="3",
    guest="3",
    host="4",
    since="2026-11-21T07:31:38.489Z",
    reason=None,
)
QGA_ROW = ChannelRow(
    name="org.qemu.guest_agent.0",
    dialect="qga",
    state="agreed",
    version="7.2",
    guest="7.2.22",
    host="10.0",
    since="2026-11-21T07:31:38.470Z",
    reason=None,
)
TOOLS_ROW = ToolsRow(Source.GUEST_TOOLS, ToolsVersion(1, 4, 0, 12), Tristate.FALSE, Tristate.TRUE)
AGREEMENT = Agreement(
    host="beta",
    host_uuid="5c0f3a5e-0000-4000-8000-000000000001",
    run="9d1c0000-0000-4000-8000-000000000002:4711:815",
    arrival="migration",
    arrivals=2,
    arrived="2026-11-21T07:31:38.440Z",
    channels=(OVIRT_ROW, QGA_ROW),
    tools=TOOLS_ROW,
)
# An example as libvirt shows it: with its prefix on every element.
EXAMPLE = """
<sidecar:agreement xmlns:sidecar="urn:libvirt-sidecar:agreement:1"
    host="beta" host-uuid="5c0f3a5e-0000-4000-8000-000000000001"
    run="9d1c0000-0000-4000-8000-000000000002:4711:815" arrival="migration"
    arrivals="2" arrived="2026-11-21T07:31:38.440Z">
  <sidecar:channel name="ovirt-guest-agent.0" dialect="ovirt" state="agreed" version="3"
      guest="3" host="4" since="2026-11-21T07:31:38.489Z"/>
  <sidecar:channel name="org.qemu.guest_agent.0" dialect="qga" state="agreed" version="7.2"
      guest="7.2.22" host="10.0" since="2026-11-21T07:31:38.470Z"/>
  <sidecar:tools source="guest-tools" version="1.4.0-12" upgradable="false" up-to-date="true"/>
</sidecar:agreement>
"""

MINIMAL = '<agreement host-uuid="u" run="r" arrivals="{}"/>'


def test_constants_are_the_documented_ones() -> None:
    assert NAMESPACE == "urn:libvirt-sidecar:agreement:1"
    assert KEY == "sidecar"
    assert [str(origin) for origin in Origin] == ["start", "migration", "restore", "snapshot", "attach"]


# Rendering.

RENDERED = {
    "agreement-example": AGREEMENT,
    "agreement-waiting": replace(
        AGREEMENT,
        arrival=Origin.START,
        arrivals=1,
        channels=(replace(OVIRT_ROW, state="waiting", version="0", guest=None, reason="not-heard"),),
        tools=None,
    ),
    "agreement-flapping": replace(AGREEMENT, channels=(replace(OVIRT_ROW, reason="flapping"),), tools=None),
    "agreement-without-channels": replace(AGREEMENT, channels=(), tools=None),
    "agreement-awkward-text": replace(AGREEMENT, host="<\"&'>\u00e4\u6c34\U0001f600\t\n\r]]>", channels=(), tools=None),
    "agreement-tools-unknown": replace(
        AGREEMENT,
        channels=(QGA_ROW,),
        tools=ToolsRow(Source.QGA, ToolsVersion(7, 2, 22), Tristate.UNKNOWN, Tristate.UNKNOWN),
    ),
}


@pytest.mark.parametrize("name", RENDERED)
def test_golden(name: str, golden: Golden) -> None:
    golden(f"{name}.xml", render_agreement(RENDERED[name]) + "\n")


@pytest.mark.parametrize("name", RENDERED)
def test_the_element_declares_no_namespace_for_libvirt_adds_it(name: str) -> None:
    text = render_agreement(RENDERED[name])
    assert "xmlns" not in text
    assert text.startswith("<agreement ")


def test_attributes_stand_in_the_documented_order() -> None:
    rendered, example = ElementTree.fromstring(render_agreement(AGREEMENT)), ElementTree.fromstring(EXAMPLE)
    assert list(rendered.attrib) == list(example.attrib)
    assert [list(child.attrib) for child in rendered] == [list(child.attrib) for child in example]
    assert [child.tag for child in rendered] == ["channel", "channel", "tools"]


# Parsing.


def test_the_example() -> None:
    assert parse_agreement(EXAMPLE) == AGREEMENT


@pytest.mark.parametrize(
    "text",
    [
        EXAMPLE.replace("<sidecar:", "<").replace("</sidecar:", "</").replace("xmlns:sidecar", "xmlns"),
        EXAMPLE.replace("sidecar:agreement ", "x:agreement ", 1)
        .replace("</sidecar:agreement", "</x:agreement")
        .replace("xmlns:sidecar", "xmlns:x")
        .replace("<sidecar:", "<x:"),
        EXAMPLE.replace("<sidecar:channel", '<y:channel xmlns:y="urn:libvirt-sidecar:agreement:1"'),
        EXAMPLE.replace("<sidecar:", "<").replace("</sidecar:", "</").replace('xmlns:sidecar="' + NAMESPACE + '"', ""),
        '<?xml version="1.0"?><!-- why not -->' + EXAMPLE.strip(),
    ],
    ids=["default-namespace", "other-prefix", "own-prefix-a-child", "no-namespace", "prologue"],
)
def test_prefixes_do_not_matter(text: str) -> None:
    assert parse_agreement(text) == AGREEMENT


def test_a_newer_record_keeps_its_count() -> None:
    text = (
        EXAMPLE.replace("arrivals=", 'mood="sunny" sidecar:arrivals="77" xmlns:n="urn:new" n:arrivals="88" arrivals=')
        .replace("<sidecar:tools", '<sidecar:licence until="2031"><sidecar:channel/></sidecar:licence><sidecar:tools')
        .replace("<sidecar:channel", '<sidecar:channel colour="red"')
    )
    assert parse_agreement(text) == AGREEMENT


def test_a_strangers_channel_inside_is_not_ours() -> None:
    text = EXAMPLE.replace("<sidecar:tools", '<f:channel xmlns:f="urn:foreign" name="evil"/><sidecar:tools')
    assert parse_agreement(text) == AGREEMENT


def test_a_row_may_lack_everything() -> None:
    record = parse_agreement('<agreement host-uuid="u" run="r" arrivals="1"><channel/></agreement>')
    assert record is not None
    assert (record.host, record.arrival, record.arrived) == ("", "", "")
    assert record.channels == (ChannelRow("", "", "", "", None, "", "", None),)


@pytest.mark.parametrize("count", ["1", "2", "0000000003", str(ARRIVALS_LIMIT - 1)])
def test_counts(count: str) -> None:
    record = parse_agreement(MINIMAL.format(count))
    assert record is not None
    assert record.arrivals == int(count)


@pytest.mark.parametrize(
    "count",
    [
        "",
        "0",
        "-1",
        "+1",
        " 1",
        "1 ",
        "1.0",
        "1e3",
        "0x1",
        "1_0",
        "abc",
        "\u0663",
        "\u00b2",
        "NaN",
        str(ARRIVALS_LIMIT),
        str(2**31),
        str(2**63),
        "9" * 5000,
        "00000000001",
    ],
)
def test_no_counts(count: str) -> None:
    assert parse_agreement(MINIMAL.format(count)) is None


def with_rows(count: int, attributes: str = "") -> str:
    return MINIMAL.format("5").replace("/>", f"{attributes}>{'<channel/>' * count}</agreement>")


def test_as_many_rows_as_a_domain_may_have_and_no_more() -> None:
    record = parse_agreement(with_rows(ROWS_LIMIT))
    assert record is not None
    assert len(record.channels) == ROWS_LIMIT
    assert parse_agreement(with_rows(ROWS_LIMIT + 1)) is None
    assert read_agreement(ElementTree.fromstring(with_rows(ROWS_LIMIT + 1))) is None


def test_our_own_largest_record_can_be_read_back() -> None:
    row = replace(OVIRT_ROW, name="n" * 200, state="unversioned", version="4", guest=str(2**31 - 1), reason="r" * 20)
    largest = replace(AGREEMENT, host="h" * 64, run="r" * 80, channels=(row,) * ROWS_LIMIT)
    assert parse_agreement(render_agreement(largest)) == largest


@pytest.mark.parametrize(
    "text",
    [
        with_rows(1, f' host="{"h" * RECORD_LIMIT_CHARACTERS}"'),
        with_rows(1, f' unknown="{"h" * RECORD_LIMIT_CHARACTERS}"'),
        MINIMAL.format("5").replace("/>", f">{'t' * RECORD_LIMIT_CHARACTERS}</agreement>"),
        MINIMAL.format("5").replace("/>", f">{'<other/>' * (RECORD_LIMIT_CHARACTERS // 5)}</agreement>"),
        MINIMAL.format("5").replace("/>", f"><o><p/>{'t' * RECORD_LIMIT_CHARACTERS}</o></agreement>"),
        MINIMAL.format("5").replace("/>", ">" + "<a>" * 70_000 + "</a>" * 70_000 + "</agreement>"),
    ],
    ids=["attribute", "unknown-attribute", "text", "children", "tail-of-a-child", "deep"],
)
def test_too_large_is_broken_whichever_way_it_came(text: str) -> None:
    assert parse_agreement(text) is None
    assert read_agreement(ElementTree.fromstring(text)) is None


def test_what_the_text_may_have_the_element_may_have() -> None:
    text = with_rows(1, f' host="{"h" * (RECORD_LIMIT_CHARACTERS - 100)}"')
    assert parse_agreement(text) == read_agreement(ElementTree.fromstring(text)) is not None


def entity_bomb(levels: int) -> str:
    entities = '<!ENTITY e0 "ha">' + "".join(
        f'<!ENTITY e{level} "{f"&e{level - 1};" * 10}">' for level in range(1, levels)
    )
    return f'<!DOCTYPE a [{entities}]><agreement host-uuid="u" run="r" arrivals="1" host="&e{levels - 1};"/>'


def quadratic_bomb() -> str:
    big = "x" * 30_000
    return f'<!DOCTYPE a [<!ENTITY e "{big}">]><agreement host-uuid="u" run="r" arrivals="1" host="{"&e;" * 8_000}"/>'


BROKEN = {
    "empty": "",
    "text": "abc",
    "number": "-1",
    "cut-short": EXAMPLE[: len(EXAMPLE) // 2],
    "not-closed": '<agreement host-uuid="u" run="r" arrivals="1">',
    "two-roots": MINIMAL.format("1") * 2,
    "twice-an-attribute": '<agreement host-uuid="u" run="r" arrivals="1" arrivals="2"/>',
    "undeclared-prefix": '<sidecar:agreement host-uuid="u" run="r" arrivals="1"/>',
    "nul": MINIMAL.format("1") + "\x00",
    "lone-surrogate": MINIMAL.format("1").replace("r", "\ud800"),
    "other-element": MINIMAL.format("1").replace("agreement", "policy"),
    "other-namespace-number": EXAMPLE.replace("agreement:1", "agreement:2"),
    "namespace-longer": EXAMPLE.replace("agreement:1", "agreement:10"),
    "foreign-namespace": EXAMPLE.replace(NAMESPACE, "http://ovirt.org/vm/1.0"),
    "no-count": '<agreement host-uuid="u" run="r"/>',
    "huge": EXAMPLE + " " * RECORD_LIMIT_CHARACTERS,
    "deep": "<a>" * 20_000,
    "deep-and-closed": "<a>" * 9_000 + "</a>" * 9_000,
    "entity-bomb": entity_bomb(10),
    "quadratic-bomb": quadratic_bomb(),
    "small-entity": entity_bomb(2),
    "file-entity": '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]>' + MINIMAL.format("1").replace("u", "&x;"),
    "file-entity-in-text": '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><agreement>&x;</agreement>',
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_record_is_none(text: str) -> None:
    start = time.perf_counter()
    assert parse_agreement(text) is None
    assert time.perf_counter() - start < 1.0


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60) | st.builds(EXAMPLE.replace, st.sampled_from(EXAMPLE), st.text(max_size=3), st.just(3)))
def test_no_text_raises(text: str) -> None:
    record = parse_agreement(text)
    assert record is None or 0 < record.arrivals < ARRIVALS_LIMIT


# The guest's tools.

ELEMENT = '<sidecar:tools source="guest-tools" version="1.4.0-12" upgradable="false" up-to-date="true"/>'


@pytest.mark.parametrize("source", Source)
@pytest.mark.parametrize("upgradable", Tristate)
@pytest.mark.parametrize("up_to_date", Tristate)
def test_every_row_of_tools(source: Source, upgradable: Tristate, up_to_date: Tristate) -> None:
    row = ToolsRow(source, ToolsVersion(0, 0), upgradable, up_to_date)
    assert parse_agreement(render_agreement(replace(AGREEMENT, tools=row))) == replace(AGREEMENT, tools=row)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('source="guest-tools"', 'source="xenstore"'),
        ('source="guest-tools"', 'source="Guest-Tools"'),
        ('source="guest-tools"', ""),
        ('version="1.4.0-12"', 'version="1.4.0-proto-0.5"'),
        ('version="1.4.0-12"', 'version="1"'),
        ('version="1.4.0-12"', 'version=" 1.4"'),
        ('version="1.4.0-12"', 'version="1.2147483648"'),
        ('version="1.4.0-12"', 'version=""'),
        ('version="1.4.0-12"', ""),
        ('upgradable="false"', 'upgradable="no"'),
        ('upgradable="false"', ""),
        ('up-to-date="true"', 'up-to-date="1"'),
        ('up-to-date="true"', 'up-to-date="TRUE"'),
        ('up-to-date="true"', ""),
        (ELEMENT, ELEMENT * 2),
        (ELEMENT, ELEMENT.replace("sidecar:tools", 'f:tools xmlns:f="urn:foreign"')),
        (ELEMENT, f"<sidecar:other>{ELEMENT}</sidecar:other>"),
        (ELEMENT, ""),
    ],
)
def test_what_we_would_not_write_of_tools_is_none_and_the_rest_is_read(old: str, new: str) -> None:
    assert parse_agreement(EXAMPLE.replace(old, new)) == replace(AGREEMENT, tools=None)


def test_a_newer_row_of_tools_is_read() -> None:
    text = EXAMPLE.replace(ELEMENT, ELEMENT.replace("/>", ' colour="red"><sidecar:part/></sidecar:tools>'))
    assert parse_agreement(text) == AGREEMENT


# There and back.

NUMBERS = st.integers(0, 2**31 - 1)
VERSIONS = st.builds(ToolsVersion, NUMBERS, NUMBERS, st.none() | NUMBERS, st.none() | NUMBERS)
TOOLS = st.builds(ToolsRow, st.sampled_from(Source), VERSIONS, st.sampled_from(Tristate), st.sampled_from(Tristate))
TOKENS = st.from_regex(r"[0-9A-Za-z][0-9A-Za-z._:-]{0,20}", fullmatch=True)
TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff")
    | st.sampled_from("\t\n\r<>&\"'"),
    max_size=12,
)
ROWS = st.builds(ChannelRow, TEXTS, TEXTS, TEXTS, TEXTS, st.none() | TEXTS, TEXTS, TEXTS, st.none() | TEXTS)
AGREEMENTS = st.builds(
    Agreement,
    TEXTS,
    TOKENS,
    TOKENS,
    st.sampled_from(Origin) | TEXTS,
    st.integers(1, ARRIVALS_LIMIT - 1),
    TEXTS,
    st.lists(ROWS, max_size=4).map(tuple),
    st.none() | TOOLS,
)


@settings(max_examples=150, deadline=None)
@given(AGREEMENTS)
def test_there_and_back(agreement: Agreement) -> None:
    assert parse_agreement(render_agreement(agreement)) == agreement


@settings(max_examples=50, deadline=None)
@given(AGREEMENTS, AGREEMENTS)
def test_equal_values_and_only_they_render_equally(one: Agreement, other: Agreement) -> None:
    assert (render_agreement(one) == render_agreement(other)) == (one == other)


@pytest.mark.parametrize(
    "provenance", ["", 'run="r"', 'host-uuid="u"', 'run="" host-uuid="r&#10;x"', f'run="{"r" * 1000}"']
)
def test_the_count_needs_no_provenance(provenance: str) -> None:
    record = parse_agreement(f'<agreement {provenance} arrivals="41"/>')
    assert record is not None
    assert record.arrivals == 41
