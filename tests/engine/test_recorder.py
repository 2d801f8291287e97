import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import UUID

import pytest

from sidecar.engine.notices import DomainNotice, RecordNotice
from sidecar.engine.ports import Activity
from sidecar.engine.recorder import Recorder
from sidecar.engine.tally import Tally
from sidecar.errors import DomainGoneError, HypervisorError, JobHeldError
from sidecar.protocol.tools import Source, ToolsVersion, Tristate
from sidecar.record.agreement import Agreement, ToolsRow
from tests.engine.lone_host import came_along, now, settle
from tests.fakes.hypervisor import FakeDomain, FakeHypervisor

pytestmark = pytest.mark.looptime

UUID_1 = UUID(int=1)
WANTED = came_along(2)


class Desk:
    """One recorder at work, and what it was told to write."""

    def __init__(self, recorded: Agreement | None = None) -> None:
        self.hypervisor = FakeHypervisor(self._notify)
        self.domain = FakeDomain(UUID_1, "vm1", "run", 1, Activity.RUNNING, live=recorded, config=recorded)
        self.hypervisor.domains[UUID_1] = self.domain
        self.reported: list[Agreement] = []
        self.recorder = Recorder(self.hypervisor, UUID_1, "'vm1'", recorded, self.reported.append, Tally())
        self.task = asyncio.create_task(self.recorder.run())

    def _notify(self, notice: DomainNotice) -> None:
        assert isinstance(notice, RecordNotice)
        self.recorder.record_touched()

    @property
    def times(self) -> list[float]:
        return [write.at for write in self.hypervisor.attempts]

    def asked(self, operation: str) -> int:
        return self.hypervisor.calls[operation, UUID_1]


@asynccontextmanager
async def desk(recorded: Agreement | None = None) -> AsyncIterator[Desk]:
    made = Desk(recorded)
    yield made
    made.task.cancel()
    await asyncio.wait([made.task])
    assert made.task.cancelled() or made.task.exception() is None


def numbered(number: int) -> Agreement:
    return replace(WANTED, arrivals=number)


class TestWriting:
    async def test_at_once_and_once(self) -> None:
        async with desk() as d:
            d.recorder.want(WANTED)
            d.recorder.want(WANTED)
            await settle(600)
            assert d.times == [pytest.approx(0, abs=0.01)]
            assert d.domain.live == d.domain.config == WANTED
            assert d.reported == [WANTED]

    @pytest.mark.parametrize("echo_after_s", [None, 0.0, 0.05])
    async def test_our_own_echo_is_nobodys_edit(self, echo_after_s: float | None) -> None:
        async with desk() as d:
            d.hypervisor.echo_after_s = echo_after_s
            for number in (2, 3, 4):
                d.recorder.want(numbered(number))
                await settle(1)
            await settle(600)
            assert (d.asked("is_record_intact"), len(d.times)) == (0, 3)

    async def test_what_stands_there_already_is_not_written(self) -> None:
        async with desk(WANTED) as d:
            d.recorder.want(WANTED)
            d.recorder.look_again(at_once=True)
            await settle(100)
            assert d.times == []

    async def test_changes_during_a_write_are_coalesced(self) -> None:
        async with desk() as d:
            d.hypervisor.delays_s["write_record"] = 1
            for number in range(2, 40):
                d.recorder.want(numbered(number))
                await settle(0.02)
            await settle(10)
            assert [agreement.arrivals for agreement in d.reported] == [2, 39]
            assert d.hypervisor.most_in_flight[UUID_1] == 1

    async def test_a_change_that_is_taken_back_in_time_costs_nothing(self) -> None:
        async with desk(WANTED) as d:
            d.domain.hold_job()
            d.recorder.want(numbered(9))
            await settle(1)
            d.recorder.want(WANTED)
            d.domain.release_job()
            await settle(100)
            assert d.times == []


