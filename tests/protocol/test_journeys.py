"""Both ends against each other on any way through hosts: whatever lags and breaks, they come to agree."""

import json
from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sidecar.protocol.ovirt_host import HostSession
from sidecar.protocol.states import Port, State
from tests.fakes.ovirt_agent import AgentModel, Era
from tests.protocol.agents import AGENTS, BEAT_S, expected, new_agent, new_host


class Journey(RuleBasedStateMachine):
    """One guest on its way through hosts, with bytes, port reports and connections that lag and break.

    As in real life, what was sent goes to whoever reads the port next; a close between two openings may be merged
    away by QEMU, but never before the opening it follows was reported.
    """

    agent: AgentModel
    session: HostSession | None

    @initialize(kind=st.sampled_from(AGENTS), version=st.integers(0, 4), opened=st.booleans())
    def boot(self, kind: tuple[Era, int | None], version: int, opened: bool) -> None:
        self.kind = kind
        self.agent = new_agent(*kind, version)
        self.opened = opened
        self.now = 0.0
        self.session = None
        self.online = False
        self.to_guest = self.to_host = b""
        self.reports: list[bool] = []
        self.reported: bool | None = None
        self.told: deque[float] = deque()

    # The guest.

    @precondition(lambda self: self.opened)
    @rule(beats=st.integers(1, 3))
    def beat(self, beats: int) -> None:
        for _ in range(beats):
            self.write_to_host(self.agent.heartbeat())

    @precondition(lambda self: not self.opened)
    @rule(restart=st.booleans())
    def open_port(self, restart: bool) -> None:
        self.opened = True
        self.reports.append(True)
        if restart:
            self.agent = new_agent(*self.kind)
            self.write_to_host(self.agent.start())

    @precondition(lambda self: self.opened)
    @rule(pulled=st.integers(0, 3))
    def close_port(self, pulled: int) -> None:
        """`pulled` lines were in the guest's memory already, and nobody will read them."""
        self.opened = False
        self.reports.append(False)
        self.to_guest = b"".join(self.to_guest.splitlines(keepends=True)[pulled:])

    def write_to_host(self, lines: list[bytes]) -> None:
        self.to_host += b"".join(lines)
        if self.agent.follow_up_s is not None:
            self.agent.follow_up_s = None
            self.to_host += b"".join(self.agent.heartbeat())

    # The way between.

    @precondition(lambda self: self.opened)
    @rule(size=st.integers(1, 300))
    def deliver_to_guest(self, size: int) -> None:
        data, self.to_guest = self.to_guest[:size], self.to_guest[size:]
        self.write_to_host(self.agent.receive(data))

    @precondition(lambda self: self.online)
    @rule(size=st.integers(1, 3000))
    def deliver_to_host(self, size: int) -> None:
        data, self.to_host = self.to_host[:size], self.to_host[size:]
        if self.session and data:
            if self.reported is False:
                self.reported = None
            self.session.receive_data(data, self.now)
            self.write_to_guest()

    @precondition(lambda self: self.session and self.reports)
    @rule()
    def deliver_report(self) -> None:
        assert self.session
        self.reported = self.reports.pop(0)
        if self.reported:
            self.session.port_opened(self.now)
        else:
            self.session.port_closed(self.now)
        self.write_to_guest()

    @precondition(lambda self: self.session)
    @rule()
    def read_xml(self) -> None:
        """The host looks at the live XML; the reports of what it shows may still follow."""
        assert self.session
        self.session.port_seen(self.opened, self.now)
        self.reported = None
        self.write_to_guest()

    @precondition(lambda self: self.reported is not None and len(self.reports) > 1)
    @rule()
    def merge_reports(self) -> None:
        del self.reports[:-1]

    def write_to_guest(self) -> None:
        assert self.session
        data = self.session.data_to_send()
        assert self.online or not data
        for line in data.splitlines():
            message = json.loads(line)
            if message["__name__"] == "api-version":
                assert 1 <= message["apiVersion"] <= min(self.session.view.host, self.agent.maximum)
                self.told.append(self.now)
        self.to_guest += data

    # The host.

    @rule(seconds=st.sampled_from([0.1, 5.0, 61.0, 130.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        if self.session:
            self.session.tick(self.now)
            assert self.session.deadline > self.now

    @precondition(lambda self: self.online)
    @rule(kept=st.integers(0, 500))
    def cut(self, kept: int) -> None:
        """The connection is gone, with everything on its way to the guest; of the guest's words the last may follow."""
        assert self.session
        self.online = False
        self.session.disconnect(self.now)
        self.drop_bytes(kept)

    def drop_bytes(self, kept: int) -> None:
        rest_of_a_line, _, _ = self.to_guest.partition(b"\n")
        if self.opened and self.agent._buffer:
            self.write_to_host(self.agent.receive(rest_of_a_line + b"\n"))
        self.to_guest = b""
        self.to_host = self.to_host[len(self.to_host) - kept :] if kept < len(self.to_host) else self.to_host

    @precondition(lambda self: self.session and not self.online)
    @rule()
    def dial(self) -> None:
        assert self.session
        self.online = True
        self.session.connect(self.now)
        self.write_to_guest()

    @precondition(lambda self: self.session)
    @rule(maximum=st.integers(0, 4))
    def change_cap(self, maximum: int) -> None:
        assert self.session
        self.session.set_maximum(maximum, self.now)
        self.write_to_guest()

    @rule(maximum=st.integers(0, 4), reads_port=st.booleans())
    def arrive(self, maximum: int, reads_port: bool) -> None:
        """The guest migrates to a host with a sidecar."""
        self.leave()
        known = (Port.HEARD if self.opened else Port.CLOSED) if reads_port else Port.UNKNOWN
        self.session = new_host(maximum, known, self.now)
        self.told.clear()
        self.reported = False if known is Port.CLOSED else None
        self.dial()

    @rule(version=st.integers(0, 3) | st.none(), refresh=st.sampled_from([b"", b"{}", b'{"apiVersion": 3}']))
    def arrive_elsewhere(self, version: int | None, refresh: bytes) -> None:
        """The guest migrates to a host with VDSM of some age, or with nothing at all."""
        self.leave()
        if self.opened and refresh:
            self.agent.receive(json.dumps({"__name__": "refresh", **json.loads(refresh)}).encode() + b"\n")
        if self.opened and version:
            self.agent.receive(b'{"__name__": "api-version", "apiVersion": %d}\n' % version)

    def leave(self) -> None:
        self.session, self.online = None, False
        self.drop_bytes(0)
        self.to_host = b""
        self.reports.clear()
        self.reported = None

    # What always holds.

    @invariant()
    def host_says_what_it_knows(self) -> None:
        if self.session:
            view = self.session.view
            assert (view.state is State.AGREED) == (view.version > 0)
            assert view.version <= min(view.host, self.agent.maximum)
            assert self.session.data_to_send() == b""

    @invariant()
    def agent_is_never_mute(self) -> None:
        assert self.agent.version >= 0

    @invariant()
    def no_storm(self) -> None:
        while self.told and self.told[0] <= self.now - 60.0:
            self.told.popleft()
        assert len(self.told) <= 6

    def teardown(self) -> None:
        """Let it become calm: both ends come to what they have in common, and stay there."""
        if not hasattr(self, "agent"):
            return
        if self.session is None:
            self.arrive(4, reads_port=True)
        if not self.online:
            self.dial()
        if not self.opened:
            self.open_port(restart=True)
        self.exchange()
        self.pass_time(61.0)
        self.calm_down(beats=3)
        assert self.session
        wanted = expected(self.agent, self.session.view.host)
        assert self.agent.version == self.session.view.version == wanted.version
        assert self.session.view.state is wanted.state
        self.calm_down(beats=15)
        assert self.agent.version == wanted.version
        assert self.session.view == wanted
        said = len(self.agent.log)
        self.calm_down(beats=5)
        assert len(self.agent.log) == said

    def exchange(self) -> None:
        for _ in range(20):
            while self.reports:
                self.deliver_report()
            self.deliver_to_guest(1 << 20)
            self.deliver_to_host(1 << 20)
            if not self.to_guest and not self.to_host:
                return
        pytest.fail("an endless exchange")

    def calm_down(self, beats: int) -> None:
        for _ in range(beats):
            self.pass_time(BEAT_S)
            self.beat(1)
            self.exchange()


def test_any_journey_ends_in_agreement() -> None:
    run_state_machine_as_test(Journey, settings=settings(max_examples=150, stateful_step_count=40, deadline=None))
