"""The host's end of the oVirt dialect: hostile bytes between reports of the port, broken connections, caps and time."""

import json
from collections import deque
from typing import Any

from sidecar.errors import MessageNotAllowedError, Refusal
from sidecar.protocol.ovirt_host import HostSession
from sidecar.protocol.ovirt_messages import GUEST_TO_HOST, HOST_TO_GUEST, NEGOTIATION_MESSAGES
from sidecar.protocol.ovirt_states import Stage, Step
from sidecar.protocol.states import Port, Reason, State
from tests.fuzz.readings import check_ovirt_events, check_ovirt_facts
from tests.fuzz.script import PAUSES_S, choose, run_steps

WORDS = (
    *(f'{{"__name__": "{name}"'.encode() for name in GUEST_TO_HOST),
    b', "apiVersion": 3}\n',
    b'"reply_id": "',
    b'"applications": ["',
    b'"installed": true, "major": 1, "minor": 2, "updated": 1',
    b"2147483647",
    b"\xff",
    b"\xffp\xffP\xff",
)

GOOD = b'{"__name__": "host-name", "name": "after"}'
OFFER = b'{"__name__": "heartbeat", "apiVersion": 3}'
HINTS = (None, 0, 1, 2, 3, 4, 2**31 - 1)
STAGES = {(stage.state, stage.reason) for stage in Stage}


class Walk:
    """One session, and what it has written within the last minute."""

    def __init__(self) -> None:
        self.now, self.online = 0.0, False
        self.told: deque[float] = deque()
        self.begin(b"")

    def begin(self, argument: bytes) -> None:
        """Another arrival: maximum, port, hint."""
        maximum, port = choose(range(4, -1, -1), argument), choose(list(Port), argument, 1)
        hint = choose(HINTS, argument, 2)
        self.session = HostSession(
            maximum=maximum, responsive_s=120.0, absent_s=120.0, now=self.now, port=port, hint=hint
        )
        self.online = False
        self.told.clear()

    def receive(self, data: bytes) -> None:
        if self.online:
            check_ovirt_events(self.session.receive_data(data, self.now))

    def connect(self, _: bytes) -> None:
        self.session.connect(self.now)
        self.online = True

    def disconnect(self, argument: bytes) -> None:
        """As an owner does: a connection breaks where there is one, and cannot be brought up where there is none."""
        steps = (Step.DISCONNECTED, Step.BUSY) if self.online else (Step.UNREACHABLE, Step.FOREIGN)
        self.session.disconnect(self.now, choose(steps, argument))
        self.online = False

    def stand_by(self, _: bytes) -> None:
        if not self.session.heard:
            self.session.stand_by(self.now)
            self.online = False

    def report_port(self, argument: bytes) -> None:
        report = self.session.port_opened if choose((True, False), argument) else self.session.port_closed
        report(self.now)

    def see_port(self, argument: bytes) -> None:
        self.session.port_seen(choose((True, False), argument), self.now)

    def cap(self, argument: bytes) -> None:
        self.session.set_maximum(choose(range(5), argument), self.now)

    def renegotiate(self, _: bytes) -> None:
        self.session.renegotiate(self.now)
        self.told.clear()

    def wait(self, argument: bytes) -> None:
        self.now += choose(PAUSES_S, argument)

    def send(self, argument: bytes) -> None:
        """Whatever is not refused can be sent, and what is refused cannot."""
        for name in HOST_TO_GUEST:
            refusal = self.session.refuse(name)
            assert self.try_to_send(name, argument) == refusal
            if refusal is None:
                assert name not in NEGOTIATION_MESSAGES
                assert self.online
                assert HOST_TO_GUEST[name].since <= self.session.view.version

    def try_to_send(self, name: str, argument: bytes) -> Refusal | None:
        try:
            self.session.send(name, {"text": argument.decode("utf-8", "surrogateescape")})
        except MessageNotAllowedError as error:
            return error.refusal
        return None

    # What always holds.

    def look(self) -> None:
        """The view is one of the table's; what is written is allowed; a deadline that was kept is over."""
        view = self.session.view
        assert (view.state is State.AGREED) == (view.version >= 1)
        assert view.version <= view.host
        assert (view.state, view.reason) in STAGES or view.reason is Reason.FLAPPING
        if not self.online:
            assert not self.session.heard
            assert self.session.data_to_send() == b""
        for line in self.session.data_to_send().splitlines():
            self.check_line(json.loads(line))
        check_ovirt_facts(self.session.take_facts())
        self.session.tick(self.now)
        assert self.session.deadline > self.now

    def check_line(self, message: dict[str, Any]) -> None:
        name, host = message["__name__"], self.session.view.host
        assert HOST_TO_GUEST[name].since <= host
        if name == "refresh":
            assert message == {"__name__": name, **({"apiVersion": host} if host else {})}
        elif name == "api-version":
            assert 1 <= message["apiVersion"] <= host
            self.told.append(self.now)
            while self.told[0] <= self.now - 60.0:
                self.told.popleft()
            assert len(self.told) <= 6

    def end(self) -> None:
        """Once it is calm the next good line is read, whatever came before it, and its offer is agreed on."""
        self.now += 130.0
        if not self.online:
            self.connect(b"")
        self.receive(b"\n" + GOOD + b"\n" + OFFER + b"\n")
        assert self.session.take_facts()["host-name"].raw == GOOD
        view = self.session.view
        assert (view.version, view.guest) == (min(3, view.host), 3)
        assert view.state is (State.AGREED if view.host else State.UNVERSIONED)


STEPS = {
    ord("b"): Walk.begin,
    ord("c"): Walk.connect,
    ord("d"): Walk.disconnect,
    ord("y"): Walk.stand_by,
    ord("p"): Walk.report_port,
    ord("x"): Walk.see_port,
    ord("m"): Walk.cap,
    ord("r"): Walk.renegotiate,
    ord("w"): Walk.wait,
    ord("s"): Walk.send,
}


def check(data: bytes) -> None:
    """The script, and then a calm minute."""
    walk = Walk()
    run_steps(walk, data, STEPS, Walk.receive, Walk.look)
    walk.end()
