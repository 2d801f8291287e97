"""Which problem codes of a channel are faults, what each means in one sentence, and how to mend it.

An advice names the commands for its case in backticks, with names and paths quoted for the shell; those of the guest
are said to be the guest's. A code that is in neither table is no code of a channel.

Source: docs/problems.md; docs/protocol.md for why a guest agent's end has to stay closed for two seconds.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from xml.etree import ElementTree

from sidecar.api.problems import ProblemCode
from sidecar.api.views import FindingView
from sidecar.config import QGA_CHANNEL
from sidecar.engine.settings import Way
from sidecar.protocol.states import Reason


class FindingCode(StrEnum):
    """Stable codes of what the doctor finds, beside those of channels (``Reason``)."""

    CHANNEL_ABSENT = "channel-absent"
    DAEMON_DOWN = "daemon-down"
    CONFIGURATION_BROKEN = "configuration-broken"
    CONFIG_READABLE = "config-readable"
    HOOK_MISSING = "hook-missing"
    HOOK_OUTDATED = "hook-outdated"
    HOOK_NOT_LOADED = "hook-not-loaded"
    HELPER_BROKEN = "helper-broken"
    SPOOL_UNUSABLE = "spool-unusable"
    SOCKET_MISSING = "socket-missing"
    SOCKET_WRONG_MODE = "socket-wrong-mode"
    BUS_DISCONNECTED = "bus-disconnected"
    BUS_DROPPED = "bus-dropped"
    LIBVIRT_UNAVAILABLE = ProblemCode.LIBVIRT_UNAVAILABLE.value


@dataclass(frozen=True, slots=True)
class Place:
    """A channel of a domain, as advice needs it: target name, socket, and how it is spoken to."""

    domain: str
    channel: str
    path: str
    way: Way


@dataclass(frozen=True, slots=True)
class Remedy:
    """What is wrong, and how to mend it; both are formats over ``_words``."""

    problem: str
    advice: str


# QEMU tells of one change of a port a second, so an end that is open again at once was never closed for libvirt.
_REOPEN = "in the guest `systemctl stop {service}`, wait 2 s, `systemctl start {service}`"
_POWER_CYCLE = "`virsh shutdown {domain}` and, once it is off, `virsh start {domain}`"

REMEDIES: Mapping[Reason, Remedy] = MappingProxyType(
    {
        Reason.PORT_CLOSED: Remedy(
            "nobody in the guest has the channel open", "start the agent in the guest: `systemctl start {service}`"
        ),
        Reason.NOT_OPENED: Remedy(
            "nothing in the guest has opened the channel since the guest is here",
            "install the agent in the guest and start it: `systemctl enable --now {service}`",
        ),
        Reason.AGENT_SILENT: Remedy(
            "the agent has the channel open and says nothing",
            "it hangs; restart it in the guest: `systemctl restart {service}`",
        ),
        Reason.AGENT_POISONED: Remedy(
            "libvirt has given up its connection to the agent, which sent something that is no reply; the XML still "
            "says connected, and no program on this host reaches the agent",
            f"{_REOPEN}; or restart libvirt on this host: `systemctl restart libvirtd` (or virtqemud)",
        ),
        Reason.AGENT_JOB_HELD: Remedy(
            "another client of libvirt's holds the domain's agent job: its command is not answered",
            "wait for its end; `virt-admin client-list libvirtd` and `virt-admin client-info libvirtd ID` tell who is "
            f"connected. To end it now: {_REOPEN}",
        ),
        Reason.GUEST_FROZEN: Remedy(
            "the guest's file systems are frozen, and the agent has nearly everything disabled",
            "end the backup or snapshot that froze them, or thaw them: `{thaw}`",
        ),
        Reason.GUEST_INFO_BLOCKED: Remedy(
            "the agent has guest-info disabled, so nobody can know what it may be asked",
            "in the guest take guest-info out of block-rpcs (or add it to allow-rpcs) in the agent's configuration, "
            "/etc/qemu/qemu-ga.conf or its options, and `systemctl restart {service}`",
        ),
        Reason.BAD_REPLY: Remedy(
            "what answers on the channel is no QEMU guest agent",
            "in the guest see what it is: `fuser -v /dev/virtio-ports/{channel}`; stop it, wait 2 s, and "
            "`systemctl start {service}`",
        ),
        Reason.SOCKET_BUSY: Remedy(
            "another program on this host is connected to the channel's socket",
            "see which: `ss -xp | grep -w \"$(ss -xH src {path} | awk '{{print $NF}}')\"` and stop it; sidecard takes "
            "the channel when it was free for a minute, or up to six; or take it out of sidecard's configuration",
        ),
        Reason.SOCKET_UNREACHABLE: Remedy(
            "the channel's socket does not exist, or nobody answers there",
            f"QEMU makes it when it starts: {_POWER_CYCLE}",
        ),
        Reason.SOCKET_FOREIGN: Remedy(
            "the process behind the channel's socket is not the domain's QEMU",
            f"see which it is: `ss -xlp src {{path}}`; stop it, then {_POWER_CYCLE}",
        ),
        Reason.DISCONNECTED: Remedy(
            "the connection to the channel broke and could not be made again", f"QEMU does not serve it: {_POWER_CYCLE}"
        ),
        Reason.FLAPPING: Remedy(
            "the guest negotiated anew, or opened the channel, more than 6 times within a minute",
            "look for what restarts the agent in the guest: `journalctl -u {service}`; it is answered again once it "
            "has been calm for a minute",
        ),
        Reason.NO_VERSION: Remedy(
            "the agent's heartbeats carry no valid version",
            "update the agent in the guest, to ovirt-guest-agent 1.0.9.1 or later, and `systemctl restart {service}`",
        ),
        Reason.STAYS_AT_ZERO: Remedy(
            "the agent says version 0 and stays there", "restart the agent in the guest: `systemctl restart {service}`"
        ),
    }
)
"""Every code that is a fault."""

NO_FAULTS = frozenset(
    {Reason.NOT_HEARD, Reason.AGENT_RESTARTED, Reason.OTHER_CHANNEL, Reason.HOST_CAPPED, Reason.INFERRED}
)
"""Codes that pass by themselves, that the operator has asked for, or that cost nothing."""


def find_fault(reason: Reason | None, place: Place) -> FindingView | None:
    """The finding that goes with a channel's code; ``None`` when it is no fault."""
    remedy = None if reason is None else REMEDIES.get(reason)
    if reason is None or remedy is None:
        return None
    words = _words(place)
    return FindingView(
        reason.value, place.domain, place.channel, remedy.problem.format(**words), remedy.advice.format(**words)
    )


