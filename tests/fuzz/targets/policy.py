"""The operator's policy, and offers to hold against it: read, or one printable line that says why not; and judged.

The input: a policy's children as XML or, after a first byte of 0xFF, a tree of what is in ``LANGUAGE``; an LF; and
another document: a host's offer, or a configuration.
"""

import contextlib
from xml.etree import ElementTree

from sidecar.cli.admit import parse_caps, parse_offer
from sidecar.errors import ConfigurationError
from sidecar.protocol.releases import Release
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
from tests.fuzz.readings import check_line
from tests.fuzz.trees import Language, render_tree

WORDS = (
    b'<p:require dialect="ovirt" min-version="3"/>',
    b'<p:require dialect="qga" min-version="7.2"/>',
    b'<p:require tools="true"/>',
    b"</p:policy><p:policy>",
    b' xmlns:other="urn:other"',
    b"2147483647",
    b'\n{"dialects": {"ovirt": {"maximum": 4}, "qga": {"maximum": "10.0"}}}',
    b'\n[upgrade_levels]\novirt = "ovirt-4.5"\nqga = "debian-12"\n',
)

LANGUAGE = Language(
    tags=("p:require", "require", "o:require", "p:policy", "p:x\u00e4"),
    names=("dialect", "min-version", "tools", "o:tools", "p:tools", "p:dialect", "x", "min-versio\u0144"),
    values=(
        *(
            "ovirt",
            "qga",
            "true",
            "false",
            "0",
            "1",
            "3",
            "4",
            "2147483647",
            "2147483648",
            "7.2",
            "10.0",
            "0.15",
            "07.2",
        ),
        *(
            "",
            " 3",
            "3\n",
            "\u0663",
            "7.2.1",
            "TRUE",
            "-1",
            "999999999.999999999",
            "1234567890.1",
            "x" * 300,
            "\ufffd\u2028",
        ),
    ),
)

EVERYTHING = Offer(2**31 - 1, Release(10**9, 0))
NOTHING = Offer(0, Release(0, 0))


def check(data: bytes) -> None:
    """The policy, judged by what was offered, by more and by less."""
    children, _, document = data.partition(b"\n")
    offers = read_offers(document)
    policy = read(children)
    if policy is not None:
        for offer in offers:
            check_judgement(policy, offer)


def read_offers(document: bytes) -> list[Offer]:
    """What two readers make of it, each of which fails as it says."""
    offers = [NOTHING, EVERYTHING]
    with contextlib.suppress(ValueError):
        offers.append(parse_offer(document))
    with contextlib.suppress(ValueError, ConfigurationError):
        offers.append(parse_caps(document))
    return offers


def read(children: bytes) -> Policy | None:
    """The policy of a domain with these requirements, whose text or tree this is."""
    if children.startswith(b"\xff"):
        policy = render_tree(children[1:], "p:policy", LANGUAGE)
    else:
        policy = f'<p:policy xmlns:p="{NAMESPACE}">{children.decode("utf-8", "replace")}</p:policy>'
    try:
        root = ElementTree.fromstring(f"<domain><metadata>{policy}</metadata></domain>")
    except ElementTree.ParseError:
        return None
    return read_checked(root)


def read_checked(root: ElementTree.Element) -> Policy | None:
    shows_tools(root)
    try:
        policy = read_policy(root)
    except BrokenPolicyError as error:
        check_line(str(error))
        return None
    if policy is not None:
        assert len(policy.minimums) + policy.tools <= REQUIREMENTS_LIMIT
        assert policy == read_policy(root)
    return policy


def check_judgement(policy: Policy, offer: Offer) -> None:
    """Who offers everything takes it; who offers less than one that refuses, refuses."""
    for has_tools in (False, True):
        refusal = judge(policy, "a\nb'\ud800", has_tools=has_tools, offer=offer)
        if refusal is None:
            assert judge(policy, "d", has_tools=True, offer=EVERYTHING) is None
            assert has_tools or not policy.tools
        else:
            check_line(refusal)
            assert judge(policy, "d", has_tools=has_tools, offer=NOTHING) is not None
    short = [minimum for minimum in policy.minimums if is_short(offer, minimum)]
    assert (judge(policy, "d", has_tools=True, offer=offer) is None) == (not short)


def is_short(offer: Offer, minimum: int | Release) -> bool:
    """Release and integer are of different dialects."""
    return offer.ovirt < minimum if isinstance(minimum, int) else offer.qga < minimum
