"""A version inferred before the first heartbeat: from the record that came along and what the agent sends, together.

Each era's original agent, left by an earlier host at any version, meets a host that knows what it offered last. Until
its heartbeat only its answer to `refresh` can tell anything.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.protocol.ovirt_host import HostSession
from sidecar.protocol.states import ChannelView, Port, Reason, State
from tests.fakes.ovirt_agent import AgentModel, Era
from tests.protocol.agents import AGENTS, expected, new_agent
from tests.protocol.host_sessions import REFRESH, WAITING, api_version, heartbeat, sent, state_of

TIMEZONE = b'{"__name__": "timezone", "zone": "UTC", "offset": 0}\n'
OS_INFO = b'{"__name__": "os-info", "type": "linux"}\n'
CONTAINERS = b'{"__name__": "containers", "list": []}\n'
NO_EVIDENCE = b'{"__name__": "host-name", "name": "g"}\n{"__name__": "number-of-cpus", "count": 1}\n'


def arrived(hint: int | None, maximum: int = 4, port: Port = Port.OPEN) -> HostSession:
    """A session of an arrival whose `refresh` was written."""
    session = HostSession(maximum=maximum, responsive_s=120.0, absent_s=120.0, now=0.0, port=port, hint=hint)
    session.connect(0.0)
    sent(session)
    return session


def inferred(version: int, maximum: int = 4) -> ChannelView[int]:
    return ChannelView(State.AGREED, version, None, maximum, Reason.INFERRED)


@pytest.mark.parametrize(
    ("evidence", "hint", "maximum", "version"),
    [
        (TIMEZONE, 2, 4, 2),
        (OS_INFO, 2, 4, 2),
        (TIMEZONE, 3, 4, 3),  # an earlier host knew 2, the agent knows 3
        (CONTAINERS, 3, 4, 3),
        (CONTAINERS, 3, 2, 2),
        (CONTAINERS, 3, 1, 1),
        (CONTAINERS + TIMEZONE + OS_INFO, 3, 3, 3),
    ],
)
def test_hint_and_evidence(evidence: bytes, hint: int, maximum: int, version: int) -> None:
    session = arrived(hint, maximum)
    session.receive_data(evidence, 0.1)
    assert session.view == inferred(version, maximum)
    assert sent(session) == [api_version(version)]
    assert session.heard
    assert session.refuse("lock-screen") is None


@pytest.mark.parametrize(
    ("evidence", "hint", "maximum"),
    [
        (NO_EVIDENCE, 3, 4),  # a hint alone
        (CONTAINERS, None, 4),  # evidence alone
        (CONTAINERS, 0, 4),
        (CONTAINERS, 2, 4),  # the hint is of another agent
        (TIMEZONE, 1, 4),
        (b'{"__name__": "containers"\n', 3, 4),  # no message
        (CONTAINERS, 3, 0),  # no versions here
        (CONTAINERS, 4, 4),  # an agent that answers with a heartbeat
    ],
)
def test_nothing_is_inferred_from_less(evidence: bytes, hint: int | None, maximum: int) -> None:
    session = arrived(hint, maximum)
    session.receive_data(evidence, 0.1)
    assert state_of(session) == (State.WAITING, Reason.NOT_HEARD)
    assert sent(session) == []


@pytest.mark.parametrize("offer", [1, 2, 3, 9])
def test_the_heartbeat_is_answered_once_and_confirms_or_corrects(offer: int) -> None:
    session = arrived(hint=3)
    session.receive_data(CONTAINERS, 0.1)
    sent(session)
    for now in (5.0, 10.0, 15.0):
        session.receive_data(heartbeat(offer), now)
    assert session.view == ChannelView(State.AGREED, min(offer, 4), offer, 4, None)
    assert sent(session) == [api_version(min(offer, 4))]
    assert session.agreements == (1 if offer == 3 else 2)


@pytest.mark.parametrize(("said", "state"), [(None, State.UNVERSIONED), (0, State.WAITING)])
def test_a_heartbeat_without_an_offer_takes_it_back(said: int | None, state: State) -> None:
    session = arrived(hint=3)
    session.receive_data(CONTAINERS + TIMEZONE, 0.1)
    session.receive_data(heartbeat(said), 5.0)
    assert (session.view.state, session.view.version) == (state, 0)


def test_a_heartbeat_in_the_same_piece_is_worth_more() -> None:
    session = arrived(hint=3)
    session.receive_data(CONTAINERS + heartbeat(3), 0.1)
    assert session.view == ChannelView(State.AGREED, 3, 3, 4, None)
    assert sent(session) == [api_version(3)]


def test_at_most_once_an_arrival() -> None:
    session = arrived(hint=3)
    session.receive_data(CONTAINERS, 0.1)
    assert sent(session) == [api_version(3)]
    session.disconnect(1.0)
    session.connect(2.0)
    session.receive_data(CONTAINERS, 2.1)
    assert session.view == WAITING
    assert sent(session) == [REFRESH]


def test_what_the_guest_offered_here_is_newer_than_the_record() -> None:
    session = arrived(hint=3)
    session.receive_data(heartbeat(2), 0.1)
    session.disconnect(1.0)
    session.connect(2.0)
    sent(session)
    session.receive_data(CONTAINERS, 2.1)
    assert session.view == WAITING
    assert sent(session) == []


def test_a_lone_zero_is_a_restart_and_older_evidence_is_of_the_process_before_it() -> None:
    session = arrived(hint=3)
    session.receive_data(heartbeat(0), 0.1)
    session.receive_data(CONTAINERS, 0.2)
    assert state_of(session) == (State.WAITING, Reason.AGENT_RESTARTED)


@pytest.mark.parametrize("maximum", [0, 1, 3])
def test_a_new_cap_waits_for_the_heartbeat(maximum: int) -> None:
    session = arrived(hint=3)
    session.receive_data(CONTAINERS, 0.1)
    sent(session)
    session.set_maximum(maximum, 1.0)
    assert session.view == ChannelView(State.WAITING, 0, None, maximum, Reason.NOT_HEARD)
    session.receive_data(heartbeat(3), 5.0)
    assert session.view.version == min(3, maximum)


def test_silence_ends_it() -> None:
    session = arrived(hint=3)
    session.receive_data(CONTAINERS, 0.1)
    assert session.deadline == 120.0
    session.tick(120.0)
    assert state_of(session) == (State.LOST, Reason.AGENT_SILENT)


class Meeting:
    """A guest whose agent an earlier host left at some version, and a host that it has come to; no heartbeat yet."""

    def __init__(self, agent: AgentModel, maximum: int, hint: int | None) -> None:
        self.agent = agent
        self.session = HostSession(
            maximum=maximum, responsive_s=120.0, absent_s=120.0, now=0.0, port=Port.OPEN, hint=hint
        )
        self.session.connect(0.0)
        self.exchange([], 0.0)

    def exchange(self, lines: list[bytes], now: float) -> None:
        self.session.receive_data(b"".join(lines), now)
        while data := self.session.data_to_send():
            self.session.receive_data(b"".join(self.agent.receive(data)), now)

    def told(self) -> list[object]:
        return [command.arguments["apiVersion"] for command in self.agent.log if command.name == "api-version"]


@pytest.mark.parametrize("maximum", range(5))
@pytest.mark.parametrize("left_at", range(5))
@pytest.mark.parametrize("era", Era, ids=lambda era: era.value)
def test_what_an_honest_record_leads_to(era: Era, left_at: int, maximum: int) -> None:
    agent = new_agent(era, None, left_at)
    offer = agent.maximum if agent.habits.versioned else None
    in_force = agent.version
    meeting = Meeting(agent, maximum, offer)
    view, told = meeting.session.view, meeting.told()
    if view.state is State.AGREED:
        assert view.version == agent.version == min(agent.maximum, maximum)
        assert told == [view.version]
    else:
        assert told == []
        assert in_force < 2 or maximum == 0
    for beat in (1, 2):
        meeting.exchange(agent.heartbeat(), 5.0 * beat)
    assert meeting.session.view == expected(agent, maximum)
    assert agent.version == expected(agent, maximum).version


@given(st.sampled_from(AGENTS), st.integers(0, 4), st.integers(0, 4), st.none() | st.integers(0, 2**31 - 1))
def test_no_record_however_wrong_outlives_two_heartbeats(
    era: tuple[Era, int | None], left_at: int, maximum: int, hint: int | None
) -> None:
    agent = new_agent(*era, left_at)
    meeting = Meeting(agent, maximum, hint)
    assert agent.habits.versioned or meeting.told() == []
    assert len(meeting.told()) <= 1
    for beat in (1, 2):
        meeting.exchange(agent.heartbeat(), 5.0 * beat)
    assert meeting.session.view == expected(agent, maximum)
    assert agent.version == expected(agent, maximum).version
