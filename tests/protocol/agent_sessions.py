"""Sessions of the guest's own agent as tests need them, and what they write."""

import json
from typing import Any

from sidecar.protocol.ovirt_agent import REFRESH_SET, AgentSession
from tests.fakes.ovirt_agent import FACTS

BEAT_S = 5.0


def new_agent(maximum: int = 4, *, now: float = 0.0, facts: bool = True) -> AgentSession:
    """A process that has just started, and has looked everything up already."""
    agent = AgentSession(heartbeat_s=BEAT_S, now=now, maximum=maximum)
    for name in (*REFRESH_SET, *(FACTS.keys() - set(REFRESH_SET))) if facts else ():
        agent.keep(name, FACTS[name])
        if name in REFRESH_SET:
            agent.report(name)
    return agent


def met(maximum: int = 4, version: int = 0) -> AgentSession:
    """One that a host has met, and told this version; everything that it had to say then is said."""
    agent = new_agent(maximum)
    agent.host_came(0.0)
    agent.tick(0.0)
    said(agent)
    agent.tick(1.0)
    agent.receive_data(line("api-version", apiVersion=version), 1.0)
    said(agent)
    return agent


def said(agent: AgentSession) -> list[dict[str, Any]]:
    """All that it has to say now, as messages."""
    return [json.loads(text) for text in written(agent).splitlines()]


def written(agent: AgentSession) -> bytes:
    pieces = []
    while piece := agent.data_to_send():
        pieces.append(piece)
    return b"".join(pieces)


def offers(agent_said: list[dict[str, object]]) -> list[object]:
    """The version that each heartbeat offers."""
    return [message["apiVersion"] for message in agent_said if message["__name__"] == "heartbeat"]


def names(agent: AgentSession) -> list[str]:
    return [message["__name__"] for message in said(agent)]


def line(name: str, **arguments: object) -> bytes:
    """What a host writes."""
    return json.dumps({"__name__": name, **arguments}).encode() + b"\n"
