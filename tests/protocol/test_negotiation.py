"""Both ends against each other, case by case: the host's session and a model of each era's original agent.

What they come to, once nothing disturbs them any more: min(guest, host) at both ends, told by the host's view. Two
pairs have nothing to agree on: a host capped to 0 ends at 0 with any agent, and an agent before 1.0.9.1, which knows
no versions, stays at 0, `unversioned`, with any host.
"""

import pytest

from sidecar.protocol.states import ChannelView, Port, Reason, State
from tests.fakes.ovirt_agent import AgentModel, Era
from tests.protocol.agents import AGENTS, BEAT_S, NAMES, VERSIONED, VERSIONED_NAMES, expected, new_agent, new_host


class Arrival:
    """One agent on one host, whose bytes arrive at once."""

    def __init__(self, agent: AgentModel, maximum: int, now: float = 0.0) -> None:
        self.agent = agent
        self.now = now
        self.session = new_host(maximum, Port.OPEN, now)
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
