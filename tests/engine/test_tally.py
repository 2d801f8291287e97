"""What is counted while the engine works; a number that was counted stays, whatever becomes of its channel."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from sidecar.engine.notices import AgentNotice, Happening, LookNotice
from sidecar.engine.ports import Activity
from sidecar.engine.tally import ARRIVAL_BUCKETS_S, BadInputMeter, Histogram, Tally, WriteOutcome
from sidecar.errors import BadReplyError, DomainGoneError, HypervisorDownError, HypervisorError, RecordChangedError
from sidecar.protocol.bad_input import BadInputCode
from sidecar.protocol.releases import Release
from sidecar.protocol.states import Dialect
from sidecar.record.agreement import Agreement, ChannelRow, Origin
from tests.engine.lone_host import BETA, NEW, OLD, LoneHost, came_along, settle
from tests.engine.lone_qga import LoneQga
from tests.fakes.hypervisor import FakeDomain
from tests.fakes.ovirt_agent import AgentModel, Era
from tests.fakes.qga_agent import FakeQga

pytestmark = pytest.mark.looptime

QGA = "org.qemu.guest_agent.0"


def tally(host: LoneHost) -> Tally:
    return host.surroundings.tally


def timed(host: LoneHost, dialect: Dialect = Dialect.OVIRT) -> tuple[int, float]:
    """How many first agreements were timed, and how long they took together, to a tenth of a second."""
    histogram = tally(host).resume_to_agreed[dialect]
    return sum(histogram.counts), round(histogram.sum_s, 1)


def say_version(host: LoneHost, domain: FakeDomain, *versions: int) -> None:
    lines = (b'{"__name__": "heartbeat", "apiVersion": %d}\n' % version for version in versions)
    host.socket(domain).write(b"".join(lines))


def incoming(host: LoneHost, *channels: str) -> FakeDomain:
    domain = host.add_domain(record=came_along(), channels=channels or (NEW,))
    host.event(domain, Happening.STARTED, Origin.MIGRATION)
    return domain


def resume(host: LoneHost, domain: FakeDomain, origin: Origin | None = Origin.MIGRATION) -> None:
    host.run_guest(domain, origin)
    host.event(domain, Happening.RESUMED, origin)


@asynccontextmanager
async def arrived(*channels: str) -> AsyncIterator[tuple[LoneHost, FakeDomain]]:
    async with LoneHost().running() as host:
        domain = incoming(host, *channels)
        await settle(1)
        resume(host, domain)
        await settle(0.01)
        yield host, domain


def test_a_histogram_counts_what_is_on_a_bound_below_it() -> None:
    histogram = Histogram()
    for seconds in (0.0, 0.025, 0.026, 120.0, 120.1):
        histogram.observe(seconds)
    assert (histogram.counts[0], histogram.counts[1]) == (2, 1)
    assert histogram.counts[-2:] == [1, 1]
    assert len(histogram.counts) == len(ARRIVAL_BUCKETS_S) + 1
    assert histogram.sum_s == pytest.approx(240.151)


def test_two_sessions_of_one_dialect_add_up() -> None:
    counted = Tally()
    first, second = (BadInputMeter(counted, Dialect.OVIRT) for _ in range(2))
    first.follow({BadInputCode.BAD_VERSION: 2})
    first.follow({BadInputCode.BAD_VERSION: 5})
    second.follow({BadInputCode.BAD_VERSION: 1, BadInputCode.LINE_TOO_LONG: 1})
    assert counted.bad_input == {
        (Dialect.OVIRT, BadInputCode.BAD_VERSION): 6,
        (Dialect.OVIRT, BadInputCode.LINE_TOO_LONG): 1,
    }


class TestArrival:
    async def test_a_migration(self) -> None:
        async with LoneHost().running() as host:
            domain = incoming(host)
            guest = host.guest(domain, agent=AgentModel(Era.V1_0_16))
            guest.agent.heartbeat()
            guest.stand()
            await settle(30)  # a long migration is no time of the guest's here
            resume(host, domain)
            guest.arrive(host.socket(domain), host.reporter(domain), 0.3)
            await settle(100)
            assert tally(host).arrivals == {Origin.MIGRATION: 1}
            assert tally(host).negotiations == {Dialect.OVIRT: 1}
            assert timed(host) == (1, 0.3)
            assert timed(host, Dialect.QGA) == (0, 0)
            guest.silence()

    async def test_a_guest_that_is_heard_before_libvirt_tells(self) -> None:
        async with LoneHost().running() as host:
            domain = incoming(host)
            await settle(1)
            host.run_guest(domain, Origin.MIGRATION)
            say_version(host, domain, 4)
            await settle(0.05)
            assert timed(host) == (0, 0)
            host.event(domain, Happening.RESUMED, Origin.MIGRATION)
            await settle(1)
            assert timed(host) == (1, 0)
            assert tally(host).negotiations == {Dialect.OVIRT: 1}

    async def test_a_cancelled_migration_counts_nothing(self) -> None:
        async with LoneHost().running() as host:
            domain = incoming(host)
            await settle(20)
            host.end(domain)
            await settle(20)
            assert tally(host) == Tally(libvirt_connected=True, libvirt_connections=1)

    async def test_a_paused_start_is_timed_from_when_it_runs(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(Activity.PAUSED)
            host.event(domain, Happening.STARTED, Origin.START)
            await settle(600)
            assert tally(host).arrivals == {Origin.START: 1}
            resume(host, domain, None)
            await settle(0.2)
            say_version(host, domain, 3)
            await settle(1)
            assert timed(host) == (1, 0.2)

    async def test_a_guest_that_pauses_before_it_speaks(self) -> None:
        async with arrived() as (host, domain):
            await settle(1)
            host.event(domain, Happening.SUSPENDED)
            await settle(3)
            host.event(domain, Happening.RESUMED)
            await settle(1)
            say_version(host, domain, 4)
            await settle(1)
            assert timed(host) == (1, 5)

    async def test_one_that_ran_before_the_daemon_is_not_timed(self) -> None:
        host = LoneHost()
        domain = host.add_domain(Activity.RUNNING, opened=True)
        async with host.running():
            await settle(1)
            say_version(host, domain, 3)
            await settle(1)
            assert tally(host).arrivals == {Origin.ATTACH: 1}
            assert tally(host).negotiations == {Dialect.OVIRT: 1}
            assert timed(host) == (0, 0)

    async def test_one_that_the_daemon_before_us_counted_is_not_counted_again(self) -> None:
        host = LoneHost()
        domain = host.add_domain(Activity.RUNNING, opened=True)
        row = ChannelRow(NEW, "ovirt", "waiting", "0", None, "4", "2026-11-21T06:00:00.000Z", "not-heard")
        domain.live = Agreement("beta", BETA.uuid, domain.run, "start", 7, "2026-11-21T06:00:00.000Z", (row,))
        async with host.running():
            await settle(1)
            say_version(host, domain, 3)
            await settle(1)
            assert tally(host).arrivals == {}
            assert tally(host).negotiations == {Dialect.OVIRT: 1}
            assert timed(host) == (0, 0)

    async def test_a_channel_that_is_plugged_later_is_not_timed(self) -> None:
        async with arrived(NEW) as (host, domain):
            later = host.add_domain(channels=(OLD,)).channels
            host.dialer.sockets[later[0].path].pid = domain.pid
            domain.channels += (replace(later[0], alias="channel9"),)
            host.tell(LookNotice(domain.uuid))
            await settle(1000)
            guest = host.guest(domain, OLD)
            guest.open()
            await settle(10)
            assert host.verdict(domain, OLD) == ("agreed", "3", None)
            assert tally(host).negotiations == {Dialect.OVIRT: 1}
            assert timed(host) == (0, 0)
            guest.silence()

    async def test_each_channel_has_a_first_agreement_of_its_own(self) -> None:
        async with arrived(NEW, QGA) as (host, domain):
            domain.port.agent = FakeQga()
            host.tell(AgentNotice(domain.uuid, connected=True))
            await settle(2)
            say_version(host, domain, 4)
            await settle(10)
            assert timed(host) == (1, 2)
            assert timed(host, Dialect.QGA) == (1, 0)


class TestNegotiations:
    async def test_an_agent_that_restarts(self) -> None:
        async with arrived() as (host, domain):
            for count in range(1, 4):
                guest = host.guest(domain)
                guest.open()
                await settle(30)
                assert tally(host).negotiations == {Dialect.OVIRT: count}
                guest.close()
                await settle(1)
            assert timed(host)[0] == 1

    async def test_a_restart_that_only_the_heartbeat_tells(self) -> None:
        async with arrived() as (host, domain):
            for version in (4, 4, 0, 4, 4):
                say_version(host, domain, version)
                await settle(1)
            assert tally(host).negotiations == {Dialect.OVIRT: 2}

    async def test_a_restart_whose_first_words_come_at_once(self) -> None:
        async with arrived() as (host, domain):
            say_version(host, domain, 4, 0, 4, 4, 0, 3)
            await settle(1)
            assert tally(host).negotiations == {Dialect.OVIRT: 3}

    async def test_an_agent_whose_closing_was_swallowed(self) -> None:
        async with arrived() as (host, domain):
            for _ in range(2):
                host.reporter(domain)(True)
                say_version(host, domain, 4)
                await settle(2)
            assert tally(host).negotiations == {Dialect.OVIRT: 2}

    async def test_another_cap_is_another_agreement(self) -> None:
        async with arrived() as (host, domain):
            say_version(host, domain, 4)
            await settle(1)
            for maximum in (3, 3, 0, 4):
                host.engine.reconfigure(replace(host.surroundings.settings, ovirt_maximum=maximum))
                await settle(1)
            say_version(host, domain, 4)
            await settle(1)
            assert tally(host).negotiations == {Dialect.OVIRT: 3}

    async def test_a_guest_that_flaps_is_counted_as_often_as_it_is_answered(self) -> None:
        async with arrived() as (host, domain):
            for number in range(600):
                say_version(host, domain, 1 + number % 4)
                await settle(0.1)
            assert host.row(domain).reason == "flapping"
            assert tally(host).negotiations == {Dialect.OVIRT: 6}

    async def test_a_qemu_guest_agent(self) -> None:
        async with arrived(QGA) as (host, domain):
            for count in (1, 2):
                domain.port.agent = FakeQga()
                host.tell(AgentNotice(domain.uuid, connected=True))
                await settle(10)
                assert tally(host).negotiations == {Dialect.QGA: count}
                host.tell(AgentNotice(domain.uuid, connected=False))
                await settle(1)
            assert timed(host, Dialect.QGA)[0] == 1

    async def test_an_agent_that_is_asked_again_agrees_to_nothing_new(self) -> None:
        async with LoneQga().running() as lone:
            agent = lone.open()
            await settle(1)
            await lone.channel.send("guest-fsfreeze-freeze", {}, 5)
            await settle(30)
            await lone.channel.send("guest-fsfreeze-thaw", {}, 5)
            await settle(1)
            assert agent.asked > 3
            assert lone.channel.agreements == 1
            lone.surroundings.settings = replace(lone.surroundings.settings, qga_maximum=Release(6, 2))
            lone.channel.settings_changed()
            assert lone.channel.agreements == 2

    async def test_what_was_counted_stays_when_channel_and_domain_go(self) -> None:
        async with arrived() as (host, domain):
            say_version(host, domain, 4)
            await settle(1)
            counted = tally(host).negotiations.copy(), timed(host), tally(host).record_writes.copy()
            domain.channels = ()
            host.tell(LookNotice(domain.uuid))
            await settle(1)
            assert tally(host).record_writes[WriteOutcome.WRITTEN] == counted[2][WriteOutcome.WRITTEN] + 1
            host.end(domain)
            await settle(10)
            assert (tally(host).negotiations, timed(host)) == counted[:2]


class TestBadInput:
    async def test_of_every_guest_and_every_life_of_it(self) -> None:
        async with LoneHost().running() as host:
            for _ in range(2):
                domain = incoming(host)
                await settle(1)
                resume(host, domain)
                await settle(1)
                host.socket(domain).write(b"rubbish\n" * 100 + b'{"__name__": "made-up"}\n')
                say_version(host, domain, -1, 2**31)
                await settle(1)
                host.end(domain)
                await settle(1)
            assert tally(host).bad_input == {
                (Dialect.OVIRT, BadInputCode.BAD_MESSAGE): 200,
                (Dialect.OVIRT, BadInputCode.UNKNOWN_MESSAGE): 2,
                (Dialect.OVIRT, BadInputCode.BAD_VERSION): 4,
            }

    async def test_an_agent_that_answers_something_else(self) -> None:
        async with arrived(QGA) as (host, domain):
            agent = domain.port.agent = FakeQga(results={"guest-info": 5})
            host.tell(AgentNotice(domain.uuid, connected=True))
            await settle(20)
            assert agent.asked > 3
            assert tally(host).bad_input == {(Dialect.QGA, BadInputCode.BAD_MESSAGE): agent.asked}

    async def test_a_bad_reply_to_what_somebody_sends(self) -> None:
        async with LoneQga().running() as lone:
            agent = lone.open()
            await settle(1)
            agent.smuggled = ['{"return": {}, "id": "made-up"}']
            with pytest.raises(BadReplyError):
                await lone.channel.send("guest-get-host-name", {}, 5)
            await settle(1)
            assert lone.surroundings.tally.bad_input == {(Dialect.QGA, BadInputCode.BAD_MESSAGE): 1}


class TestRecord:
    async def test_retried_while_it_fails(self) -> None:
        async with LoneHost().running() as host:
            domain = incoming(host)
            await settle(1)
            host.hypervisor.fail("write_record", *[HypervisorError("no")] * 3)
            resume(host, domain)
            await settle(30)
            assert tally(host).record_writes == {"failed": 3, "written": 1}
            assert tally(host).record_retries == 3

    async def test_given_up_until_the_next_change(self) -> None:
        async with LoneHost().running() as host:
            domain = incoming(host)
            await settle(1)
            host.hypervisor.fail_always("write_record", HypervisorError("no"))
            resume(host, domain)
            await settle(60)
            assert tally(host).record_writes == {"failed": 8}
            assert tally(host).record_retries == 7

    @pytest.mark.parametrize(
        ("error", "writes"),
        [
            (RecordChangedError("they"), {"changed-by-others": 1}),
            (HypervisorDownError("away"), {"failed": 1}),
            (DomainGoneError("gone"), {}),
        ],
    )
    async def test_what_is_not_retried(self, error: HypervisorError, writes: dict[str, int]) -> None:
        async with LoneHost().running() as host:
            domain = incoming(host)
            await settle(1)
            host.hypervisor.fail("write_record", error)
            resume(host, domain)
            await settle(1)
            assert tally(host).record_writes == writes
            assert tally(host).record_retries == 0


async def test_connections_to_libvirt() -> None:
    async with LoneHost().running(connected=False) as host:
        assert (tally(host).libvirt_connected, tally(host).libvirt_connections) == (False, 0)
        for count in (1, 2):
            await host.connect()
            assert (tally(host).libvirt_connected, tally(host).libvirt_connections) == (True, count)
            host.engine.disconnected()
            assert (tally(host).libvirt_connected, tally(host).libvirt_connections) == (False, count)
