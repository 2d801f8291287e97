from dataclasses import astuple
from pathlib import Path
from xml.etree import ElementTree

import pytest

from sidecar.record.agreement import NAMESPACE, RECORD_LIMIT_CHARACTERS, ROWS_LIMIT
from sidecar.record.domain_xml import ChannelDevice, DomainXml, parse_domain_xml
from tests.conftest import Golden

NAMES = [
    "ovirt-guest-agent.0",
    "com.redhat.rhevm.vdsm",
    "com.redhat.spice.0",
    "org.example.quiet",
    "org.example.dials-out",
    "org.example.no-source",
    "org.example.no-path",
    "org.example.no-alias",
    "org.example.guestfwd",
    "org.example.pty",
]
RUNNING = (Path(__file__).parent / "golden" / "domain-running.input.xml").read_text(encoding="utf-8")
RECORD = f'<s:agreement xmlns:s="{NAMESPACE}" host-uuid="u" run="r" arrivals="%s"/>'
CHANNEL = """
<channel type='unix'>
  <source mode='bind' path='/run/a.sock'/>
  <target type='virtio' name='ovirt-guest-agent.0'%s/>
  <alias name='channel0'/>
</channel>
"""


def domain(metadata: str = "", devices: str = "") -> str:
    return (
        f"<domain type='kvm' id='1'><name>d</name><metadata>{metadata}</metadata><devices>{devices}</devices></domain>"
    )


def lines_of(found: DomainXml) -> str:
    """One value a line."""
    rows = found.record.channels if found.record else ()
    return "".join(
        f"{line!r}\n"
        for line in (
            *(astuple(device) for device in found.channels),
            found.record_present,
            found.record and astuple(found.record)[:6],
            *map(astuple, rows),
        )
    )


def test_golden(golden: Golden) -> None:
    golden("domain-running.txt", lines_of(parse_domain_xml(RUNNING, NAMES)))


def test_only_listed_names_are_kept() -> None:
    assert [device.name for device in parse_domain_xml(RUNNING, ["org.example.unlisted"]).channels] == [
        "org.example.unlisted"
    ]
    assert parse_domain_xml(RUNNING, []).channels == ()


def test_both_ovirt_names_are_kept() -> None:
    found = parse_domain_xml(RUNNING, ["ovirt-guest-agent.0", "com.redhat.rhevm.vdsm"])
    assert [(device.name, device.opened) for device in found.channels] == [
        ("com.redhat.rhevm.vdsm", False),
        ("ovirt-guest-agent.0", True),
    ]


@pytest.mark.parametrize(
    ("state", "opened"), [("", None), (" state='connected'", True), (" state='disconnected'", False)]
)
def test_the_guests_end(state: str, opened: bool | None) -> None:
    found = parse_domain_xml(domain(devices=CHANNEL % state), NAMES)
    assert found.channels == (ChannelDevice("ovirt-guest-agent.0", "channel0", "/run/a.sock", opened),)


def test_a_domain_without_anything() -> None:
    assert parse_domain_xml("<domain><name>d</name></domain>", NAMES) == DomainXml((), None, False)


@pytest.mark.parametrize(
    ("metadata", "present", "arrivals"),
    [
        ("", False, None),
        (RECORD % "7", True, 7),
        (RECORD % "abc", True, None),
        (RECORD % "-1", True, None),
        (RECORD % "", True, None),
        (RECORD.replace("agreement:1", "agreement:2") % "7", False, None),
        ('<agreement host-uuid="u" run="r" arrivals="7"/>', False, None),
        (f"<other>{RECORD % '7'}</other>", False, None),
        (RECORD.replace("<s:", "<sidecar:").replace("xmlns:s=", "xmlns:sidecar=") % "7", True, 7),
        (RECORD.replace("s:agreement", "agreement").replace("xmlns:s=", "xmlns=") % "7", True, 7),
        (f'<p:policy xmlns:p="urn:libvirt-sidecar:policy:1"/>{RECORD % "7"}', True, 7),
    ],
    ids=[
        "none",
        "good",
        "text",
        "negative",
        "empty",
        "other-number",
        "no-namespace",
        "elsewhere",
        "prefix",
        "default-namespace",
        "beside-policy",
    ],
)
def test_the_record_that_came_along(metadata: str, present: bool, arrivals: int | None) -> None:
    found = parse_domain_xml(domain(metadata, CHANNEL % ""), NAMES)
    assert found.record_present is present
    assert (found.record and found.record.arrivals) == arrivals
    assert len(found.channels) == 1


def test_a_record_in_the_title_is_none() -> None:
    text = f"<domain><name>d</name><title>t</title><devices>{RECORD % '7'}</devices></domain>"
    assert not parse_domain_xml(text, NAMES).record_present


@pytest.mark.parametrize(
    "record",
    [
        (RECORD % "7").replace("/>", f">{'<s:channel/>' * (ROWS_LIMIT + 1)}</s:agreement>"),
        (RECORD % "7").replace("/>", f" host='{'h' * RECORD_LIMIT_CHARACTERS}'/>"),
    ],
    ids=["rows", "size"],
)
def test_a_record_beyond_its_bounds_is_broken_and_hides_nothing_else(record: str) -> None:
    found = parse_domain_xml(domain(record, CHANNEL % ""), NAMES)
    assert found.record_present
    assert found.record is None
    assert len(found.channels) == 1


POLICY = '<p:policy xmlns:p="urn:libvirt-sidecar:policy:1"><p:require tools="%s"/></p:policy>'


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ("", None),
        (POLICY % "true", None),
        (POLICY % "maybe", "tools 'maybe': expected true or false"),
        (POLICY % "&#10;\u20ac", "tools '\\n\\u20ac': expected true or false"),
    ],
)
def test_a_broken_policy_is_told_and_hides_nothing_else(metadata: str, problem: str | None) -> None:
    found = parse_domain_xml(domain(metadata + RECORD % "7", CHANNEL % ""), NAMES)
    assert found.policy_problem == problem
    assert found.record is not None
    assert len(found.channels) == 1


@pytest.mark.parametrize("text", ["", "no XML", "<domain>", "<domain/><domain/>"])
def test_what_is_no_xml_raises_as_documented(text: str) -> None:
    with pytest.raises(ElementTree.ParseError):
        parse_domain_xml(text, NAMES)
