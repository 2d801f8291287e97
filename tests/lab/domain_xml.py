"""The XML of the lab's guests, and what of it is read back."""

import xml.etree.ElementTree as ET
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from tests.lab.guest_files.control import CONTROL_PORT
from tests.lab.image import Image

OVIRT_PORT = "ovirt-guest-agent.0"
LEGACY_PORT = "com.redhat.rhevm.vdsm"
QGA_PORT = "org.qemu.guest_agent.0"
DIRECT_QGA_PORT = "org.qemu.guest_agent.1"
RECORD_URI = "urn:libvirt-sidecar:agreement:1"
_METADATA_MARK = "@METADATA@"


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """How an oVirt agent of the guest behaves; `maximum` None means what its era knows.

    The era `control.OWN_AGENT` is no era: it is the project's own agent, which has its own maximum and is prompt.
    """

    era: str = "1.0.16"
    heartbeat_s: float = 0.5
    prompt: bool = False
    maximum: int | None = None


@dataclass(frozen=True, slots=True)
class GuestSpec:
    """What a guest is made of.

    Without a `name` the lab chooses one. `agent` is started at boot on the port that a Linux agent takes; None
    starts none. `qga` starts qemu-ga at boot if its port is there. `metadata` is XML for the inside of
    `<metadata>`. `disk` gives it an empty qcow2 disk, which snapshots need; the guest itself has no use for it.
    """

    name: str = ""
    channels: tuple[str, ...] = (OVIRT_PORT, QGA_PORT)
    agent: AgentSpec | None = field(default_factory=AgentSpec)
    qga: bool = True
    metadata: str = ""
    disk: bool = False
    persistent: bool = True
    memory_mib: int = 256
    machine: str = "pc"

    def named(self, name: str) -> Self:
        """The same under another name."""
        return replace(self, name=name)


def render_domain(spec: GuestSpec, image: Image, serial_log: Path, disk: Path | None) -> str:
    """The domain as it is given to libvirt, which chooses the sockets' paths."""
    domain = ET.Element("domain", type="qemu")
    _add(domain, "name", spec.name)
    _add(domain, "memory", str(spec.memory_mib), unit="MiB")
    _add(domain, "vcpu", "1")
    if spec.metadata:
        _add(domain, "metadata", _METADATA_MARK)
    os = _add(domain, "os")
    _add(os, "type", "hvm", arch="x86_64", machine=spec.machine)
    _add(os, "kernel", str(image.kernel))
    _add(os, "initrd", str(image.initramfs))
    _add(os, "cmdline", _render_cmdline(spec))
    _add(_add(domain, "features"), "acpi")
    # rdrand: without it the kernel collects randomness for most of a second before anything gets some.
    cpu = _add(domain, "cpu", mode="custom", match="exact", check="none")
    _add(cpu, "model", "qemu64", fallback="forbid")
    _add(cpu, "feature", policy="require", name="rdrand")
    devices = _add(domain, "devices")
    _add(devices, "controller", type="usb", model="none")
    _add(devices, "memballoon", model="none")
    _add(_add(devices, "video"), "model", type="none")
    serial = _add(devices, "serial", type="file")
    _add(serial, "source", path=str(serial_log), append="on")
    for channel in (CONTROL_PORT, *spec.channels):
        _add_channel(devices, channel)
    if disk is not None:
        _add_disk(devices, disk)
    # As text: ElementTree would give other people's namespaces prefixes of its own.
    return ET.tostring(domain, encoding="unicode").replace(_METADATA_MARK, spec.metadata)


def render_channel(name: str) -> str:
    """One channel, to be plugged in at run time."""
    return ET.tostring(_add_channel(ET.Element("devices"), name), encoding="unicode")


def channel_element(domain_xml: str, channel: str) -> str:
    """A channel as the XML shows it, to be unplugged.

    Raises:
        LookupError: the domain has no such channel.
    """
    for device in ET.fromstring(domain_xml).iterfind("devices/channel"):
        if device.find(f"target[@name='{channel}']") is not None:
            return ET.tostring(device, encoding="unicode")
    raise LookupError(f"no channel {channel} in the domain's XML")


def channel_path(domain_xml: str, channel: str) -> str:
    """The socket's path of a channel, from the live XML.

    Raises:
        LookupError: the domain has no such channel, or it does not run.
    """
    for device in ET.fromstring(domain_xml).iterfind("devices/channel"):
        target, source = device.find("target"), device.find("source")
        if target is not None and target.get("name") == channel and source is not None and source.get("path"):
            return str(source.get("path"))
    raise LookupError(f"no path of channel {channel} in the domain's XML")


def channel_state(domain_xml: str, channel: str) -> str | None:
    """What libvirt knows about the guest's end: `connected` or `disconnected`."""
    for target in ET.fromstring(domain_xml).iterfind("devices/channel/target"):
        if target.get("name") == channel:
            return target.get("state")
    return None


def _render_cmdline(spec: GuestSpec) -> str:
    # no_timer_check: without it a kernel panics at boot that a busy machine keeps from its first timer interrupts.
    words = ["console=ttyS0", "quiet", "mitigations=off", "no_timer_check", f"lab.ports={len(spec.channels) + 1}"]
    words.append(f"lab.qga={int(spec.qga)}")
    if spec.agent is not None:
        words += [f"lab.agent={spec.agent.era}", f"lab.heartbeat={spec.agent.heartbeat_s}"]
        words.append(f"lab.prompt={int(spec.agent.prompt)}")
        if spec.agent.maximum is not None:
            words.append(f"lab.maximum={spec.agent.maximum}")
    return " ".join(words)


def _add_channel(devices: ET.Element, name: str) -> ET.Element:
    channel = _add(devices, "channel", type="unix")
    _add(channel, "source", mode="bind")
    _add(channel, "target", type="virtio", name=name)
    return channel


def _add_disk(devices: ET.Element, path: Path) -> None:
    disk = _add(devices, "disk", type="file", device="disk")
    _add(disk, "driver", name="qemu", type="qcow2", cache="none")
    _add(disk, "source", file=str(path))
    _add(disk, "target", dev="vda", bus="virtio")


def _add(parent: ET.Element, tag: str, text: str | None = None, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = text
    return element
