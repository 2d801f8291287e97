from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.protocol.releases import Release
from sidecar.record import agreement
from sidecar.record.policy import (
    NAMESPACE,
    REQUIREMENTS_LIMIT,
    BrokenPolicyError,
    Offer,
    Policy,
    judge,
    read_policy,
    shows_tools,
)

OFFER = Offer(ovirt=2, qga=Release(7, 2))
OTHER = 'xmlns:o="urn:other"'


def domain(metadata: str) -> ElementTree.Element:
    return ElementTree.fromstring(f"<domain><name>d</name><metadata>{metadata}</metadata></domain>")


def policy(requirements: str = "", attributes: str = "") -> ElementTree.Element:
    return domain(f'<p:policy xmlns:p="{NAMESPACE}" {OTHER} {attributes}>{requirements}</p:policy>')


def read(requirements: str = "", attributes: str = "") -> Policy | None:
    return read_policy(policy(requirements, attributes))


class TestReadPolicy:
    @pytest.mark.parametrize(
        "metadata",
        [
            "",
            '<policy><require tools="true"/></policy>',
            f'<a xmlns="urn:other"><policy xmlns="{NAMESPACE}"><require tools="maybe"/></policy></a>',
            f'<policy xmlns="{NAMESPACE}0"><require tools="true"/></policy>',
            f'<agreement xmlns="{agreement.NAMESPACE}"/>',
        ],
        ids=["nothing", "no-namespace", "not-at-the-top", "another-number", "agreement-only"],
    )
    def test_there_is_none(self, metadata: str) -> None:
        assert read_policy(domain(metadata)) is None

    def test_none_outside_of_the_metadata(self) -> None:
        element = f'<policy xmlns="{NAMESPACE}"><require tools="maybe"/></policy>'
        assert read_policy(ElementTree.fromstring(f"<domain>{element}</domain>")) is None
        assert read_policy(ElementTree.fromstring("<domain/>")) is None

    @pytest.mark.parametrize(
        ("requirements", "expected"),
        [
            ("", Policy((), False)),
            ('<p:require dialect="ovirt" min-version="3"/>', Policy((3,), False)),
            ('<p:require dialect="ovirt" min-version="0"/>', Policy((0,), False)),
            ('<p:require dialect="ovirt" min-version="2147483647"/>', Policy((2147483647,), False)),
            ('<p:require dialect="qga" min-version="7.2"/>', Policy((Release(7, 2),), False)),
            ('<p:require dialect="qga" min-version="10.0"/>', Policy((Release(10, 0),), False)),
            ('<p:require tools="true"/>', Policy((), True)),
            ('<p:require tools="false"/>', Policy((), False)),
            ('<p:require tools="false"/><p:require tools="true"/>', Policy((), True)),
            (
                '<p:require dialect="qga" min-version="5.2"/>words<p:require dialect="ovirt" min-version="1"/>'
                '<p:require tools="true"/>',
                Policy((Release(5, 2), 1), True),
            ),
        ],
    )
    def test_requirements(self, requirements: str, expected: Policy) -> None:
        assert read(requirements) == expected

    @pytest.mark.parametrize(
        "requirements",
        [
            '<p:require tools="true"><o:note min-version="x"/></p:require>',
            '<p:require tools="true" o:dialect="none"/>',
            '<p:require tools="true"/><o:require tools="maybe"/>',
        ],
    )
    def test_what_is_of_another_namespace_is_ignored(self, requirements: str) -> None:
        assert read(requirements, 'o:strict="yes"') == Policy((), True)

    def test_the_default_namespace_will_do(self) -> None:
        assert read_policy(domain(f'<policy xmlns="{NAMESPACE}"><require tools="true"/></policy>')) == Policy((), True)

    def test_as_many_as_the_limit(self) -> None:
        one = '<p:require dialect="ovirt" min-version="3"/>'
        assert read(one * REQUIREMENTS_LIMIT) == Policy((3,) * REQUIREMENTS_LIMIT, False)
        with pytest.raises(BrokenPolicyError, match="16"):
            read(one * (REQUIREMENTS_LIMIT + 1))

    @pytest.mark.parametrize(
        ("requirements", "told"),
        [
            ("<p:require/>", "either"),
            ('<p:require dialect="ovirt"/>', "either"),
            ('<p:require min-version="3"/>', "either"),
            ('<p:require dialect="ovirt" min-version="3" tools="true"/>', "either"),
            ('<p:require dialect="ovirt" tools="true"/>', "either"),
            ('<p:require dialect="spice" min-version="3"/>', "'spice'"),
            ('<p:require dialect="" min-version="3"/>', "''"),
            ('<p:require dialect="oVirt" min-version="3"/>', "'oVirt'"),
            ('<p:require tools="yes"/>', "'yes'"),
            ('<p:require tools=""/>', "''"),
            ('<p:require tools="True"/>', "'True'"),
            ('<p:require tools="true" minversion="3"/>', "'minversion'"),
            ('<p:require tools="true" p:dialect="ovirt"/>', "'dialect'"),
            ('<p:demand tools="true"/>', "'demand'"),
            ('<require tools="true"/>', "'require'"),
            ('<p:require tools="true"><p:note/></p:require>', "inside"),
            ('<p:require tools="true"><note/></p:require>', "inside"),
            ('<p:require tools="true"/><p:require tools="maybe"/>', "'maybe'"),
        ],
    )
    def test_broken_in_one_part_is_broken_as_a_whole(self, requirements: str, told: str) -> None:
        with pytest.raises(BrokenPolicyError, match=told):
            read(requirements)

    @pytest.mark.parametrize(
        "text", ["", "-1", "2147483648", "9" * 5000, "3.0", "three", " 3", "\u0663", "max", "ovirt-4.0"]
    )
    def test_no_ovirt_version(self, text: str) -> None:
        with pytest.raises(BrokenPolicyError, match="min-version"):
            read(f'<p:require dialect="ovirt" min-version="{text}"/>')

    @pytest.mark.parametrize(
        "text", ["", "0", "7", "7.2.1", "-7.2", "7.x", " 7.2", "\u0667.\u0662", "max", "debian-12", "9" * 99]
    )
    def test_no_qga_version(self, text: str) -> None:
        with pytest.raises(BrokenPolicyError, match="min-version"):
            read(f'<p:require dialect="qga" min-version="{text}"/>')

    def test_two_policies(self) -> None:
        one = f'<policy xmlns="{NAMESPACE}"/>'
        with pytest.raises(BrokenPolicyError, match="more than one"):
            read_policy(domain(one * 2))

    def test_another_element_of_our_namespace(self) -> None:
        with pytest.raises(BrokenPolicyError, match="'polcy'"):
            read_policy(domain(f'<polcy xmlns="{NAMESPACE}"/>'))

    def test_an_attribute_of_the_policy_itself(self) -> None:
        with pytest.raises(BrokenPolicyError, match="'strict'"):
            read("", 'strict="yes"')

    @given(
        attributes=st.dictionaries(
            st.sampled_from(["dialect", "min-version", "tools", "p", f"{{{NAMESPACE}}}tools", "{urn:other}tools"]),
            st.text() | st.sampled_from(["ovirt", "qga", "true", "false", "3", "7.2"]),
        ),
        name=st.sampled_from([f"{{{NAMESPACE}}}require", "require", "{urn:other}require"]) | st.text(),
        child=st.none() | st.text(),
    )
    def test_any_text_is_a_policy_or_one_line_that_says_why_not(
        self, attributes: dict[str, str], name: str, child: str | None
    ) -> None:
        root = policy()
        element = ElementTree.SubElement(root[1][0], name, attributes)
        if child is not None:
            ElementTree.SubElement(element, child)
        try:
            told = repr(read_policy(root))
        except BrokenPolicyError as error:
            told = str(error)
        assert told
        assert told.isascii()
        assert told.isprintable()
        assert len(told) < 2200


