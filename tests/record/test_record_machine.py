"""A domain's metadata on its way through hosts: we write our element, the operator a policy, others what they like.

Whatever stands there beside it, each host reads what the last one wrote, counts on from it, and judges what is
required.
"""

from dataclasses import replace
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sidecar.protocol.releases import Release
from sidecar.record import agreement, policy
from sidecar.record.agreement import Agreement, render_agreement
from sidecar.record.domain_xml import DomainXml, parse_domain_xml
from sidecar.record.policy import Offer, Policy, judge
from tests.record.test_agreement import AGREEMENTS, ROWS, TOOLS

BROKEN_RECORDS = (
    f'<s:agreement xmlns:s="{agreement.NAMESPACE}"/>',
    f'<s:agreement xmlns:s="{agreement.NAMESPACE}" arrivals="2147483648"/>',
    f'<s:agreement xmlns:s="{agreement.NAMESPACE}" arrivals="1">' + '<s:channel name="c"/>' * 65 + "</s:agreement>",
    f'<s:agreement xmlns:s="{agreement.NAMESPACE}" arrivals="1" host="{"x" * (1 << 17)}"/>',
)
# What is wrong is told; nothing of it is required.
BROKEN_REQUIREMENTS = (
    '<p:require dialect="ovirt" min-version="three"/>',
    '<p:require dialect="xen" min-version="3"/>',
    '<p:require tools="yes"/>',
    '<p:require tools="true"><p:require/></p:require>',
    '<p:demand tools="true"/>',
    '<p:require tools="true"/>' * 17,
)
STRANGERS = (
    '<other:instance xmlns:other="http://example.org/other/1.1"><other:name>a&amp;b</other:name></other:instance>',
    '<x:agreement xmlns:x="urn:libvirt-sidecar:agreement:2" arrivals="77"/>',
    f'<x:box xmlns:x="urn:x"><s:agreement xmlns:s="{agreement.NAMESPACE}" arrivals="99"/></x:box>',
    f'<x:box xmlns:x="urn:x"><p:policy xmlns:p="{policy.NAMESPACE}"><p:require tools="true"/></p:policy></x:box>',
    '<agreement arrivals="88"/>',
    "<policy><require tools='true'/></policy>",
    "<!-- a comment -->",
)
MINIMUMS = st.integers(0, 5) | st.builds(Release, st.integers(0, 11), st.integers(0, 20)).filter(bool)
OFFERS = st.builds(Offer, st.integers(0, 4), st.builds(Release, st.integers(0, 10), st.integers(0, 20)))


def render_policy(minimums: list[int | Release], *, tools: bool | None) -> str:
    """As an operator writes it."""
    texts = ["" if tools is None else f'<p:require tools="{str(tools).lower()}"/>']
    for minimum in minimums:
        dialect = "qga" if isinstance(minimum, Release) else "ovirt"
        texts.append(f'<p:require dialect="{dialect}" min-version={quoteattr(str(minimum))}/>')
    return f'<p:policy xmlns:p="{policy.NAMESPACE}">{"".join(texts)}</p:policy>'


def keep_as_libvirt_does(text: str, *, everywhere: bool) -> str:
    """Our element as it is shown again: with the prefix that libvirt adds, to the element or to all in it."""
    root = ElementTree.fromstring(text)
    for element in root.iter() if everywhere else [root]:
        element.tag = f"{{{agreement.NAMESPACE}}}{element.tag}"
    return ElementTree.tostring(root, encoding="unicode")


def is_short(offer: Offer, minimum: int | Release) -> bool:
    return offer.qga < minimum if isinstance(minimum, Release) else offer.ovirt < minimum


class Journey(RuleBasedStateMachine):
    """The metadata of one domain, and what each of the two elements should be read as."""

    @initialize()
    def define(self) -> None:
        self.ours = self.wishes = ""
        self.strangers: list[str] = []
        self.record: Agreement | None = None
        self.policy: Policy | None = None
        self.is_broken = False

    @property
    def text(self) -> str:
        """As ``virsh dumpxml`` shows it; in between is what others have there."""
        half = len(self.strangers) // 2
        inside = "\n    ".join([*self.strangers[:half], self.wishes, *self.strangers[half:], self.ours])
        return f"<domain type='kvm'>\n  <name>vm</name>\n  <metadata>\n    {inside}\n  </metadata>\n</domain>"

    def read(self) -> DomainXml:
        return parse_domain_xml(self.text, ())

    def write(self, record: Agreement, *, everywhere: bool) -> None:
        self.record = record
        self.ours = keep_as_libvirt_does(render_agreement(record), everywhere=everywhere)

    # Hosts.

    @rule(there=AGREEMENTS, everywhere=st.booleans())
    def arrive(self, there: Agreement, everywhere: bool) -> None:
        """One arrival more than the record that came along has, whoever made that."""
        before = self.read().record
        assert before == self.record
        counted = 0 if self.record is None else self.record.arrivals
        self.write(replace(there, arrivals=min(counted + 1, agreement.ARRIVALS_LIMIT - 1)), everywhere=everywhere)

    @precondition(lambda self: self.record)
    @rule(rows=st.lists(ROWS, max_size=4).map(tuple), tools=st.none() | TOOLS, everywhere=st.booleans())
    def change(
        self, rows: tuple[agreement.ChannelRow, ...], tools: agreement.ToolsRow | None, everywhere: bool
    ) -> None:
        assert self.record is not None
        self.write(replace(self.record, channels=rows, tools=tools), everywhere=everywhere)

    # The operator, and others.

    @rule(minimums=st.lists(MINIMUMS, max_size=4), tools=st.none() | st.booleans())
    def require(self, minimums: list[int | Release], tools: bool | None) -> None:
        self.wishes = render_policy(minimums, tools=tools)
        self.policy, self.is_broken = Policy(tuple(minimums), tools is True), False

    @rule(requirements=st.sampled_from(BROKEN_REQUIREMENTS))
    def mistype(self, requirements: str) -> None:
        self.wishes = render_policy([3], tools=True).replace("</p:policy>", f"{requirements}</p:policy>")
        self.policy, self.is_broken = None, True

    @rule()
    def withdraw(self) -> None:
        self.wishes, self.policy, self.is_broken = "", None, False

    @rule(text=st.sampled_from(BROKEN_RECORDS))
    def break_record(self, text: str) -> None:
        self.ours, self.record = text, None

    @rule()
    def remove_record(self) -> None:
        self.ours, self.record = "", None

    @rule(text=st.sampled_from(STRANGERS))
    def add_stranger(self, text: str) -> None:
        self.strangers.append(text)

    # What always holds.

    @invariant()
    def each_is_read_as_it_was_written(self) -> None:
        found = self.read()
        assert found.record == self.record
        assert found.record_present == bool(self.ours)
        assert found.policy == self.policy
        assert (found.policy_problem is not None) == self.is_broken
        assert found.shows_tools == (self.record is not None and self.record.tools is not None)

    @rule(offer=OFFERS)
    def judge(self, offer: Offer) -> None:
        """A host that is short of one requirement refuses, and no other does."""
        found = self.read()
        if found.policy is None:
            return
        short = [minimum for minimum in found.policy.minimums if is_short(offer, minimum)]
        refusal = judge(found.policy, "vm", has_tools=found.shows_tools, offer=offer)
        assert (refusal is not None) == bool(short or (found.policy.tools and not found.shows_tools))
        if short:
            assert refusal is not None
            assert f'min-version="{short[0]}"' in refusal


TestJourney = Journey.TestCase
TestJourney.settings = settings(stateful_step_count=30, deadline=None)
