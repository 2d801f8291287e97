"""A domain's XML: our channels, the record and the policy are found, or told to be broken; nothing else raises.

The input: XML, or, after a first byte of 0xFF, a tree of the elements in ``LANGUAGE``.
"""

from xml.etree import ElementTree

from sidecar.record import agreement, policy
from sidecar.record.agreement import RECORD_LIMIT_CHARACTERS, render_agreement
from sidecar.record.domain_xml import DomainXml, parse_domain_xml
from tests.fuzz.readings import check_line
from tests.fuzz.trees import Language, render_tree

WORDS = (
    b"<metadata>",
    b"</metadata>",
    f'<s:agreement xmlns:s="{agreement.NAMESPACE}" arrivals="1"/>'.encode(),
    f'<p:policy xmlns:p="{policy.NAMESPACE}"><p:require tools="true"/></p:policy>'.encode(),
    b'<s:tools source="qga" version="1.2" upgradable="true" up-to-date="true"/>',
    b"<devices>",
    b'<channel type="unix"><source mode="bind" path="/a"/>',
    b'<target type="virtio" name="ovirt-guest-agent.0" state="connected"/><alias name="channel0"/></channel>',
    b'name="org.qemu.guest_agent.0" state="disconnected"',
    b"<!-- -->",
    b'xmlns="urn:x"',
)

LANGUAGE = Language(
    tags=(
        *("metadata", "devices", "channel", "source", "target", "alias", "title", "agreement", "policy", "o:other"),
        *("s:agreement", "s:channel", "s:tools", "p:policy", "p:require", "s:other", "p:other", "require", "domain"),
    ),
    names=(
        *("type", "mode", "path", "name", "state", "arrivals", "host", "run", "dialect", "min-version", "tools"),
        *("source", "version", "upgradable", "up-to-date", "o:tools", "p:dialect", "xmlns"),
    ),
    values=(
        *("unix", "virtio", "bind", "/run/a", "ovirt-guest-agent.0", "org.qemu.guest_agent.0", "connected", "channel0"),
        *(
            "",
            "0",
            "1",
            "3",
            "2147483647",
            "7.2",
            "1.4.0-12",
            "ovirt",
            "qga",
            "true",
            "false",
            "unknown",
            "guest-tools",
        ),
        *("disconnected", "<\n\"&'>", "\u0663", "urn:other", "x" * 300),
    ),
)

NAMES = ("ovirt-guest-agent.0", "com.redhat.rhevm.vdsm", "org.qemu.guest_agent.0")


def check(data: bytes) -> None:
    """Read it with all names and with none."""
    text = render_tree(data[1:], "domain", LANGUAGE) if data.startswith(b"\xff") else data.decode("utf-8", "replace")
    try:
        found = parse_domain_xml(text, NAMES)
    except ElementTree.ParseError:
        return
    check_channels(found)
    check_metadata(found, ElementTree.fromstring(text))
    none = parse_domain_xml(text, ())
    assert none.channels == ()
    assert (none.record, none.policy, none.policy_problem) == (found.record, found.policy, found.policy_problem)


def check_channels(found: DomainXml) -> None:
    """At most one of a name, and each can be connected to."""
    assert len({channel.name for channel in found.channels}) == len(found.channels)
    for channel in found.channels:
        assert channel.name in NAMES
        assert channel.path


def check_metadata(found: DomainXml, root: ElementTree.Element) -> None:
    """One of the policy and what is wrong in it; a record that is not broken can be written again."""
    assert found.policy is None or found.policy_problem is None
    if found.policy_problem is not None:
        check_line(found.policy_problem)
    assert found.record_present == (root.find(f"./metadata/{{{agreement.NAMESPACE}}}agreement") is not None)
    if found.record is None:
        return
    assert found.record_present
    # Six characters at most are written for one.
    assert len(render_agreement(found.record)) <= 6 * RECORD_LIMIT_CHARACTERS
    if found.record.tools is not None:
        assert found.shows_tools