def record(children: str, arrivals: str = "1", name: str = "agreement", namespace: str = agreement.NAMESPACE) -> str:
    return f'<a:{name} xmlns:a="{namespace}" arrivals="{arrivals}">{children}</a:{name}>'


TOOLS = '<a:tools source="guest-tools" version="1.4.0-12" upgradable="true" up-to-date="unknown"/>'


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ("", False),
        (record(TOOLS), True),
        (record(""), False),
        (record(TOOLS.replace("a:", "")), True),  # libvirt gives out the element without a namespace
        (record(TOOLS, name="other"), False),
        (record(TOOLS, namespace="urn:other"), False),
        # What the daemon cannot read may be a newer sidecar's.
        (record(TOOLS, arrivals="0"), True),
        (record(TOOLS * 2), True),
        (record('<a:tools source="new" version="eleven"/>'), True),
        (record("<a:others/>"), False),
    ],
)
def test_shows_tools(metadata: str, expected: bool) -> None:
    assert shows_tools(domain(metadata)) is expected


class TestJudge:
    @pytest.mark.parametrize(
        ("minimums", "refused_for"),
        [
            ((), None),
            ((0,), None),
            ((2,), None),
            ((3,), 'dialect="ovirt" min-version="3"'),
            ((Release(7, 2),), None),
            ((Release(7, 1),), None),
            ((Release(10, 0),), 'dialect="qga" min-version="10.0"'),
            ((2, Release(7, 3)), 'dialect="qga" min-version="7.3"'),
            ((4, Release(7, 3)), 'dialect="ovirt" min-version="4"'),
        ],
    )
    def test_minimums(self, minimums: tuple[int | Release, ...], refused_for: str | None) -> None:
        sentence = judge(Policy(minimums, tools=False), "vm1", has_tools=False, offer=OFFER)
        if refused_for is None:
            assert sentence is None
        else:
            expected = f"domain 'vm1' is refused: its policy requires {refused_for}, and this host offers {OFFER}"
            assert sentence == expected

    def test_a_host_that_is_capped_to_nothing(self) -> None:
        sentence = judge(Policy((Release(0, 15),), tools=False), "vm1", has_tools=True, offer=Offer(0, Release(0, 0)))
        assert sentence is not None
        assert sentence.endswith("this host offers ovirt up to 0, qga up to 0")

    @pytest.mark.parametrize(("required", "present"), [(True, True), (False, True), (False, False)])
    def test_tools_that_are_there_or_not_required(self, required: bool, present: bool) -> None:
        assert judge(Policy((2,), required), "vm1", has_tools=present, offer=OFFER) is None

    def test_tools_that_are_missing(self) -> None:
        sentence = judge(Policy((), tools=True), "vm1", has_tools=False, offer=OFFER)
        assert sentence is not None
        assert "domain 'vm1' is refused: its policy requires tools=\"true\"" in sentence

    @given(st.text())
    def test_any_name_leaves_it_one_line(self, name: str) -> None:
        sentence = judge(Policy((), tools=True), name, has_tools=False, offer=OFFER)
        assert sentence is not None
        assert sentence.isascii()
        assert sentence.isprintable()
        assert len(sentence) < 4000, "of which the hook keeps the end"
