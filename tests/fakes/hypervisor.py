"""Libvirt as the engine sees it, in virtual time: domains, their records, jobs that hold them, failures on demand."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from sidecar.engine.notices import DomainNotice, RecordNotice
from sidecar.engine.ports import Activity, DomainSnapshot
from sidecar.errors import AgentDisconnectedError, DomainGoneError, HypervisorDownError, JobHeldError
from sidecar.record.agreement import Agreement, Origin
from sidecar.record.domain_xml import ChannelDevice
from sidecar.record.policy import Policy
from tests.fakes.qga_agent import FakeAgentPort

# libvirt's own bound on waiting for somebody else's job.
JOB_TIMEOUT_S = 30.0


@dataclass
class FakeDomain:
    """An active domain; a test changes it, and says so (or not) with notices of its own."""

    uuid: UUID
    name: str
    run: str
    pid: int
    activity: Activity
    origin: Origin | None = None
    channels: tuple[ChannelDevice, ...] = ()
    live: Agreement | None = None
    config: Agreement | None = None
    record_broken: bool = False
    policy: Policy | None = None
    policy_problem: str | None = None
    persistent: bool = True
    port: FakeAgentPort = field(default_factory=FakeAgentPort)
    free: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.free.set()

    def hold_job(self) -> None:
        self.free.clear()

    def release_job(self) -> None:
        self.free.set()


@dataclass(frozen=True)
class Write:
    """One call of `write_record`: when it began, and what it carried."""

    at: float
    uuid: UUID
    agreement: Agreement


class FakeHypervisor:
    """See `engine.ports.Hypervisor`.

    Attributes:
        domains: every active domain.
        calls: how often each operation was called, as (operation, uuid); uuid is None for those without.
        attempts: every write that was begun; `writes`: those that reached the domain.
        delays_s: how long an operation takes; what it answers is how things stood when it began.
        echo_after_s: how long after a write its event comes; None: before the call returns.
        most_in_flight: by domain, how many writes were under way at the same time at most.
    """

    def __init__(self, notify: Callable[[DomainNotice], None]) -> None:
        self.domains: dict[UUID, FakeDomain] = {}
        self.calls: Counter[tuple[str, UUID | None]] = Counter()
        self.attempts: list[Write] = []
        self.writes: list[Write] = []
        self.delays_s: dict[str, float] = {}
        self.echo_after_s: float | None = None
        self.down = False
        self.most_in_flight: Counter[UUID] = Counter()
        self._in_flight: Counter[UUID] = Counter()
        self._failures: dict[tuple[str, UUID | None], list[Exception | None]] = defaultdict(list)
        self._always: dict[tuple[str, UUID | None], Exception] = {}
        self._notify = notify

    def fail(self, operation: str, *outcomes: Exception | None, uuid: UUID | None = None) -> None:
        """The next calls end so, one after the other; `None` is success."""
        self._failures[operation, uuid] += outcomes

    def fail_always(self, operation: str, error: Exception | None, uuid: UUID | None = None) -> None:
        """Every call ends so, until told otherwise."""
        if error is None:
            self._always.pop((operation, uuid), None)
        else:
            self._always[operation, uuid] = error

    def edit_record(self, uuid: UUID, record: Agreement | None) -> None:
        """Somebody else changes or removes our element, live and in the configuration."""
        domain = self.domains[uuid]
        domain.live = domain.config = record
        self._notify(RecordNotice(uuid))

    def written(self, uuid: UUID) -> list[Agreement]:
        """What was written to one domain, in order."""
        return [write.agreement for write in self.writes if write.uuid == uuid]

    async def list_domains(self) -> list[tuple[UUID, str]]:
        listed = [(domain.uuid, domain.name) for domain in self.domains.values()]
        await self._take_time("list_domains", None)
        return listed

    async def find_domain(self, name: str) -> UUID | None:
        found = next((domain.uuid for domain in self.domains.values() if domain.name == name), None)
        await self._take_time("find_domain", None)
        return found

    async def inspect_domain(self, uuid: UUID) -> DomainSnapshot | None:
        snapshot = _snapshot(self.domains.get(uuid))
        await self._take_time("inspect_domain", uuid)
        return snapshot

    async def is_job_held(self, uuid: UUID) -> bool:
        await self._take_time("is_job_held", uuid)
        return not self._domain(uuid).free.is_set()

    async def is_record_intact(self, uuid: UUID, agreement: Agreement) -> bool:
        await self._take_time("is_record_intact", uuid)
        domain = self._domain(uuid)
        return domain.live == agreement and (not domain.persistent or domain.config == agreement)

    async def write_record(self, uuid: UUID, agreement: Agreement) -> None:
        write = Write(asyncio.get_running_loop().time(), uuid, agreement)
        self.attempts.append(write)
        self._in_flight[uuid] += 1
        self.most_in_flight[uuid] = max(self.most_in_flight[uuid], self._in_flight[uuid])
        try:
            await self._take_time("write_record", uuid)
            domain = self._domain(uuid)
            async with asyncio.timeout(JOB_TIMEOUT_S):
                await domain.free.wait()
        except TimeoutError as error:
            raise JobHeldError("cannot acquire state change lock") from error
        finally:
            self._in_flight[uuid] -= 1
        self.writes.append(write)
        domain.live = agreement
        if domain.persistent:
            domain.config = agreement
        if self.echo_after_s is None:
            self._notify(RecordNotice(uuid))
        else:
            asyncio.get_running_loop().call_later(self.echo_after_s, self._notify, RecordNotice(uuid))

    async def call_agent(
        self, uuid: UUID, request: str, answer_s: float, wait_s: float, *, wanted: Callable[[], bool], suspect: bool
    ) -> str:
        await self._take_time("call_agent", uuid)
        domain = self._domain(uuid)
        if not wanted():
            raise AgentDisconnectedError("not wanted any more")
        running = domain.activity is Activity.RUNNING
        return await domain.port.call(request, answer_s, wait_s, suspect, running)

    def _domain(self, uuid: UUID) -> FakeDomain:
        if uuid not in self.domains:
            raise DomainGoneError(f"no domain {uuid}")
        return self.domains[uuid]

    async def _take_time(self, operation: str, uuid: UUID | None) -> None:
        self.calls[operation, uuid] += 1
        await asyncio.sleep(self.delays_s.get(operation, 0))
        if self.down:
            raise HypervisorDownError("no connection")
        for key in ((operation, uuid), (operation, None)):
            if self._failures[key]:
                error = self._failures[key].pop(0)
                if error is not None:
                    raise error
                return
            if key in self._always:
                raise self._always[key]


def _snapshot(domain: FakeDomain | None) -> DomainSnapshot | None:
    if domain is None:
        return None
    return DomainSnapshot(
        uuid=domain.uuid,
        name=domain.name,
        activity=domain.activity,
        origin=domain.origin,
        run=domain.run,
        pid=domain.pid,
        channels=domain.channels,
        record=None if domain.record_broken else domain.live,
        record_present=domain.record_broken or domain.live is not None,
        policy=domain.policy,
        policy_problem=domain.policy_problem,
        shows_tools=domain.live is not None and domain.live.tools is not None,
    )
