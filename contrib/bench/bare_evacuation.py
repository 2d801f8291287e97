"""The bare counterpart of a mass arrival: ``bare_arrival`` for many guests, with as many writers as sidecard has.

A write waits for the tail of its guest's migration; one thread would have all others wait with it.
"""

import json
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from xml.etree import ElementTree

import libvirt

PORT, URI = "ovirt-guest-agent.0", "urn:libvirt-sidecar:agreement:1"
LIVE, CONFIG = libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG
WRITERS = 8
host, maximum = sys.argv[1], int(sys.argv[2])
guests: dict[int, tuple[socket.socket, Any]] = {}
agreed: set[int] = set()
writers = ThreadPoolExecutor(WRITERS)


def say(channel: socket.socket, name: str) -> None:
    channel.sendall(json.dumps({"__name__": name, "apiVersion": maximum}).encode() + b"\n")


def lifecycle(_connection: Any, domain: Any, event: int, detail: int, _opaque: Any) -> None:
    if event == libvirt.VIR_DOMAIN_EVENT_STARTED and detail == libvirt.VIR_DOMAIN_EVENT_STARTED_MIGRATED:
        writers.submit(attach, domain)


def attach(domain: Any) -> None:
    xml = ElementTree.fromstring(domain.XMLDesc(0))
    channel = socket.socket(socket.AF_UNIX)
    channel.connect(xml.findall(f"./devices/channel/target[@name='{PORT}']/../source")[0].attrib["path"])
    guests[channel.fileno()] = channel, domain
    agreed.discard(channel.fileno())
    say(channel, "refresh")
    libvirt.virEventAddHandle(channel.fileno(), libvirt.VIR_EVENT_HANDLE_READABLE, heard, None)


def heard(watch: int, fd: int, _events: int, _opaque: Any) -> None:
    channel, domain = guests[fd]
    data = channel.recv(65536)
    if not data:
        libvirt.virEventRemoveHandle(watch)
        guests.pop(fd)[0].close()
    for line in data.splitlines():
        message = json.loads(line)
        if fd not in agreed and message["__name__"] == "heartbeat" and message.get("apiVersion", 0) > 0:
            agreed.add(fd)
            say(channel, "api-version")
            writers.submit(record, domain)


def record(domain: Any) -> None:
    text = f'<agreement host="{host}"><channel name="{PORT}" state="agreed" version="{maximum}"/></agreement>'
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, text, "sidecar", URI, LIVE | CONFIG)
    for copy in (LIVE, CONFIG):
        domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, URI, copy)


libvirt.virEventRegisterDefaultImpl()
connection = libvirt.open("qemu:///system")
connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle, None)
print("ready", flush=True)
while True:
    libvirt.virEventRunDefaultImpl()