class TestHeldJob:
    async def test_is_waited_for_with_backoff(self) -> None:
        async with desk() as d:
            d.domain.hold_job()
            d.recorder.want(WANTED)
            await settle(100)
            assert d.times == []
            assert 20 < d.asked("is_job_held") < 30
            d.domain.release_job()
            await settle(5.1)
            assert d.domain.live == WANTED

    async def test_first_waits_are_short(self) -> None:
        async with desk() as d:
            d.domain.hold_job()
            d.recorder.want(WANTED)
            await settle(0.2)
            d.domain.release_job()
            await settle(0.1)
            assert d.times == [pytest.approx(0.25, abs=0.01)]

    async def test_is_looked_at_again_at_the_next_event(self) -> None:
        async with desk() as d:
            d.domain.hold_job()
            d.recorder.want(WANTED)
            await settle(60)
            d.domain.release_job()
            released = now()
            d.recorder.look_again()
            await settle(6)
            assert d.times == [pytest.approx(released, abs=0.01)]

    async def test_the_jobs_tail_is_waited_for_in_the_call(self) -> None:
        async with desk() as d:
            d.domain.hold_job()
            d.recorder.want(WANTED, at_once=True)
            await settle(0.03)
            d.domain.release_job()
            await settle(0.01)
            assert (d.asked("is_job_held"), d.domain.live) == (0, WANTED)

    async def test_leave_to_write_at_once_does_not_outlive_its_moment(self) -> None:
        async with desk(WANTED) as d:
            d.recorder.want(WANTED)
            d.recorder.look_again(at_once=True)  # somebody resumed the guest, and there was nothing to write
            await settle(1)
            d.domain.hold_job()  # an hour later it migrates away
            d.recorder.want(numbered(3))
            await settle(20)
            assert d.times == []

    async def test_a_write_that_is_caught_is_not_repeated(self) -> None:
        async with desk() as d:
            d.domain.hold_job()
            d.recorder.want(WANTED, at_once=True)
            await settle(1)
            for number in range(3, 20):
                d.recorder.want(numbered(number))
                d.recorder.look_again()
                await settle(1)
            assert len(d.times) == 1
            await settle(60)  # libvirt gave up after 30 s: now the job is known
            assert (len(d.times), d.hypervisor.most_in_flight[UUID_1]) == (1, 1)
            d.domain.release_job()
            await settle(6)
            assert d.reported == [numbered(19)]


