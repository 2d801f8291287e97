"""Every order of events that was measured on real hosts, from the first notice to what the record says."""

import asyncio

import pytest

from sidecar.engine.notices import Happening
from sidecar.engine.ports import Activity
from sidecar.record.agreement import Origin
from tests.engine.lone_host import BETA, NEW, LoneHost, came_along, now, settle
from tests.fakes.hypervisor import FakeDomain
from tests.fakes.ovirt_agent import AgentModel, Era

pytestmark = pytest.mark.looptime

FIRST_WRITE_S = 0.2


def arrival(domain: FakeDomain) -> tuple[str, int]:
    assert domain.live is not None
    assert (domain.live.host, domain.live.host_uuid, domain.live.run) == (BETA.hostname, BETA.uuid, domain.run)
    assert domain.live == domain.config
    return domain.live.arrival, domain.live.arrivals


async def resume(host: LoneHost, domain: FakeDomain, origin: Origin | None, told: Origin | None = None) -> None:
    """The guest runs now; the record must be fresh within the time that the contract allows."""
    before = domain.live
    host.run_guest(domain, origin)
    host.event(domain, Happening.RESUMED, told)
    await settle(FIRST_WRITE_S)
    assert domain.live != before


class TestStart:
    async def test_resumed_before_started(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain()
            await resume(host, domain, Origin.START)
            assert host.verdict(domain) == ("waiting", "0", "not-heard")
            host.event(domain, Happening.STARTED, Origin.START)
            guest = host.guest(domain)
            guest.open()
            await settle(1)
            assert arrival(domain) == ("start", 1)
            assert host.verdict(domain) == ("agreed", "3", None)
            assert guest.agent.version == 3
            guest.silence()

    async def test_hook_sees_qemu_before_its_guest_runs(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain()
            await host.hook(domain, "started")
            await settle()
            assert host.attached(domain)
            assert host.hypervisor.attempts == []
            await resume(host, domain, Origin.START)
            host.event(domain, Happening.STARTED, Origin.START)
            await settle(1)
            assert arrival(domain) == ("start", 1)

    async def test_no_state_is_older_than_the_arrival(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain()
            await host.hook(domain, "started")
            await settle(30)
            await resume(host, domain, Origin.START)
            assert domain.live is not None
            assert host.row(domain).since == domain.live.arrived

    async def test_resumed_is_waiting_when_the_hooks_look_ends(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain()
            host.hypervisor.delays_s["inspect_domain"] = 0.01
            mute = host.guest(domain)
            mute.stand()
            host.socket(domain).peer = mute
            await host.hook(domain, "started")
            await settle(0.005)
            host.run_guest(domain, Origin.START)
            host.event(domain, Happening.RESUMED)
            host.reporter(domain)(True)
            await settle(1)
            assert arrival(domain) == ("start", 1)
            await settle(121)
            # What was told during the look was not lost: an open end falls silent, a closed one would be absent.
            assert host.verdict(domain) == ("lost", "0", "agent-silent")

    async def test_paused_start_arrives_when_started(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(Activity.PAUSED)
            await host.hook(domain, "started")
            await settle(1)
            assert host.hypervisor.attempts == []
            host.event(domain, Happening.STARTED, Origin.START)
            host.event(domain, Happening.SUSPENDED)
            await settle(FIRST_WRITE_S)
            assert arrival(domain) == ("start", 1)
            await settle(500)
            assert host.verdict(domain) == ("waiting", "0", "not-heard")
            host.run_guest(domain, None)
            host.event(domain, Happening.RESUMED)
            await settle(119)
            assert host.verdict(domain)[0] == "waiting"
            await settle(2)
            assert host.verdict(domain) == ("absent", "0", "not-opened")
            assert arrival(domain) == ("start", 1)


class TestMigration:
    async def test_live(self) -> None:
        async with LoneHost(maximum=2).running() as host:
            domain = host.add_domain(record=came_along(7))
            domain.hold_job()
            guest = host.migrated_guest(domain)
            guest.stand()
            await host.hook(domain, "started")
            host.event(domain, Happening.STARTED, Origin.MIGRATION)
            await settle(0.35)
            assert host.attached(domain)
            assert host.hypervisor.attempts == []
            resumed = now()
            host.run_guest(domain, Origin.MIGRATION)
            domain.release_job()
            guest.arrive(host.socket(domain), host.reporter(domain), 0.1)
            host.event(domain, Happening.RESUMED, Origin.MIGRATION)
            await settle(0.05)
            assert host.hypervisor.attempts[0].at - resumed < FIRST_WRITE_S
            await settle(0.2)
            assert arrival(domain) == ("migration", 8)
            assert host.verdict(domain) == ("agreed", "2", None)
            assert guest.agent.version == 2
            guest.silence()

    async def test_an_original_agent_is_agreed_with_before_its_heartbeat(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(record=came_along(1, "3"))
            guest = host.guest(domain, agent=AgentModel(Era.V1_0_12))
            guest.agent.heartbeat()
            guest.agent.version = 2
            guest.stand()
            host.event(domain, Happening.STARTED, Origin.MIGRATION)
            await settle(0.3)
            guest.arrive(host.socket(domain), host.reporter(domain))
            await resume(host, domain, Origin.MIGRATION, Origin.MIGRATION)
            assert host.verdict(domain) == ("agreed", "3", "inferred")
            assert (host.row(domain).guest, guest.agent.version) == (None, 3)
            await settle(6)
            assert host.verdict(domain) == ("agreed", "3", None)
            assert guest.heard.count(b"api-version") == 2
            guest.silence()

    async def test_first_write_says_waiting_while_nothing_is_agreed(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(record=came_along())
            await host.hook(domain, "started")
            await settle(0.3)
            await resume(host, domain, Origin.MIGRATION, Origin.MIGRATION)
            assert host.verdict(domain) == ("waiting", "0", "not-heard")

    async def test_equal_version_is_told_again(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(record=came_along(1, "4"))
            guest = host.migrated_guest(domain, version=0)
            host.event(domain, Happening.STARTED, Origin.MIGRATION)
            await settle(0.3)
            guest.arrive(host.socket(domain), host.reporter(domain), 0.1)
            await resume(host, domain, Origin.MIGRATION, Origin.MIGRATION)
            assert guest.agent.version == 4
            assert guest.heard.count(b"api-version") == 1
            guest.silence()

    async def test_postcopy_writes_only_after_the_job(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(record=came_along())
            domain.hold_job()
            await host.hook(domain, "started")
            host.event(domain, Happening.STARTED, Origin.MIGRATION)
            await settle(0.3)
            host.run_guest(domain, Origin.MIGRATION)
            host.event(domain, Happening.RESUMED_POSTCOPY, Origin.MIGRATION)
            await settle(60)
            assert host.hypervisor.attempts == []
            domain.release_job()
            resumed = now()
            host.event(domain, Happening.RESUMED, Origin.MIGRATION)
            await settle(FIRST_WRITE_S)
            assert [write.at for write in host.hypervisor.writes] == [pytest.approx(resumed, abs=0.01)]
            assert arrival(domain) == ("migration", 2)

    async def test_cancelled_leaves_no_trace(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(record=came_along())
            domain.hold_job()
            await host.hook(domain, "started")
            host.event(domain, Happening.STARTED, Origin.MIGRATION)
            await settle(20)
            assert host.attached(domain)
            await host.hook(domain, "stopped")
            host.end(domain)
            await host.hook(domain, "release")
            await settle(20)
            assert not host.attached(domain)
            assert host.hypervisor.attempts == []
            assert domain.live == came_along()

    async def test_two_domains_at_once(self) -> None:
        async with LoneHost().running() as host:
            domains = [host.add_domain(record=came_along(n)) for n in (1, 5)]
            for domain in domains:
                await host.hook(domain, "started")
                host.event(domain, Happening.STARTED, Origin.MIGRATION)
            await settle(0.1)
            for domain in domains:
                await resume(host, domain, Origin.MIGRATION, Origin.MIGRATION)
            assert [arrival(domain) for domain in domains] == [("migration", 2), ("migration", 6)]


class TestRestore:
    async def test_running(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(record=came_along(2))
            await host.hook(domain, "restore")
            await host.hook(domain, "started")
            host.event(domain, Happening.STARTED, Origin.RESTORE)
            await settle(0.1)
            assert host.hypervisor.attempts == []
            # RESUMED says FROM_SNAPSHOT here, which the adapter gives no origin for.
            await resume(host, domain, Origin.RESTORE)
            assert arrival(domain) == ("restore", 3)

    async def test_paused_arrives_when_it_resumes(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(Activity.PAUSED, record=came_along(2))
            await host.hook(domain, "started")
            host.event(domain, Happening.STARTED, Origin.RESTORE)
            host.event(domain, Happening.SUSPENDED)
            await settle(300)
            assert host.hypervisor.attempts == []
            await resume(host, domain, None)
            assert arrival(domain) == ("restore", 3)

    async def test_snapshot_revert_rolls_the_count_back(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(Activity.RUNNING, origin=Origin.START)
            host.event(domain, Happening.STARTED, Origin.START)
            await settle(1)
            assert arrival(domain) == ("start", 1)
            await host.hook(domain, "stopped")
            host.event(domain, Happening.STOPPED)
            host.renew_process(domain)
            domain.live = domain.config = came_along(40)
            host.run_guest(domain, Origin.SNAPSHOT)
            host.event(domain, Happening.STARTED, Origin.SNAPSHOT)
            host.event(domain, Happening.RESUMED)
            await settle(1)
            assert arrival(domain) == ("snapshot", 41)

    async def test_broken_record_starts_anew(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(Activity.RUNNING, origin=Origin.RESTORE)
            domain.record_broken = True
            host.event(domain, Happening.STARTED, Origin.RESTORE)
            await settle(1)
            assert arrival(domain) == ("restore", 1)


class TestAttach:
    async def test_at_daemon_start(self) -> None:
        host = LoneHost()
        async with host.running(connected=False):
            running = host.add_domain(Activity.RUNNING, origin=Origin.MIGRATION, record=came_along(3))
            paused = host.add_domain(Activity.PAUSED)
            incoming = host.add_domain(record=came_along(9))
            await host.connect()
            await settle(1)
            assert arrival(running) == ("attach", 4)
            assert arrival(paused) == ("attach", 1)
            assert incoming.live == came_along(9)
            await resume(host, incoming, Origin.MIGRATION, Origin.MIGRATION)
            assert arrival(incoming) == ("migration", 10)

    async def test_daemon_restart_counts_and_writes_nothing(self) -> None:
        host = LoneHost()
        async with host.running():
            domain = host.add_domain()
            guest = host.guest(domain)
            await resume(host, domain, Origin.START)
            guest.open()
            await settle(3)
            assert host.verdict(domain) == ("agreed", "3", None)
        written, count = domain.live, len(host.hypervisor.attempts)
        restarted = LoneHost()
        restarted.hypervisor.domains = host.hypervisor.domains
        restarted.dialer.sockets = host.dialer.sockets
        restarted._count = host._count
        domain.channels = tuple(type(d)(d.name, d.alias, d.path, True) for d in domain.channels)
        guest.agent.prompt = False  # an original agent: its next heartbeat comes when it comes
        async with restarted.running():
            await settle(500)
            assert domain.live == written
            assert restarted.hypervisor.attempts == []
            assert len(host.hypervisor.attempts) == count
            assert restarted.attached(domain)
        guest.silence()

    async def test_daemon_restart_under_another_cap_agrees_anew(self) -> None:
        host = LoneHost(maximum=2)
        async with host.running(connected=False):
            domain = host.add_domain(Activity.RUNNING, opened=True)
            mine = came_along(6, "4")
            domain.live = domain.config = type(mine)(
                BETA.hostname, BETA.uuid, domain.run, "start", 6, mine.arrived, mine.channels
            )
            guest = host.migrated_guest(domain)
            guest.arrive(host.socket(domain), host.reporter(domain), 0.5)
            await host.connect()
            await settle(2)
            assert arrival(domain) == ("start", 6)
            assert host.verdict(domain) == ("agreed", "2", None)
            assert (guest.agent.version, host.row(domain).since > mine.arrived) == (2, True)
            guest.silence()


class TestLibvirtRestart:
    async def test_is_no_arrival_and_keeps_channels(self) -> None:
        async with LoneHost().running() as host:
            kept, vanished = (host.add_domain(Activity.RUNNING, origin=Origin.START) for _ in range(2))
            for domain in (kept, vanished):
                host.event(domain, Happening.STARTED, Origin.START)
            await settle(1)
            count = len(host.hypervisor.attempts)
            host.hypervisor.down = True
            await settle(10)
            del host.hypervisor.domains[vanished.uuid]
            found = host.add_domain(Activity.RUNNING, origin=Origin.START)
            host.hypervisor.down = False
            await host.connect()
            await settle(1)
            assert len(host.socket(kept).dials) == 1
            assert arrival(kept) == ("start", 1)
            assert not host.attached(vanished)
            assert arrival(found) == ("attach", 1)
            assert len(host.hypervisor.attempts) == count + 1

    async def test_a_write_that_met_no_libvirt_is_made_up_for(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(record=came_along())
            host.event(domain, Happening.STARTED, Origin.MIGRATION)
            await settle(0.1)
            host.hypervisor.down = True
            host.run_guest(domain, Origin.MIGRATION)
            host.event(domain, Happening.RESUMED, Origin.MIGRATION)
            await settle(100)
            assert len(host.hypervisor.attempts) < 3
            assert domain.live == came_along()
            host.hypervisor.down = False
            await host.connect()
            await settle(FIRST_WRITE_S)
            assert arrival(domain) == ("migration", 2)


async def test_same_process_seen_stopped_and_looked_at_again_is_one_arrival() -> None:
    async with LoneHost().running() as host:
        domain = host.add_domain(Activity.RUNNING, origin=Origin.START, record=came_along())
        for _ in range(3):
            host.event(domain, Happening.STARTED, Origin.START)
            await settle(1)
            host.event(domain, Happening.STOPPED)
            await asyncio.gather(*(host.hook(domain, "started") for _ in range(3)))
            await settle(1)
        assert arrival(domain) == ("start", 2)
        assert host.row(domain).name == NEW
