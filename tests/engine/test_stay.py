from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from sidecar.engine.notices import Happening, LookNotice
from sidecar.engine.ports import Activity
from sidecar.engine.settings import Settings
from sidecar.engine.stay import PHASES, Phase, Turn
from sidecar.record.agreement import Origin
from tests.engine.lone_host import BETA, NEW, OLD, LoneHost, came_along, settle
from tests.fakes.hypervisor import FakeDomain
from tests.fakes.ovirt_agent import AgentModel, Era

pytestmark = pytest.mark.looptime


@asynccontextmanager
async def started(host: LoneHost, *channels: str, opened: bool | None = False) -> AsyncIterator[FakeDomain]:
    async with host.running():
        domain = host.add_domain(Activity.RUNNING, origin=Origin.START, channels=channels, opened=opened)
        host.event(domain, Happening.STARTED, Origin.START)
        await settle(0.5)
        yield domain


def look(host: LoneHost, domain: FakeDomain) -> None:
    host.tell(LookNotice(domain.uuid))


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("turn", Turn)
async def test_every_cell_of_the_phases(phase: Phase, turn: Turn) -> None:
    expected = {
        Phase.EXPECTED: {Turn.RUNS: Phase.RUNNING, Turn.HERE_PAUSED: Phase.PAUSED},
        Phase.RUNNING: {Turn.STANDS: Phase.PAUSED, Turn.HERE_PAUSED: Phase.PAUSED},
        Phase.PAUSED: {Turn.RUNS: Phase.RUNNING},
    }
    assert PHASES.get((phase, turn)) == expected[phase].get(turn)


class TestBothOvirtChannels:
    @pytest.mark.parametrize(("speaks", "other"), [(NEW, OLD), (OLD, NEW)])
    async def test_keeps_the_one_that_speaks(self, speaks: str, other: str) -> None:
        host = LoneHost()
        async with started(host, NEW, OLD) as domain:
            assert host.socket(domain, speaks).clients
            assert host.socket(domain, other).clients
            guest = host.guest(domain, speaks)
            guest.open()
            await settle(6)
            assert host.verdict(domain, speaks) == ("agreed", "3", None)
            assert host.verdict(domain, other)[2] == "other-channel"
            assert not host.socket(domain, other).clients
            guest.silence()

    async def test_wakes_the_other_when_the_first_falls_silent(self) -> None:
        host = LoneHost()
        async with started(host, NEW, OLD) as domain:
            first, second = host.guest(domain, NEW), host.guest(domain, OLD)
            first.open()
            await settle(6)
            first.silence()
            await settle(121)
            assert host.verdict(domain, NEW) == ("lost", "0", "agent-silent")
            assert host.socket(domain, OLD).clients
            second.open()
            await settle(6)
            assert host.verdict(domain, OLD) == ("agreed", "3", None)
            second.silence()

    async def test_agent_that_moves_to_the_other_port(self) -> None:
        host = LoneHost()
        async with started(host, NEW, OLD) as domain:
            first, second = host.guest(domain, OLD), host.guest(domain, NEW)
            first.open()
            await settle(6)
            first.close()
            second.open()
            await settle(20)  # so much in so little time is paced
            assert host.verdict(domain, NEW) == ("agreed", "3", None)
            assert host.verdict(domain, OLD)[0] != "agreed"
            second.silence()

    async def test_an_open_end_is_kept_though_the_other_speaks(self) -> None:
        host = LoneHost()
        async with started(host, NEW, OLD) as domain:
            first, second = host.guest(domain, NEW), host.guest(domain, OLD)
            first.open()
            second.open()
            await settle(6)
            assert (host.verdict(domain, NEW)[0], host.verdict(domain, OLD)[0]) == ("agreed", "agreed")
            first.silence()
            second.silence()