class TestFailure:
    async def test_is_retried_with_backoff_and_an_end(self) -> None:
        async with desk() as d:
            d.hypervisor.fail_always("write_record", HypervisorError("no"))
            d.recorder.want(WANTED)
            await settle(3600)
            gaps = [later - earlier for earlier, later in itertools.pairwise(d.times)]
            assert len(d.times) == 8
            assert gaps == sorted(gaps)
            assert gaps[0] == pytest.approx(0.25, abs=0.01)
            assert gaps[-1] == pytest.approx(5, abs=0.01)
            d.hypervisor.fail_always("write_record", None)
            d.recorder.want(numbered(5))
            await settle(1)
            assert d.domain.live == numbered(5)

    async def test_a_recovered_failure_writes_the_newest(self) -> None:
        async with desk() as d:
            d.hypervisor.fail("write_record", HypervisorError("no"), JobHeldError("held"))
            d.recorder.want(WANTED)
            await settle(0.1)
            d.recorder.want(numbered(4))
            await settle(3)
            assert d.reported == [numbered(4)]

    async def test_asking_for_the_job_may_fail_too(self) -> None:
        async with desk() as d:
            d.hypervisor.fail("is_job_held", HypervisorError("no"))
            d.recorder.want(WANTED)
            await settle(1)
            assert d.reported == [WANTED]

    @pytest.mark.parametrize("operation", ["is_job_held", "write_record"])
    async def test_domain_gone_is_one_line(self, operation: str, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        async with desk() as d:
            d.hypervisor.fail(operation, DomainGoneError("gone"))
            d.recorder.want(WANTED)
            await settle(1)
            d.recorder.want(numbered(3))
            d.recorder.record_touched()
            await settle(300)
            assert d.domain.live is None
            assert [record.levelname for record in caplog.records] == ["INFO"]

    async def test_libvirt_away_waits_for_its_return(self) -> None:
        async with desk() as d:
            d.hypervisor.down = True
            d.recorder.want(WANTED)
            await settle(3600)
            assert len(d.times) + d.asked("is_job_held") == 1
            d.hypervisor.down = False
            d.recorder.connection_renewed()
            await settle(0.1)
            assert d.reported == [WANTED]

    async def test_a_fault_of_ours_is_not_retried(self) -> None:
        d = Desk()
        d.hypervisor.fail("write_record", RuntimeError("our fault"))
        d.recorder.want(WANTED)
        await settle(60)
        assert isinstance(d.task.exception(), RuntimeError)

    @pytest.mark.parametrize("hold", [FakeDomain.hold_job, FakeDomain.release_job])
    async def test_cancelling_ends_every_wait(self, hold: Callable[[FakeDomain], None]) -> None:
        d = Desk()
        hold(d.domain)
        d.hypervisor.fail_always("write_record", HypervisorError("no"))
        d.recorder.want(WANTED)
        await settle(2)
        d.task.cancel()
        await asyncio.wait([d.task], timeout=0.1)
        assert d.task.cancelled()
        count = len(d.times)
        await settle(100)
        assert len(d.times) == count


class TestPace:
    async def test_six_writes_a_minute(self) -> None:
        async with desk() as d:
            for number in range(2, 3000):
                d.recorder.want(numbered(number))
                await settle(0.1)
            times = d.times
            assert max(sum(start <= t < start + 60 for t in times) for start in times) == 6
            assert len(times) > 20
            await settle(60)
            assert d.domain.live == numbered(2999)

    async def test_the_sixth_waits_to_tell_how_it_ended(self) -> None:
        async with desk() as d:
            for number in range(2, 12):
                d.recorder.want(numbered(number))
                await settle(0.1)
            await settle(30)
            assert [round(t, 1) for t in d.times] == [0, 0.1, 0.2, 0.3, 0.4, 10.4]
            assert d.domain.live == numbered(11)


def with_tools(minor: int, version: str = "4") -> Agreement:
    row = ToolsRow(Source.GUEST_TOOLS, ToolsVersion(1, minor), Tristate.TRUE, Tristate.UNKNOWN)
    return replace(came_along(2, version), tools=row)


class TestToolsPace:
    async def test_six_writes_a_minute(self) -> None:
        async with desk(WANTED) as d:
            for minor in range(3000):
                d.recorder.want(with_tools(minor))
                await settle(0.1)
            assert max(sum(start <= t < start + 60 for t in d.times) for start in d.times) == 6
            assert len(d.times) > 20
            await settle(60)
            assert d.domain.live == with_tools(2999)

    async def test_tools_that_go_and_come_count_too(self) -> None:
        async with desk(WANTED) as d:
            for minor in range(600):
                d.recorder.want(with_tools(4) if minor % 2 else WANTED)
                await settle(0.1)
            assert len(d.times) <= 12

    async def test_neither_holds_up_the_other(self) -> None:
        async with desk(with_tools(0)) as d:
            for minor in range(1, 100):
                d.recorder.want(with_tools(minor))
                await settle(0.1)
            count = len(d.times)
            d.recorder.want(with_tools(100, version="3"))  # a channel is agreed anew
            await settle(0.1)
            assert len(d.times) == count + 1
            assert d.domain.live == with_tools(100, version="3")

        async with desk(with_tools(0)) as d:
            for number in range(100):
                d.recorder.want(with_tools(0, version=str(number % 2)))
                await settle(0.1)
            count = len(d.times)
            d.recorder.want(with_tools(5, version="0"))
            await settle(0.1)
            assert len(d.times) == count + 1

    async def test_a_first_record_goes_at_once_whatever_is_in_it(self) -> None:
        async with desk() as d:
            d.recorder.want(with_tools(4))
            await settle(1)
            assert d.times == [pytest.approx(0, abs=0.01)]


class TestForeignEdit:
    @pytest.mark.parametrize("edit", [None, came_along(77)])
    async def test_is_put_back_once_after_a_minute(self, edit: Agreement | None) -> None:
        async with desk() as d:
            d.recorder.want(WANTED)
            await settle(5)
            d.hypervisor.edit_record(UUID_1, edit)
            await settle(59)
            assert d.domain.live == edit
            await settle(2)
            assert d.domain.live == d.domain.config == WANTED
            d.hypervisor.edit_record(UUID_1, edit)
            await settle(3600)
            assert (len(d.times), d.domain.live) == (2, edit)
            d.recorder.want(numbered(3))
            await settle(1)
            assert d.domain.live == numbered(3)
            d.hypervisor.edit_record(UUID_1, edit)
            await settle(61)
            assert d.domain.live == numbered(3)

    async def test_many_edits_cost_one_look(self) -> None:
        async with desk() as d:
            d.recorder.want(WANTED)
            await settle(5)
            for number in range(40):
                d.hypervisor.edit_record(UUID_1, numbered(100 + number))
                await settle(1)
            await settle(30)
            assert (d.asked("is_record_intact"), len(d.times)) == (1, 2)

    async def test_only_the_configuration_was_changed(self) -> None:
        async with desk() as d:
            d.recorder.want(WANTED)
            await settle(5)
            d.domain.config = None  # virsh define
            d.recorder.record_touched()
            await settle(61)
            assert d.domain.config == WANTED

    async def test_an_edit_that_ends_as_it_began_is_left_alone(self) -> None:
        async with desk() as d:
            d.recorder.want(WANTED)
            await settle(5)
            d.recorder.record_touched()
            await settle(120)
            assert len(d.times) == 1

    async def test_waits_for_a_held_job(self) -> None:
        async with desk() as d:
            d.recorder.want(WANTED)
            await settle(5)
            d.hypervisor.edit_record(UUID_1, None)
            d.domain.hold_job()
            await settle(90)
            assert len(d.times) == 1
            d.domain.release_job()
            await settle(6)
            assert d.domain.live == WANTED

    async def test_is_not_forgotten_while_libvirt_cannot_tell(self) -> None:
        async with desk() as d:
            d.recorder.want(WANTED)
            await settle(5)
            d.hypervisor.edit_record(UUID_1, None)
            d.hypervisor.fail("is_record_intact", HypervisorError("no"))
            await settle(130)
            assert d.domain.live == WANTED

    async def test_of_a_domain_without_our_record_is_not_ours(self) -> None:
        async with desk() as d:
            d.hypervisor.edit_record(UUID_1, came_along(5))
            await settle(300)
            assert (d.times, d.asked("is_record_intact")) == ([], 0)
