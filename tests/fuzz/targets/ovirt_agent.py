"""The guest's end of the oVirt dialect: a hostile host, and one that comes and goes and does not read."""

import json
from collections.abc import Iterable
from typing import Any

from sidecar.protocol.bad_input import BadInput
from sidecar.protocol.ovirt_agent import (
    PIECE_BYTES,
    QUEUE_LIMIT,
    REFRESH_SET,
    AgentEvent,
    AgentSession,
    CommandReceived,
    VersionChanged,
)
from sidecar.protocol.ovirt_messages import GUEST_TO_HOST, HOST_TO_GUEST, LIMITS_BYTES, Direction
from tests.fakes.ovirt_agent import FACTS
from tests.fuzz.readings import check_line
from tests.fuzz.script import PAUSES_S, choose, run_steps

WORDS = (
    *(f'{{"__name__": "{name}"'.encode() for name in HOST_TO_GUEST),
    b', "apiVersion": 3}\n',
    b'{"__name__": "refresh", "apiVersion": 4}\n',
    b'{"__name__": "refresh"}\n',
    b'"reply_id": "',
    b"NaN",
    b"\\ud800",
    b"\xffw8\xffg\xff",
)


class Walk:
    """One process of the agent, of any maximum."""

    def __init__(self) -> None:
        self.now = 0.0
        self.begin(b"")

    def begin(self, argument: bytes) -> None:
        """The agent starts: maximum."""
        self.maximum = choose(range(4, -1, -1), argument)
        self.agent = AgentSession(heartbeat_s=5.0, now=self.now, maximum=self.maximum)
        for name, arguments in FACTS.items():
            self.agent.keep(name, arguments)

    def receive(self, data: bytes) -> None:
        before = self.agent.version
        self.check_events(before, self.agent.receive_data(data, self.now))

    def check_events(self, version: int, events: Iterable[AgentEvent]) -> None:
        """Every change is told, in its order."""
        for event in events:
            version = self.check_event(event, version)
        assert self.agent.version == version

    def check_event(self, event: AgentEvent, version: int) -> int:
        """The version in force after it."""
        match event:
            case BadInput():
                check_line(event.detail)
            case CommandReceived():
                assert event.name in HOST_TO_GUEST.keys() - {"refresh", "api-version", "echo"}
                assert repr(event) == f"CommandReceived(name={event.name!r})"
            case VersionChanged():
                assert event.before == version != event.version
                return event.version
        return version

    def come_or_leave(self, argument: bytes) -> None:
        change = self.agent.host_came if choose((True, False), argument) else self.agent.host_left
        change(self.now)

    def wait(self, argument: bytes) -> None:
        self.now += choose(PAUSES_S, argument)
        self.tick()

    def tick(self) -> None:
        before = self.agent.version
        self.check_events(before, self.agent.tick(self.now))

    def tell(self, argument: bytes) -> None:
        """Something of the guest changed, or happened."""
        name = choose(tuple(FACTS), argument)
        self.agent.keep(name, {"text": argument.decode("utf-8", "surrogateescape")})
        if name != "heartbeat":  # whose time has to come
            self.agent.report(name)
        self.agent.send("completion", {"reply_id": argument.hex()})

    def read(self, _: bytes) -> None:
        """The host reads a piece."""
        data = self.agent.data_to_send()
        assert len(data) < PIECE_BYTES + LIMITS_BYTES[Direction.GUEST_TO_HOST]
        assert data == b"" or data.endswith(b"\n")
        for line in data.splitlines():
            self.check_message(json.loads(line))

    def check_message(self, message: dict[str, Any]) -> None:
        assert GUEST_TO_HOST[message["__name__"]].since <= self.agent.version
        if message["__name__"] == "heartbeat":
            assert message["apiVersion"] in (0, self.maximum)

    # What always holds.

    def look(self) -> None:
        """What waits is bounded; a deadline that was kept is over."""
        assert 0 <= self.agent.version <= self.maximum
        assert len(self.agent._messages) <= QUEUE_LIMIT
        assert len(self.agent._reports) <= len(FACTS) + len(REFRESH_SET)
        self.tick()
        assert self.agent.deadline > self.now

    def end(self) -> None:
        """The next good line is read, whatever came before it, and everything is told at that version."""
        self.agent.host_came(self.now)
        self.receive(b'\n{"__name__": "api-version", "apiVersion": 3}\n{"__name__": "refresh", "apiVersion": 3}\n')
        assert self.agent.version == min(3, self.maximum)
        for _ in range(QUEUE_LIMIT):
            self.read(b"")
        assert self.agent.data_to_send() == b""


STEPS = {
    ord("b"): Walk.begin,
    ord("g"): Walk.read,
    ord("h"): Walk.come_or_leave,
    ord("t"): Walk.tell,
    ord("w"): Walk.wait,
}


def check(data: bytes) -> None:
    """The script, and then a host that is as it should be."""
    walk = Walk()
    run_steps(walk, data, STEPS, Walk.receive, Walk.look)
    walk.end()
