"""The bare counterpart of an idle sidecard: a client of libvirt's that hears the same events and does nothing."""

import sys
from typing import Any

import libvirt
import libvirt_qemu

EVENTS = (
    libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
    libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE,
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED,
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
    libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE,
)
keepalive_s, keepalive_count = map(int, sys.argv[1:])


def ignore(*_arguments: Any) -> None:
    pass


libvirt.virEventRegisterDefaultImpl()
connection: Any = libvirt.open("qemu:///system")
connection.setKeepAlive(keepalive_s, keepalive_count)
connection.registerCloseCallback(ignore, None)
for event in EVENTS:
    connection.domainEventRegisterAny(None, event, ignore, None)
every_domain: Any = None
libvirt_qemu.qemuMonitorEventRegister(connection, every_domain, "VSERPORT_CHANGE", ignore, None)
print("ready", flush=True)
while True:
    libvirt.virEventRunDefaultImpl()
