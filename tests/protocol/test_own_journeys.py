"""Our own two ends against each other on any way through hosts, with lines that get lost or come twice.

``test_journeys`` has the original agents. Here both ends are the project's; beside what they say, what is looked at is
each line on its way: nothing goes that the version in force at its sender lacks, no exchange is endless, and once
nothing disturbs them any more both ends are at the minimum.
"""

import json

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

from sidecar.errors import MessageNotAllowedError
from sidecar.protocol.ovirt_agent import UNTOLD_LAST_S, AgentSession
from sidecar.protocol.ovirt_host import HostSession
from sidecar.protocol.states import Port, State
from tests.fakes.ovirt_agent import FACTS
from tests.protocol.agent_sessions import BEAT_S
from tests.protocol.agents import new_host

# Written out again, for both directions.
SINCE = {
    "number-of-cpus": 1,
    "timezone": 2,
    "os-info": 2,
    "containers": 3,
    "completion": 3,
    "guest-tools": 4,
    "set-number-of-cpus": 1,
    "lifecycle-event": 3,
}


class Journey(RuleBasedStateMachine):
    """One guest on its way; both ends' clocks are the same, and stand in no rule but ``pass_time``."""

    session: HostSession | None

    @initialize()
    def boot(self) -> None:
        self.now = 0.0
        self.session = None
        self.host_told = True
        self.to_guest: list[bytes] = []
        self.to_host: list[bytes] = []
        self.start_agent()

    # The guest.

    def start_agent(self) -> None:
        self.agent = AgentSession(heartbeat_s=BEAT_S, now=self.now)
        for name, arguments in FACTS.items():
            self.agent.keep(name, arguments)

    @rule()
    def restart_agent(self) -> None:
        """The port closes and opens; what was on its way to the old process is lost."""
        self.to_guest.clear()
        self.start_agent()
        if self.session:
            self.session.port_closed(self.now)
            self.session.port_opened(self.now)
            self.agent.host_came(self.now)
        self.collect()

    @rule()
    def restart_agent_unseen(self) -> None:
        """As VDSM or a lost report has it: nothing tells but the zero of its first heartbeat."""
        self.to_guest.clear()
        self.start_agent()
        if self.session:
            self.agent.host_came(self.now)
        self.collect()

    @rule(name=st.sampled_from(["number-of-cpus", "guest-tools", "os-info", "fqdn"]))
    def report(self, name: str) -> None:
        self.agent.report(name)
        self.collect()

    @rule()
    def complete(self) -> None:
        self.agent.send("completion", {"reply_id": "r", "done": True})
        self.collect()

    # The way between.

    def collect(self) -> None:
        """Everybody says what they have to; each line is checked by the version at its sender, right now."""
        while piece := self.agent.data_to_send():
            for text in piece.splitlines(keepends=True):
                assert SINCE.get(json.loads(text)["__name__"], 0) <= self.agent.version
                self.to_host.append(text)
        if self.session is None:
            self.to_host.clear()
            return
        for text in self.session.data_to_send().splitlines(keepends=True):
            message = json.loads(text)
            assert SINCE.get(message["__name__"], 0) <= self.session.view.version
            if message["__name__"] == "api-version":
                assert 1 <= message["apiVersion"] <= self.session.view.host
            self.to_guest.append(text)

    @precondition(lambda self: self.to_guest)
    @rule()
    def deliver_to_guest(self) -> None:
        self.agent.receive_data(self.to_guest.pop(0), self.now)
        self.collect()

    @precondition(lambda self: self.to_host and self.session)
    @rule()
    def deliver_to_host(self) -> None:
        assert self.session
        self.session.receive_data(self.to_host.pop(0), self.now)
        self.collect()

    @precondition(lambda self: self.to_guest)
    @rule()
    def double_to_guest(self) -> None:
        self.to_guest.insert(0, self.to_guest[0])

    @precondition(lambda self: self.to_host)
    @rule(at=st.integers(0, 20))
    def double_to_host(self, at: int) -> None:
        at = min(at, len(self.to_host) - 1)
        self.to_host.insert(at, self.to_host[at])

    @precondition(lambda self: self.to_host)
    @rule(at=st.integers(0, 20))
    def lose_to_host(self, at: int) -> None:
        self.to_host.pop(min(at, len(self.to_host) - 1))

    @precondition(lambda self: self.to_guest and self.host_told)
    @rule()
    def lose_to_guest(self) -> None:
        """Not the news of another cap: no stream loses that and stays open, and nobody could know of it."""
        self.to_guest.pop(0)

    # The host.

    @rule(seconds=st.sampled_from([0.05, 5.0, 31.0, 61.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.agent.tick(self.now)
        if self.session:
            self.session.tick(self.now)
        self.collect()

    @rule(maximum=st.integers(0, 4), port=st.sampled_from([Port.HEARD, Port.UNKNOWN]))
    def arrive(self, maximum: int, port: Port) -> None:
        """The guest migrates to a host with a sidecar."""
        self.leave()
        self.session, self.host_told = new_host(maximum, port, self.now), True
        self.session.connect(self.now)
        self.agent.host_came(self.now)
        self.agent.tick(self.now)
        self.collect()

    @rule(version=st.integers(0, 3) | st.none(), refresh=st.sampled_from([b"", b"{}", b'{"apiVersion": 3}']))
    def arrive_elsewhere(self, version: int | None, refresh: bytes) -> None:
        """The guest migrates to a host with VDSM of some age, or with nothing at all."""
        self.leave()
        if not refresh:
            return
        self.agent.host_came(self.now)
        self.agent.receive_data(json.dumps({"__name__": "refresh", **json.loads(refresh)}).encode() + b"\n", self.now)
        if version is not None:
            self.agent.receive_data(b'{"__name__": "api-version", "apiVersion": %d}\n' % version, self.now)
        self.collect()

    def leave(self) -> None:
        self.session = None
        self.to_guest.clear()
        self.to_host.clear()
        self.agent.host_left(self.now)

    @precondition(lambda self: self.session)
    @rule(maximum=st.integers(0, 4))
    def change_cap(self, maximum: int) -> None:
        assert self.session
        self.session.set_maximum(maximum, self.now)
        self.host_told = False
        self.collect()

    @precondition(lambda self: self.session)
    @rule(name=st.sampled_from(["lifecycle-event", "set-number-of-cpus", "lock-screen"]))
    def send(self, name: str) -> None:
        assert self.session
        try:
            self.session.send(name, {})
        except MessageNotAllowedError:
            assert self.session.view.version < SINCE.get(name, 0) or not self.session.heard
        self.collect()

    # What always holds.

    @invariant()
    def in_range(self) -> None:
        assert 0 <= self.agent.version <= 4
        if self.session:
            assert self.session.view.version <= self.session.view.host

    def teardown(self) -> None:
        """Let it become calm: both ends come to the minimum, and stay there."""
        if not hasattr(self, "agent"):
            return
        if self.session is None:
            self.arrive(4, Port.HEARD)
        assert self.session
        # A flapping guest has to be calm for a minute; what was lost is noticed by the agent in its time.
        self.calm_down(60.0 + UNTOLD_LAST_S)
        wanted = self.session.view.host
        assert self.agent.version == self.session.view.version == wanted
        assert self.session.view.state is (State.AGREED if wanted else State.UNVERSIONED)
        self.to_guest_total = 0
        self.calm_down(UNTOLD_LAST_S)
        assert self.agent.version == self.session.view.version == wanted
        assert self.to_guest_total == 0

    def calm_down(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.pass_time(max(min(self.agent.deadline, end) - self.now, 0.0))
            for _ in range(10):
                self.exchange()
                if not self.to_guest and not self.to_host:
                    break
            else:
                pytest.fail("an endless exchange")

    def exchange(self) -> None:
        self.to_guest_total = getattr(self, "to_guest_total", 0) + len(self.to_guest)
        while self.to_guest:
            self.deliver_to_guest()
        while self.to_host:
            self.deliver_to_host()


def test_any_journey_ends_at_the_minimum() -> None:
    run_state_machine_as_test(Journey, settings=settings(max_examples=150, stateful_step_count=40, deadline=None))
