"""The bare counterpart of a QGA guest's arrival: what one script that knows its one guest needs, and nothing more.

Runs on the destination: when libvirt says that the agent is connected it asks guest-info once, and the agreement is
written and read back. All in the event's own callback, which libvirt calls outside of any read of the connection: one
thread, no queue, no check, no retry, no second guest.
"""

import json
import sys
from typing import Any

import libvirt
import libvirt_qemu

PORT, URI = "org.qemu.guest_agent.0", "urn:libvirt-sidecar:agreement:1"
LIVE, CONFIG = libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG
ANSWER_S = 5
host = sys.argv[1]


def agent(_connection: Any, domain: Any, state: int, _reason: int, _opaque: Any) -> None:
    if state != libvirt.VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED:
        return
    reply = json.loads(libvirt_qemu.qemuAgentCommand(domain, '{"execute":"guest-info"}', ANSWER_S, 0))
    version = ".".join(reply["return"]["version"].split(".")[:2])
    channel = f'<channel name="{PORT}" dialect="qga" state="agreed" version="{version}"/>'
    text = f'<agreement host="{host}">{channel}</agreement>'
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, text, "sidecar", URI, LIVE | CONFIG)
    for copy in (LIVE, CONFIG):
        domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, URI, copy)


libvirt.virEventRegisterDefaultImpl()
connection = libvirt.open("qemu:///system")
connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, agent, None)
print("ready", flush=True)
while True:
    libvirt.virEventRunDefaultImpl()
