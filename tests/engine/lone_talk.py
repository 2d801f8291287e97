"""A lone host with one running domain whose two agents have agreed, to be spoken to."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sidecar.engine.notices import AgentNotice, Happening
from sidecar.engine.stay import Stay
from sidecar.errors import MessageNotAllowedError, Refusal
from sidecar.record.agreement import Origin
from tests.engine.lone_host import NEW, LoneHost, settle
from tests.fakes.channels import FakeGuest
from tests.fakes.hypervisor import FakeDomain
from tests.fakes.ovirt_agent import AgentModel, Era
from tests.fakes.qga_agent import FakeQga

QGA = "org.qemu.guest_agent.0"


class Talk:
    """A host with one running domain that has both channels, each agreed."""

    def __init__(self, host: LoneHost, domain: FakeDomain, guest: FakeGuest, agent: FakeQga) -> None:
        self.host, self.domain, self.guest, self.agent = host, domain, guest, agent

    def refusal(self, message: str, channel: str | None = None) -> Refusal | None:
        try:
            self.stay.choose_channel(message, channel)
        except MessageNotAllowedError as error:
            return error.refusal
        return None

    @property
    def stay(self) -> Stay:
        return self.host.engine.find(str(self.domain.uuid)).require_stay()

    def refused(self, message: str, channel: str | None = None) -> str:
        refusal = self.refusal(message, channel)
        assert refusal is not None
        return refusal.code

    async def send(
        self, message: str, timeout_s: float = 5.0, channel: str | None = None, **arguments: object
    ) -> object:
        return await self.stay.choose_channel(message, channel).send(message, arguments, timeout_s)

    def close_agent(self) -> None:
        self.domain.port.agent = None
        self.domain.port.left.set()
        self.host.tell(AgentNotice(self.domain.uuid, False))

    def heard(self, name: str) -> bool:
        return name.encode() in self.guest.heard


@asynccontextmanager
async def talking(agent: FakeQga | None = None, era: Era = Era.V1_0_16) -> AsyncIterator[Talk]:
    async with LoneHost().running() as host:
        domain = host.add_domain(channels=(NEW, QGA))
        host.run_guest(domain, Origin.START)
        host.event(domain, Happening.STARTED, Origin.START)
        await settle(0.1)
        guest = host.guest(domain, agent=AgentModel(era, prompt=True))
        guest.open()
        domain.port.agent = agent or FakeQga()
        host.tell(AgentNotice(domain.uuid, True))
        await settle(11)
        yield Talk(host, domain, guest, domain.port.agent)
        guest.silence()
