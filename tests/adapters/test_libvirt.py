"""What of the libvirt adapter can be told without libvirtd; the rest is shown on real hosts in tests/lab."""

import asyncio
import threading
from typing import Any
from uuid import UUID

import libvirt
import pytest

from sidecar.adapters.libvirt import Libvirt, calls, connection
from sidecar.adapters.libvirt.calls import translated
from sidecar.adapters.libvirt.events import judge_state
from sidecar.adapters.libvirt.handle import Handle
from sidecar.engine.notices import DomainNotice, Happening, LifecycleNotice, LookNotice, PortNotice, RecordNotice
from sidecar.engine.ports import Activity, HostIdentity
from sidecar.errors import DomainGoneError, HypervisorDownError, HypervisorError, JobHeldError
from sidecar.record.agreement import NAMESPACE, Agreement, Origin
from sidecar.record.policy import NAMESPACE as POLICY_NAMESPACE

UUID_TEXT = "11111111-2222-3333-4444-555555555555"


class Domain:
    def UUIDString(self) -> str:  # noqa: N802 (libvirt's name)
        return UUID_TEXT

    def name(self) -> str:
        return "vm1"


class Heard:
    """An adapter that was never connected, and what it hands over."""

    def __init__(self) -> None:
        self.notices: list[DomainNotice] = []
        self.adapter: Any = Libvirt("test:///default", 5, ())
        self.adapter._notify = self.notices.append

    async def after(self, event: str, *arguments: object, number: int = 0) -> list[DomainNotice]:
        getattr(self.adapter, event)(None, Domain(), *arguments, number)
        await asyncio.sleep(0)
        return self.notices


@pytest.mark.parametrize(
    ("state", "reason", "expected"),
    [
        (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_BOOTED, (Activity.RUNNING, Origin.START)),
        (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_MIGRATED, (Activity.RUNNING, Origin.MIGRATION)),
        (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_POSTCOPY, (Activity.RUNNING, Origin.MIGRATION)),
        (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_RESTORED, (Activity.RUNNING, Origin.RESTORE)),
        (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_FROM_SNAPSHOT, (Activity.RUNNING, Origin.SNAPSHOT)),
        (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_UNPAUSED, (Activity.RUNNING, None)),
        (libvirt.VIR_DOMAIN_BLOCKED, 1, (Activity.RUNNING, None)),
        (libvirt.VIR_DOMAIN_SHUTDOWN, 1, (Activity.RUNNING, None)),
        (libvirt.VIR_DOMAIN_PMSUSPENDED, 1, (Activity.PAUSED, None)),
        (libvirt.VIR_DOMAIN_CRASHED, 1, (Activity.PAUSED, None)),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION, (Activity.INCOMING, None)),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP, (Activity.INCOMING, None)),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER, (Activity.PAUSED, None)),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_FROM_SNAPSHOT, (Activity.PAUSED, Origin.SNAPSHOT)),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY, (Activity.PAUSED, None)),
    ],
)
def test_state_and_reason(state: int, reason: int, expected: tuple[Activity, Origin | None]) -> None:
    assert judge_state(state, reason) == expected


@pytest.mark.parametrize(
    ("event", "detail", "happening", "origin"),
    [
        (libvirt.VIR_DOMAIN_EVENT_STARTED, 0, Happening.STARTED, Origin.START),
        (libvirt.VIR_DOMAIN_EVENT_STARTED, 1, Happening.STARTED, Origin.MIGRATION),
        (libvirt.VIR_DOMAIN_EVENT_STARTED, 2, Happening.STARTED, Origin.RESTORE),
        (libvirt.VIR_DOMAIN_EVENT_STARTED, 3, Happening.STARTED, Origin.SNAPSHOT),
        (libvirt.VIR_DOMAIN_EVENT_STARTED, 4, Happening.STARTED, None),
        (libvirt.VIR_DOMAIN_EVENT_RESUMED, 0, Happening.RESUMED, None),
        (libvirt.VIR_DOMAIN_EVENT_RESUMED, 1, Happening.RESUMED, Origin.MIGRATION),
        (libvirt.VIR_DOMAIN_EVENT_RESUMED, 2, Happening.RESUMED, None),
        (libvirt.VIR_DOMAIN_EVENT_RESUMED, 3, Happening.RESUMED_POSTCOPY, Origin.MIGRATION),
        (libvirt.VIR_DOMAIN_EVENT_SUSPENDED, 0, Happening.SUSPENDED, None),
        (libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED, 0, Happening.SUSPENDED, None),
        (libvirt.VIR_DOMAIN_EVENT_STOPPED, 3, Happening.STOPPED, None),
        (libvirt.VIR_DOMAIN_EVENT_CRASHED, 0, Happening.CRASHED, None),
        (libvirt.VIR_DOMAIN_EVENT_CRASHED, 1, Happening.CRASHED, None),
        (libvirt.VIR_DOMAIN_EVENT_DEFINED, 1, Happening.REDEFINED, None),
        (libvirt.VIR_DOMAIN_EVENT_UNDEFINED, 0, Happening.REDEFINED, None),
    ],
)
async def test_lifecycle_events(event: int, detail: int, happening: Happening, origin: Origin | None) -> None:
    heard = await Heard().after("_on_lifecycle", event, detail)
    assert heard == [LifecycleNotice(UUID(UUID_TEXT), "vm1", happening, origin)]


