"""One arrival is one arrival, in whatever order, how often and how late the notices of it come."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from enum import Enum
from typing import Any

import looptime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.engine.notices import Happening
from sidecar.engine.ports import Activity
from sidecar.record.agreement import Origin
from tests.engine.lone_host import LoneHost, came_along, settle
from tests.fakes.hypervisor import FakeDomain


class Told(Enum):
    """What can be told of a domain; the last field of a lifecycle notice is filled in for the way it came."""

    HOOK = "a hook ran"
    STARTED = Happening.STARTED
    RESUMED = Happening.RESUMED
    SUSPENDED = Happening.SUSPENDED
    STOPPED = Happening.STOPPED
    PORT = "the guest's end opened"
    RECORD = Happening.REDEFINED
    LIBVIRT = "libvirt was away for a moment"


ORIGINS = [Origin.START, Origin.MIGRATION, Origin.RESTORE, Origin.SNAPSHOT]
GAPS_S = st.sampled_from([0.0, 0.0, 0.001, 0.02, 0.3])
LOOK_S = st.sampled_from([0.0, 0.003, 0.05])

# Until the guest runs here, and from then on; RESUMED is what tells, but the other two suffice.
BEFORE = [Told.HOOK, Told.STARTED, Told.PORT, Told.LIBVIRT]
AFTER = [Told.HOOK, Told.STARTED, Told.RESUMED, Told.PORT, Told.RECORD, Told.LIBVIRT]
TELLING = {Told.HOOK, Told.STARTED, Told.RESUMED}


def notices(kinds: Sequence[Told]) -> st.SearchStrategy[list[tuple[float, Told]]]:
    return st.lists(st.tuples(GAPS_S, st.sampled_from(kinds)), max_size=7)


def is_telling(told: list[tuple[float, Told]]) -> bool:
    return any(kind in TELLING for _, kind in told)


Body = Callable[[LoneHost, FakeDomain], Coroutine[Any, Any, None]]


def play(body: Body, look_s: float, activity: Activity = Activity.INCOMING) -> FakeDomain:
    """Runs one example on a loop of its own; the domain as it is in the end."""

    async def run() -> FakeDomain:
        async with LoneHost().running() as host:
            host.hypervisor.delays_s["inspect_domain"] = look_s
            domain = host.add_domain(activity, record=came_along(4))
            await body(host, domain)
            await settle(10)
            return domain

    with asyncio.Runner(loop_factory=lambda: looptime.new_event_loop(end=1000)) as runner:
        return runner.run(run())


async def tell(host: LoneHost, domain: FakeDomain, origin: Origin, told: list[tuple[float, Told]]) -> None:
    for gap_s, kind in told:
        await asyncio.sleep(gap_s)
        match kind:
            case Told.HOOK:
                await host.hook(domain, "started")
            case Told.PORT:
                host.reporter(domain)(True)
            case Told.LIBVIRT:
                await host.connect()
            case Told.STARTED:
                host.event(domain, Happening.STARTED, origin)
            case Told.RESUMED:
                host.event(domain, Happening.RESUMED, Origin.MIGRATION if origin is Origin.MIGRATION else None)
            case _:
                host.event(domain, Happening(kind.value))


def count(domain: FakeDomain) -> tuple[str, int, str]:
    assert domain.live is not None
    return domain.live.arrival, domain.live.arrivals, domain.live.run


@given(origin=st.sampled_from(ORIGINS), before=notices(BEFORE), after=notices(AFTER).filter(is_telling), look_s=LOOK_S)
@settings(max_examples=120, deadline=None)
def test_arrival(
    origin: Origin, before: list[tuple[float, Told]], after: list[tuple[float, Told]], look_s: float
) -> None:
    # A domain of which the daemon hears first by listing it is attached to, and so it is if only that look sees it run.
    if not is_telling(before):
        before = [(0.0, Told.HOOK), *before]

    async def body(host: LoneHost, domain: FakeDomain) -> None:
        await tell(host, domain, origin, before)
        await settle(look_s + 0.01)
        assert host.hypervisor.attempts == []
        host.run_guest(domain, origin)
        await tell(host, domain, origin, after)

    domain = play(body, look_s)
    assert count(domain) == (origin, 5, domain.run)


@given(told=notices([Told.HOOK, Told.STARTED, Told.SUSPENDED, Told.PORT, Told.LIBVIRT]), look_s=LOOK_S)
@settings(max_examples=60, deadline=None)
def test_paused_start(told: list[tuple[float, Told]], look_s: float) -> None:
    async def body(host: LoneHost, domain: FakeDomain) -> None:
        await host.hook(domain, "started")
        await tell(host, domain, Origin.START, [*told, (0.0, Told.STARTED), *told])

    domain = play(body, look_s, Activity.PAUSED)
    assert count(domain) == (Origin.START, 5, domain.run)


@given(before=notices(BEFORE), after=notices([*AFTER, Told.STOPPED]), look_s=LOOK_S)
@settings(max_examples=80, deadline=None)
def test_cancelled_migration(before: list[tuple[float, Told]], after: list[tuple[float, Told]], look_s: float) -> None:
    async def body(host: LoneHost, domain: FakeDomain) -> None:
        await tell(host, domain, Origin.MIGRATION, before)
        host.end(domain)
        await tell(host, domain, Origin.MIGRATION, after)
        await settle(10)
        assert host.hypervisor.attempts == []
        assert domain.uuid not in host.engine._domains

    assert play(body, look_s).live == came_along(4)


@given(
    first=notices(AFTER),
    stopped=st.lists(st.tuples(GAPS_S, st.sampled_from([Told.HOOK, Told.STOPPED])), max_size=3),
    # Were libvirt away then, the listing would find the new process first: an attachment.
    second=notices([Told.HOOK, Told.RESUMED, Told.PORT, Told.RECORD]),
    look_s=LOOK_S,
)
@settings(max_examples=120, deadline=None)
def test_destroy_and_start(
    first: list[tuple[float, Told]],
    stopped: list[tuple[float, Told]],
    second: list[tuple[float, Told]],
    look_s: float,
) -> None:
    """The old process's end may be told while the new one runs already."""

    async def body(host: LoneHost, domain: FakeDomain) -> None:
        host.run_guest(domain, Origin.START)
        await tell(host, domain, Origin.START, [(0.0, Told.HOOK), *first])
        await settle(1)
        assert count(domain) == (Origin.START, 5, domain.run)
        host.renew_process(domain)
        await tell(host, domain, Origin.START, [*stopped, (0.0, Told.STOPPED), *second, (0.0, Told.STARTED)])

    domain = play(body, look_s)
    assert count(domain) == (Origin.START, 6, domain.run)


@pytest.mark.parametrize("origin", ORIGINS)
def test_libvirt_lists_it_before_anything_is_told(origin: Origin) -> None:
    async def body(host: LoneHost, domain: FakeDomain) -> None:
        host.run_guest(domain, origin)
        await tell(host, domain, origin, [(0.0, Told.LIBVIRT), (1.0, Told.STARTED), (0.0, Told.RESUMED)])

    domain = play(body, 0)
    assert count(domain) == (Origin.ATTACH, 5, domain.run)
