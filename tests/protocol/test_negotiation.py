"""Both ends against each other: the host's session and a model of each era's original agent.

What they come to, once nothing disturbs them any more: min(guest, host) at both ends, told by the host's view. Two
pairs have nothing to agree on: a host capped to 0 ends at 0 with any agent, and an agent before 1.0.9.1, which knows
no versions, stays at 0, `unversioned`, with any host.
"""

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

from sidecar.protocol.ovirt_host import ChannelView, HostSession, Port
from sidecar.protocol.states import Reason, State
from tests.fakes.ovirt_agent import HABITS, AgentModel, Era

BEAT_S = 5.0
# The original agents, and one of this project's: maximum 4, prompt.
AGENTS = [*((era, None) for era in Era), (Era.V1_0_16, 4)]
VERSIONED = [(era, maximum) for era, maximum in AGENTS if HABITS[era].versioned]
NAMES = [f"{era.value}{'-api4' if maximum else ''}" for era, maximum in AGENTS]
VERSIONED_NAMES = [name for name, (era, _) in zip(NAMES, AGENTS, strict=True) if HABITS[era].versioned]


def new_agent(era: Era, maximum: int | None, version: int = 0) -> AgentModel:
    """An agent that some earlier host left at this version (or at its maximum, when that is lower)."""
    agent = AgentModel(era, maximum, prompt=maximum is not None)
    agent.receive(b'{"__name__": "api-version", "apiVersion": %d}\n' % version)
    agent.log.clear()
    return agent


def new_session(maximum: int, port: Port, now: float) -> HostSession:
    return HostSession(maximum=maximum, responsive_s=120.0, absent_s=120.0, now=now, port=port)


def expected(agent: AgentModel, maximum: int) -> ChannelView:
    """What the host should say once both ends are calm; its version is the agent's, too."""
    offer = agent.maximum if agent.habits.versioned else None
    if maximum == 0:
        return ChannelView(State.UNVERSIONED, 0, offer, 0, Reason.HOST_CAPPED)
    if offer is None:
        return ChannelView(State.UNVERSIONED, 0, None, maximum, Reason.NO_VERSION)
    return ChannelView(State.AGREED, min(offer, maximum), offer, maximum, None)


class Arrival:
    """One agent on one host, whose bytes arrive at once."""

    def __init__(self, agent: AgentModel, maximum: int, now: float = 0.0) -> None:
        self.agent = agent
        self.now = now
        self.session = new_session(maximum, Port.OPEN, now)
        self.session.connect(now)
        agent.log.clear()
        self.exchange([])

    def exchange(self, lines: list[bytes]) -> None:
        """Carry to and fro until nobody has anything to say."""
        for _ in range(10):
            self.session.receive_data(b"".join(lines), self.now)
            data = self.session.data_to_send()
            if not data:
                return
            lines = self.agent.receive(data)
        pytest.fail("an endless exchange")

    def beat(self, times: int = 1) -> None:
        for _ in range(times):
            self.now += BEAT_S
            self.exchange(self.agent.heartbeat())

    def restart_agent(self, era: Era, maximum: int | None) -> None:
        """A fresh process, of which no port event tells."""
        self.agent = new_agent(era, maximum)
        self.exchange(self.agent.start())

    def told(self) -> list[object]:
        """The numbers of every `api-version` that this agent got."""
        return [command.arguments["apiVersion"] for command in self.agent.log if command.name == "api-version"]

    def refreshes(self) -> int:
        return sum(command.name == "refresh" for command in self.agent.log)


@pytest.mark.parametrize("version", range(5))
@pytest.mark.parametrize("maximum", range(5))
@pytest.mark.parametrize(("era", "newest"), AGENTS, ids=NAMES)
def test_both_ends_agree_after_two_heartbeats(era: Era, newest: int | None, maximum: int, version: int) -> None:
    arrival = Arrival(new_agent(era, newest, version), maximum)
    arrival.beat(2)
    assert arrival.session.view == expected(arrival.agent, maximum)
    assert arrival.agent.version == arrival.session.view.version
    said = len(arrival.agent.log)
    arrival.beat(10)
    assert len(arrival.agent.log) == said
    assert arrival.refreshes() == 1
    assert arrival.told() == ([arrival.agent.version] if arrival.agent.version else [])