async def test_events_that_say_nothing_to_us() -> None:
    heard = Heard()
    await heard.after("_on_lifecycle", libvirt.VIR_DOMAIN_EVENT_SHUTDOWN, 0)
    await heard.after("_on_lifecycle", 99, 0)
    await heard.after("_on_metadata", 2, "urn:somebody:else")
    await heard.after("_on_port", "VSERPORT_CHANGE", 0, 0, "no JSON")
    await heard.after("_on_port", "VSERPORT_CHANGE", 0, 0, '{"open": true}')
    assert heard.notices == []


async def test_ports_and_records() -> None:
    heard = Heard()
    await heard.after("_on_port", "VSERPORT_CHANGE", 0, 0, '{"open":true,"id":"channel1"}')
    await heard.after("_on_metadata", 2, NAMESPACE)
    uuid = UUID(UUID_TEXT)
    assert heard.notices == [PortNotice(uuid, "channel1", opened=True), RecordNotice(uuid)]


async def test_a_policy_that_changed_is_looked_at() -> None:
    heard = Heard()
    assert await heard.after("_on_metadata", 2, POLICY_NAMESPACE) == [LookNotice(UUID(UUID_TEXT))]


async def test_events_of_an_old_connection_are_dropped() -> None:
    heard = Heard()
    heard.adapter._number = 7
    assert await heard.after("_on_metadata", 2, NAMESPACE, number=6) == []
    assert len(await heard.after("_on_metadata", 2, NAMESPACE, number=7)) == 1


async def test_calls_without_a_connection_say_so() -> None:
    adapter = Heard().adapter
    for call in (adapter.list_domains(), adapter.find_domain("vm1"), adapter.inspect_domain(UUID(UUID_TEXT))):
        with pytest.raises(HypervisorDownError):
            await call


CLOSED = -2


class Alive:
    def __init__(self, alive: int) -> None:
        self._alive = alive

    def isAlive(self) -> int:  # noqa: N802 (libvirt's name)
        if self._alive == CLOSED:
            raise libvirt.libvirtError("invalid connection pointer")
        return self._alive


@pytest.mark.parametrize(
    ("code", "alive", "kind"),
    [
        (libvirt.VIR_ERR_NO_DOMAIN, 1, DomainGoneError),
        (libvirt.VIR_ERR_OPERATION_TIMEOUT, 1, JobHeldError),
        (libvirt.VIR_ERR_INTERNAL_ERROR, 0, HypervisorDownError),
        (libvirt.VIR_ERR_INTERNAL_ERROR, -1, HypervisorDownError),
        (libvirt.VIR_ERR_INTERNAL_ERROR, CLOSED, HypervisorDownError),
        (libvirt.VIR_ERR_INTERNAL_ERROR, 1, HypervisorError),
    ],
)
def test_errors_aretranslated(code: int, alive: int, kind: type[HypervisorError]) -> None:
    error: Any = libvirt.libvirtError("it failed")
    error.err = (code, 0, "it failed", 2, None, None, None, 0, 0)
    with pytest.raises(HypervisorError) as caught, translated(Alive(alive)):
        raise error
    assert type(caught.value) is kind
    assert caught.value.__cause__ is error


class JobDomain(Domain):
    """A domain whose jobInfo and jobStats answer so."""

    def __init__(self, kind: int, operation: int | None = None, code: int | None = None) -> None:
        self._kind, self._operation, self._code = kind, operation, code

    def lookupByUUIDString(self, _uuid: str) -> "JobDomain":  # noqa: N802 (it is its own connection)
        return self

    def jobInfo(self) -> list[int]:  # noqa: N802
        if self._code is not None:
            error: Any = libvirt.libvirtError("no")
            error.err = (self._code, 0, "no", 2, None, None, None, 0, 0)
            raise error
        return [self._kind, 0]

    def jobStats(self) -> dict[str, int | None]:  # noqa: N802
        return {libvirt.VIR_DOMAIN_JOB_OPERATION: self._operation}


@pytest.mark.parametrize(
    ("domain", "held"),
    [
        (JobDomain(libvirt.VIR_DOMAIN_JOB_NONE), False),
        (JobDomain(libvirt.VIR_DOMAIN_JOB_UNBOUNDED, libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT), True),
        (JobDomain(libvirt.VIR_DOMAIN_JOB_UNBOUNDED, libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE), True),
        (JobDomain(libvirt.VIR_DOMAIN_JOB_UNBOUNDED, libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP), False),
        (JobDomain(0, code=libvirt.VIR_ERR_OPERATION_UNSUPPORTED), True),
        (JobDomain(0, code=libvirt.VIR_ERR_OPERATION_TIMEOUT), True),
    ],
)
def test_jobs_that_hold_a_domain(domain: JobDomain, held: bool) -> None:
    assert calls.is_job_held(domain, UUID(UUID_TEXT)) is held


