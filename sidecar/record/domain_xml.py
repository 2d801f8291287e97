"""Reads what we need out of a live domain XML: our channels, the record that came along, what is wrong in the policy.

Source: libvirt's format of domain XML; docs/record.md for the record, docs/configuration.md for the channels' names.
"""

from collections.abc import Collection
from dataclasses import dataclass
from xml.etree import ElementTree

from sidecar.record.agreement import NAMESPACE, Agreement, read_agreement
from sidecar.record.policy import BrokenPolicyError, Policy, read_policy, shows_tools


@dataclass(frozen=True, slots=True)
class ChannelDevice:
    """One virtio channel of the live XML.

    ``alias`` is the device's name in QEMU's events; ``path`` the unix socket that QEMU serves; ``opened`` whether the
    guest's end is open as far as libvirt knows, ``None`` when it does not say.
    """

    name: str
    alias: str
    path: str
    opened: bool | None


@dataclass(frozen=True, slots=True)
class DomainXml:
    """What one domain XML told.

    ``record_present`` is set also when the record is broken (``record`` is ``None``). ``policy`` is the operator's,
    ``policy_problem`` what is wrong in one that is none, in one printable line; ``shows_tools`` what a policy asks for.
    """

    channels: tuple[ChannelDevice, ...]
    record: Agreement | None
    record_present: bool
    policy: Policy | None = None
    policy_problem: str | None = None
    shows_tools: bool = False


def parse_domain_xml(text: str, names: Collection[str]) -> DomainXml:
    """Read a domain XML, as libvirt gives it; only channels whose target name is in ``names`` are kept.

    A record that is broken, as ``read_agreement`` says, keeps nobody from reading the rest. A DTD, which libvirt never
    writes, is not looked for.

    Raises:
        xml.etree.ElementTree.ParseError: The text is no XML; libvirt does not write such.
    """
    root = ElementTree.fromstring(text)
    element = root.find(f"./metadata/{{{NAMESPACE}}}agreement")
    policy, policy_problem = _read_policy(root)
    return DomainXml(
        channels=tuple(_channels(root, names)),
        record=None if element is None else read_agreement(element),
        record_present=element is not None,
        policy=policy,
        policy_problem=policy_problem,
        shows_tools=shows_tools(root),
    )


def _read_policy(root: ElementTree.Element) -> tuple[Policy | None, str | None]:
    """The policy, or what is wrong in it."""
    try:
        return read_policy(root), None
    except BrokenPolicyError as error:
        return None, str(error)


def _channels(root: ElementTree.Element, names: Collection[str]) -> list[ChannelDevice]:
    devices: dict[str, ChannelDevice] = {}
    for channel in root.iterfind("./devices/channel[@type='unix']"):
        target, source, alias = channel.find("target"), channel.find("source"), channel.find("alias")
        if target is None or source is None or alias is None:
            continue  # a domain that does not run has neither socket nor alias
        name, path = target.get("name", ""), source.get("path", "")
        if target.get("type") != "virtio" or name not in names or not path or source.get("mode") != "bind":
            continue
        state = target.get("state")
        opened = None if state is None else state == "connected"
        devices.setdefault(name, ChannelDevice(name, alias.get("name", ""), path, opened))
    return list(devices.values())
