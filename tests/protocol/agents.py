"""The original agents of each era and what a host comes to with them, for the tests that let both ends talk."""

from sidecar.protocol.ovirt_host import HostSession
from sidecar.protocol.states import ChannelView, Port, Reason, State
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


def new_host(maximum: int, port: Port, now: float) -> HostSession:
    return HostSession(maximum=maximum, responsive_s=120.0, absent_s=120.0, now=now, port=port)


def expected(agent: AgentModel, maximum: int) -> ChannelView[int]:
    """What the host should say once both ends are calm; its version is the agent's, too."""
    offer = agent.maximum if agent.habits.versioned else None
    if maximum == 0:
        return ChannelView(State.UNVERSIONED, 0, offer, 0, Reason.HOST_CAPPED)
    if offer is None:
        return ChannelView(State.UNVERSIONED, 0, None, maximum, Reason.NO_VERSION)
    return ChannelView(State.AGREED, min(offer, maximum), offer, maximum, None)