async def test_plugged_devices_are_looked_at() -> None:
    assert await Heard().after("_on_device", "channel3") == [LookNotice(UUID(UUID_TEXT))]


async def test_a_write_waits_for_one_that_was_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    release, entered, begun = threading.Event(), asyncio.Event(), list[str]()
    loop = asyncio.get_running_loop()

    def write(_connection: object, uuid: UUID, agreement: Agreement) -> None:
        begun.append(agreement.run)
        loop.call_soon_threadsafe(entered.set)
        release.wait(10)

    monkeypatch.setattr(calls, "write_record", write)
    adapter: Any = Heard().adapter
    adapter._handle = Handle(Alive(1))  # type: ignore[arg-type]
    records = [Agreement("h", "u", run, "start", 1, "", ()) for run in ("old", "new")]
    first = asyncio.create_task(adapter.write_record(UUID(UUID_TEXT), records[0]))
    await asyncio.wait_for(entered.wait(), 10)
    first.cancel()
    second = asyncio.create_task(adapter.write_record(UUID(UUID_TEXT), records[1]))
    await asyncio.wait([first])
    assert begun == ["old"]
    release.set()
    await second
    assert begun == ["old", "new"]


@pytest.mark.parametrize(("alive", "closed"), [(0, True), (1, False)])
async def test_a_call_tells_of_a_connection_that_broke(
    monkeypatch: pytest.MonkeyPatch, alive: int, closed: bool
) -> None:
    def fail(_connection: object, name: str) -> None:
        raise libvirt.libvirtError(f"connection closed due to keepalive timeout: {name}")

    monkeypatch.setattr(calls, "find_domain", fail)
    adapter: Any = Heard().adapter
    adapter._handle = Handle(Alive(alive))  # type: ignore[arg-type]
    with pytest.raises(HypervisorError):
        await adapter.find_domain("vm1")
    await asyncio.sleep(0)
    assert adapter._closed.is_set() == closed, "libvirt's own word may come only when its last call returns"


async def test_a_call_over_a_connection_of_before_tells_nothing_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter: Any = Heard().adapter

    def fail(_connection: object, name: str) -> None:
        adapter._handle = Handle(Alive(1))  # type: ignore[arg-type]
        raise libvirt.libvirtError(f"client socket is closed: {name}")

    monkeypatch.setattr(calls, "find_domain", fail)
    adapter._handle = Handle(Alive(0))  # type: ignore[arg-type]
    with pytest.raises(HypervisorDownError):
        await adapter.find_domain("vm1")
    await asyncio.sleep(0)
    assert not adapter._closed.is_set()


class Registered:
    """A connection that notes what is done to it."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def registerCloseCallback(self, *_arguments: object) -> None:  # noqa: N802
        self.done.append("register close")

    def unregisterCloseCallback(self) -> None:  # noqa: N802
        raise libvirt.libvirtError("the connection is dead")

    def domainEventRegisterAny(self, *_arguments: object) -> int:  # noqa: N802
        return 5

    def domainEventDeregisterAny(self, number: int) -> None:  # noqa: N802
        self.done.append(f"deregister {number}")

    def close(self) -> None:
        self.done.append("close")


def test_a_connection_is_closed_when_its_last_call_has_returned() -> None:
    connection: Any = Registered()
    handle = Handle(connection)
    handle.register_close(print, 1)
    handle.register_event(0, print, 1)
    with handle.used():
        closing = threading.Thread(target=handle.close)
        closing.start()
        closing.join(0.2)
        assert closing.is_alive()
        assert connection.done == ["register close", "deregister 5"]
    closing.join(5)
    assert connection.done[-1] == "close"


async def test_each_connection_that_is_lost_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter, told, faults = Heard().adapter, asyncio.Queue[str](), [HypervisorError("no list of domains")]
    monkeypatch.setattr(connection, "RECONNECT_S", 0)

    async def open_anew() -> HostIdentity:
        adapter._closed.clear()
        return HostIdentity("h", "u")

    async def connected(_identity: HostIdentity) -> None:
        told.put_nowait("connected")
        if faults:
            raise faults.pop()

    async def hear(count: int) -> list[str]:
        async with asyncio.timeout(10):
            return [await told.get() for _ in range(count)]

    monkeypatch.setattr(adapter, "_open_until_done", open_anew)
    running = asyncio.create_task(adapter.run(connected, lambda: told.put_nowait("disconnected"), print))
    assert await hear(3) == ["connected", "disconnected", "connected"]
    told.put_nowait("it breaks")
    adapter._closed.set()
    assert await hear(3) == ["it breaks", "disconnected", "connected"]
    running.cancel()
    await asyncio.wait([running])
    assert told.empty()
