"""The policy: what an operator requires of every host that a domain migrates to, read and judged, never written.

It stands beside the agreement, in a namespace of its own. An element that is broken in any part requires nothing at
all: whoever mistypes a wish must not find the guest nailed to its host.

Source: docs/policy.md.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Self
from xml.etree import ElementTree

from sidecar.protocol.guest_text import clean_line
from sidecar.protocol.releases import Release
from sidecar.protocol.states import Dialect
from sidecar.protocol.versions import OFFER_LIMIT, is_offer
from sidecar.record.agreement import NAMESPACE as AGREEMENT_NAMESPACE

NAMESPACE = "urn:libvirt-sidecar:policy:1"
"""The constant URI, for which the hook looks in the XML, too."""

# There are two dialects and one word about tools; five times that is room for nobody's honest work.
REQUIREMENTS_LIMIT = 16

_ATTRIBUTES = ({"dialect", "min-version"}, {"tools"})


class BrokenPolicyError(ValueError):
    """The policy is none; the text says what is wrong in one printable line. It refuses nothing."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What is required; an oVirt version is an ``int``, a QGA version a ``Release``."""

    minimums: tuple[int | Release, ...]
    tools: bool


@dataclass(frozen=True, slots=True)
class Offer:
    """This host's maximum in each dialect, after its caps."""

    ovirt: int
    qga: Release

    @classmethod
    def from_document(cls, document: object) -> Self:
        """From a host's offer as JSON values: ``host.json``, or what ``sidecarctl host --json`` prints.

        Raises:
            ValueError: It is something else; the text says what is wrong in one printable line.
        """
        try:
            dialects = document["dialects"]  # type: ignore[index]  # whatever it is, it shows now
            ovirt, qga = dialects["ovirt"]["maximum"], dialects["qga"]["maximum"]
        except (LookupError, TypeError) as error:
            raise ValueError(f"no offer: {error!r}") from error
        if not is_offer(ovirt) or not isinstance(qga, str):
            raise ValueError("no offer: a maximum is no version")
        return cls(ovirt, Release.parse(qga))

    def __str__(self) -> str:
        return f"ovirt up to {self.ovirt}, qga up to {self.qga}"


def read_policy(root: ElementTree.Element) -> Policy | None:
    """The policy in a whole domain XML; ``None`` when there is none.

    Attributes and children of other namespaces are ignored, and so is text.

    Raises:
        BrokenPolicyError: More than one policy, or over ``REQUIREMENTS_LIMIT`` requirements, or one that cannot be
            understood: it holds for the whole policy.
    """
    found = [element for element in root.iterfind("./metadata/*") if _is_of(NAMESPACE, element.tag)]
    if not found:
        return None
    if len(found) > 1:
        raise BrokenPolicyError("more than one element of the policy's namespace")
    _require_name(found[0], "policy")
    _require_attributes(found[0], ())
    children = _children(found[0])
    if len(children) > REQUIREMENTS_LIMIT:
        raise BrokenPolicyError(f"more than {REQUIREMENTS_LIMIT} requirements")
    read = [_read_requirement(child) for child in children]
    return Policy(tuple(value for value in read if not isinstance(value, bool)), any(value is True for value in read))


def shows_tools(root: ElementTree.Element) -> bool:
    """Whether the agreement in a whole domain XML tells of guest tools.

    What ``read_agreement`` cannot read counts as well, a newer sidecar's for instance: a policy errs to admitting.
    """
    record = root.find(f"./metadata/{{{AGREEMENT_NAMESPACE}}}agreement")
    return record is not None and any(child.tag in (f"{{{AGREEMENT_NAMESPACE}}}tools", "tools") for child in record)


def judge(policy: Policy, domain: str, *, has_tools: bool, offer: Offer) -> str | None:
    """Why this host must not take the domain, as one printable line; ``None`` when it may.

    Args:
        policy: The domain's.
        domain: Its name, whatever that may hold.
        has_tools: What ``shows_tools`` says of the record that came along.
        offer: This host's.
    """
    refused = f"domain '{clean_line(domain)}' is refused: its policy requires"
    for minimum in policy.minimums:
        if isinstance(minimum, Release):
            dialect, is_short = Dialect.QGA, offer.qga < minimum
        else:
            dialect, is_short = Dialect.OVIRT, offer.ovirt < minimum
        if is_short:
            return f'{refused} dialect="{dialect}" min-version="{minimum}", and this host offers {offer}'
    if policy.tools and not has_tools:
        return f'{refused} tools="true", and the record that came along shows none (this host offers {offer})'
    return None


def _read_requirement(element: ElementTree.Element) -> int | Release | bool:
    """A minimum, or whether tools are required."""
    _require_name(element, "require")
    present = _require_attributes(element, set().union(*_ATTRIBUTES))
    if _children(element):
        raise BrokenPolicyError("an element inside of a requirement")
    if present not in _ATTRIBUTES:
        raise BrokenPolicyError("a requirement has either dialect and min-version, or tools")
    if "tools" in present:
        return _read_flag(element.get("tools", ""))
    return _read_minimum(element.get("dialect", ""), element.get("min-version", ""))


def _read_flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise BrokenPolicyError(f"tools '{clean_line(text)}': expected true or false")
    return text == "true"


def _read_minimum(dialect: str, text: str) -> int | Release:
    match dialect:
        case Dialect.OVIRT:
            if text.isascii() and text.isdigit() and len(text) <= len(str(OFFER_LIMIT)) and int(text) <= OFFER_LIMIT:
                return int(text)
            raise BrokenPolicyError(f"min-version '{clean_line(text)}': expected an integer from 0 to {OFFER_LIMIT}")
        case Dialect.QGA:
            try:
                return Release.parse(text if text != "0" else "")
            except ValueError:
                problem = f"min-version '{clean_line(text)}': expected a release such as 7.2"
                raise BrokenPolicyError(problem) from None
        case _:
            raise BrokenPolicyError(f"dialect '{clean_line(dialect)}': expected ovirt or qga")


def _require_name(element: ElementTree.Element, name: str) -> None:
    if element.tag != f"{{{NAMESPACE}}}{name}":
        raise BrokenPolicyError(f"element '{clean_line(_local_name(element.tag))}': expected {name}")


def _require_attributes(element: ElementTree.Element, known: Collection[str]) -> set[str]:
    """The element's attributes, all of them known; of another namespace may be any."""
    present = {name for name in element.keys() if not _is_foreign(name)}  # noqa: SIM118 (no mapping: it has children)
    unknown = sorted(present - set(known))
    if unknown:
        raise BrokenPolicyError(f"attribute '{clean_line(_local_name(unknown[0]))}': is not known here")
    return present


def _children(element: ElementTree.Element) -> list[ElementTree.Element]:
    return [child for child in element if not _is_foreign(child.tag)]


def _is_foreign(name: str) -> bool:
    """Of another's namespace; what has none is a slip of the pen in ours."""
    return name.startswith("{") and not _is_of(NAMESPACE, name)


def _is_of(namespace: str, name: str) -> bool:
    return name.startswith("{" + namespace + "}")


def _local_name(name: str) -> str:
    return name.rpartition("}")[2]