def test_case_1_stale_high() -> None:
    agent = new_agent(Era.V1_0_16, None, 3)
    agent.heartbeat()  # not its first any more
    arrival = Arrival(agent, 1)
    arrival.beat(5)
    assert arrival.told() == [1]
    assert agent.version == 1


@pytest.mark.parametrize("era", [Era.V1_0_9_1, Era.V1_0_10, Era.V1_0_11])
def test_case_2_stale_low_from_an_agent_that_never_says_zero(era: Era) -> None:
    arrival = Arrival(new_agent(era, None), 3)
    arrival.beat(5)
    assert arrival.told() == [arrival.agent.maximum]
    assert arrival.agent.version == arrival.agent.maximum


@pytest.mark.parametrize(("era", "newest"), VERSIONED, ids=VERSIONED_NAMES)
def test_case_2_there_and_back_over_a_host_without_versions(era: Era, newest: int | None) -> None:
    agent = new_agent(era, newest)
    Arrival(agent, 4).beat(3)
    agent.receive(b'{"__name__": "refresh"}\n')
    assert agent.version == 0
    back = Arrival(agent, 4)
    back.beat(5)
    assert back.told() == [agent.maximum]
    assert agent.version == agent.maximum


@pytest.mark.parametrize("era", [Era.V1_0_12, Era.V1_0_13, Era.V1_0_16])
def test_case_3_an_agent_that_restarts_unnoticed_says_zero_first(era: Era) -> None:
    arrival = Arrival(new_agent(era, None), 4)
    arrival.beat(3)
    arrival.restart_agent(era, None)
    assert arrival.session.view.version == 3  # nobody can know yet
    arrival.beat()
    assert arrival.session.view == ChannelView(State.WAITING, 0, 0, 4, Reason.AGENT_RESTARTED)
    assert arrival.told() == []
    arrival.beat()
    assert arrival.told() == [3]
    assert (arrival.agent.version, arrival.session.view.version) == (3, 3)


@pytest.mark.parametrize(("era", "newest"), VERSIONED, ids=VERSIONED_NAMES)
def test_an_agent_that_restarts_with_port_events_is_told_again(era: Era, newest: int | None) -> None:
    arrival = Arrival(new_agent(era, newest), 4)
    arrival.beat(3)
    arrival.session.port_closed(arrival.now)
    arrival.session.port_opened(arrival.now)
    arrival.restart_agent(era, newest)
    arrival.beat(2)
    assert arrival.refreshes() == 1
    assert arrival.told() == [arrival.agent.maximum]
    assert arrival.session.view == expected(arrival.agent, 4)


def test_case_5_a_capped_host_drops_the_agent_to_zero_and_hears_it_still() -> None:
    arrival = Arrival(new_agent(Era.V1_0_16, None, 3), 0)
    assert arrival.agent.version == 0
    arrival.beat(5)
    assert arrival.agent.heartbeat() != []
    assert arrival.told() == []


def test_case_6_refresh_does_not_negotiate_and_does_not_loop() -> None:
    agent = new_agent(Era.V1_0_16, None, 3)
    arrival = Arrival(agent, 1)
    assert agent.version == 3
    arrival.exchange([b'{"__name__": "session-startup"}\n'] * 100)
    assert arrival.refreshes() == 1
    arrival.beat(2)
    assert agent.version == 1
    assert arrival.refreshes() == 1


def test_an_agent_of_api_4_agrees_on_its_answer_to_refresh() -> None:
    agent = new_agent(Era.V1_0_16, 4, 3)
    agent.heartbeat()
    arrival = Arrival(agent, 4)
    assert arrival.session.view == expected(agent, 4)
    assert agent.version == 4


def test_an_agent_that_was_upgraded_to_one_that_knows_versions() -> None:
    arrival = Arrival(new_agent(Era.V1_0_8, None), 4)
    arrival.beat(2)
    assert arrival.session.view.reason is Reason.NO_VERSION
    arrival.restart_agent(Era.V1_0_16, None)
    arrival.beat(2)
    assert (arrival.agent.version, arrival.session.view.version) == (3, 3)
    arrival.restart_agent(Era.V1_0_8, None)
    arrival.beat()
    assert arrival.session.view == expected(arrival.agent, 4)


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
        self.session = new_session(maximum, known, self.now)
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