def find_absent(domain: str, wanted: Sequence[str]) -> FindingView:
    """The finding for a domain that has none of the ``wanted`` channels (one at least)."""
    channel = QGA_CHANNEL if QGA_CHANNEL in wanted else wanted[0]
    plug = f"echo {shlex.quote(_channel_xml(channel))} | virsh attach-device {shlex.quote(domain)} /dev/stdin --live"
    return FindingView(
        FindingCode.CHANNEL_ABSENT.value,
        domain,
        channel,
        f"the domain has none of the channels that are looked after: {', '.join(wanted)}",
        f"plug one in: `{plug}` (with --config, too, it is there after the next start); where that fails put the same "
        f"element among the devices with `virsh edit {shlex.quote(domain)}`, shut the domain down and start it",
    )


def _channel_xml(name: str) -> str:
    channel = ElementTree.Element("channel", type="unix")
    ElementTree.SubElement(channel, "source", mode="bind")
    ElementTree.SubElement(channel, "target", type="virtio", name=name)
    return ElementTree.tostring(channel, encoding="unicode")


def _words(place: Place) -> dict[str, str]:
    domain, channel = shlex.quote(place.domain), shlex.quote(place.channel)
    # libvirt thaws through the one agent that it holds.
    direct = f"sidecarctl send {domain} guest-fsfreeze-thaw --channel {channel}"
    return {
        "domain": domain,
        "channel": channel,
        "path": shlex.quote(place.path),
        "service": "ovirt-guest-agent" if place.way is Way.OVIRT else "qemu-guest-agent",
        "thaw": direct if place.way is Way.DIRECT else f"virsh domfsthaw {domain}",
    }