class TestChannelsComeAndGo:
    async def test_plugged_on_a_later_look(self) -> None:
        host = LoneHost()
        async with started(host) as domain:
            assert domain.live is None  # no listed channel, and no record came along
            domain.channels = host.add_domain(channels=(NEW,)).channels
            host.socket(domain).pid = domain.pid
            look(host, domain)
            guest = host.guest(domain)
            await settle(0.1)
            guest.open()
            await settle(6)
            assert host.verdict(domain) == ("agreed", "3", None)
            guest.silence()

    async def test_unplugged_has_no_row(self) -> None:
        host = LoneHost()
        async with started(host, NEW, OLD) as domain:
            gone = host.socket(domain, OLD)
            domain.channels = domain.channels[:1]
            look(host, domain)
            await settle(1)
            assert domain.live is not None
            assert [row.name for row in domain.live.channels] == [NEW]
            assert gone.clients == []

    async def test_last_one_unplugged_leaves_no_stale_row(self) -> None:
        host = LoneHost()
        async with started(host, NEW) as domain:
            guest = host.guest(domain)
            guest.open()
            await settle(6)
            guest.silence()
            domain.channels = ()
            look(host, domain)
            await settle(10)
            assert domain.live is not None
            assert domain.live.channels == ()

    async def test_moved_socket_is_dialled_anew(self) -> None:
        host = LoneHost()
        async with started(host, NEW) as domain:
            first = host.socket(domain)
            moved = replace(domain.channels[0], path="/run/channels/moved")
            host.dialer.serve(moved.path, domain.pid)
            domain.channels = (moved,)
            look(host, domain)
            await settle(1)
            assert first.clients == []
            assert len(host.socket(domain).clients) == 1

    async def test_row_of_the_daemon_before_us_is_not_for_a_channel_plugged_later(self) -> None:
        async with LoneHost().running(connected=False) as host:
            domain = host.add_domain(Activity.RUNNING, opened=True)
            mine = replace(came_along(6, "3"), host=BETA.hostname, host_uuid=BETA.uuid, run=domain.run)
            domain.live = domain.config = mine
            await host.connect()
            await settle(1)
            assert host.row(domain).state == "agreed"
            moved = replace(domain.channels[0], path="/run/channels/moved")
            host.dialer.serve(moved.path, domain.pid)
            domain.channels = (moved,)
            look(host, domain)
            await settle(1)
            assert host.verdict(domain) == ("waiting", "0", "not-heard")

    async def test_what_a_look_says_of_the_port_again_changes_nothing(self) -> None:
        host = LoneHost()
        async with started(host, NEW) as domain:
            host.guest(domain).open()
            await settle(1)
            for _ in range(5):
                look(host, domain)
                await settle(0.1)
            assert len(host.socket(domain).dials) == 1
            host.socket(domain).peer.silence()  # type: ignore[union-attr]

    async def test_domain_without_listed_channel_gets_no_record(self) -> None:
        host = LoneHost()
        async with started(host) as domain:
            await settle(300)
            assert (domain.live, host.hypervisor.attempts) == (None, [])

    async def test_domain_without_listed_channel_keeps_the_record_that_came(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(Activity.RUNNING, origin=Origin.RESTORE, channels=(), record=came_along(3))
            host.event(domain, Happening.STARTED, Origin.RESTORE)
            await settle(1)
            assert domain.live is not None
            assert (domain.live.arrivals, domain.live.channels) == (4, ())


class TestRecordKeeping:
    async def test_pause_writes_nothing_and_counts_nothing(self) -> None:
        host = LoneHost()
        async with started(host, NEW) as domain:
            guest = host.guest(domain)
            guest.open()
            await settle(6)
            count = len(host.hypervisor.attempts)
            for _ in range(5):
                host.event(domain, Happening.SUSPENDED)
                guest.stand()
                await settle(1000)
                guest.go_on(1)
                host.event(domain, Happening.RESUMED)
                await settle(20)
            assert len(host.hypervisor.attempts) == count
            guest.silence()

    async def test_resumed_by_hand_during_a_migration_writes_nothing(self) -> None:
        host = LoneHost()
        async with started(host, NEW) as domain:
            guest = host.guest(domain)
            guest.open()
            await settle(6)
            count = len(host.hypervisor.attempts)
            domain.hold_job()
            host.event(domain, Happening.SUSPENDED)
            host.event(domain, Happening.RESUMED)
            guest.close()
            await settle(20)
            assert len(host.hypervisor.attempts) == count
            domain.release_job()
            await settle(6)
            assert host.verdict(domain)[0] == "lost"

    async def test_capped_to_zero(self) -> None:
        host = LoneHost(maximum=0)
        async with started(host, NEW) as domain:
            guest = host.guest(domain, agent=AgentModel(Era.V1_0_16))
            guest.open()
            await settle(12)
            row = host.row(domain)
            assert (row.state, row.version, row.host, row.reason) == ("unversioned", "0", "0", "host-capped")
            guest.silence()

    async def test_new_settings_reach_running_guests(self) -> None:
        host = LoneHost()
        async with started(host, NEW) as domain:
            guest = host.guest(domain)
            guest.open()
            await settle(6)
            host.engine.reconfigure(Settings(ovirt_maximum=2, responsive_s=120, absent_s=120))
            await settle(0.1)
            assert host.verdict(domain) == ("agreed", "2", None)
            assert guest.agent.version == 2
            guest.silence()
