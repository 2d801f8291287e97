import logging

import pytest

from sidecar.engine.domain import INBOX_LIMIT
from sidecar.engine.notices import Happening, LookNotice, PortNotice
from sidecar.engine.ports import Activity
from sidecar.errors import HypervisorError
from sidecar.record.agreement import Origin
from tests.engine.lone_host import LoneHost, came_along, settle

pytestmark = pytest.mark.looptime


class TestInbox:
    async def test_overflow_leads_to_one_more_look(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain()
            host.hypervisor.delays_s["inspect_domain"] = 1
            host.tell(LookNotice(domain.uuid))
            await settle(0.5)
            for _ in range(3 * INBOX_LIMIT):
                host.reporter(domain)(False)
            host.run_guest(domain, Origin.START)
            host.event(domain, Happening.RESUMED)  # this one is lost
            await settle(5)
            assert domain.live is not None
            assert host.hypervisor.calls["inspect_domain", domain.uuid] == 2

    async def test_looks_go_on_after_an_overflow(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain()
            host.hypervisor.delays_s["inspect_domain"] = 1
            host.tell(LookNotice(domain.uuid))
            await settle(0.5)
            for _ in range(3 * INBOX_LIMIT):
                host.reporter(domain)(False)
            host.tell(LookNotice(domain.uuid))  # so is this
            await settle(5)
            host.run_guest(domain, Origin.START)
            host.tell(LookNotice(domain.uuid))
            await settle(5)
            assert domain.live is not None

    async def test_stop_that_was_lost_in_an_overflow(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain()
            host.tell(LookNotice(domain.uuid))
            await settle(0.5)
            host.hypervisor.delays_s["inspect_domain"] = 1
            host.tell(LookNotice(domain.uuid))
            await settle(0.5)
            for _ in range(3 * INBOX_LIMIT):
                host.reporter(domain)(False)
            host.end(domain)
            await settle(5)
            assert not host.attached(domain)
            assert host.engine._domains == {}

    async def test_many_looks_are_one(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain()
            host.hypervisor.delays_s["inspect_domain"] = 1
            for _ in range(5000):
                host.tell(LookNotice(domain.uuid))
            await settle(0.5)
            for _ in range(5000):
                host.tell(LookNotice(domain.uuid))
            await settle(10)
            assert host.hypervisor.calls["inspect_domain", domain.uuid] == 2


class TestLook:
    async def test_what_is_told_meanwhile_finds_the_stay_at_work(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(Activity.RUNNING, origin=Origin.START)
            host.hypervisor.delays_s["inspect_domain"] = 0.01
            host.event(domain, Happening.STARTED, Origin.START)
            await settle(0.005)
            mute = host.guest(domain)
            mute.stand()
            host.socket(domain).peer = mute
            host.reporter(domain)(True)
            await settle(122)
            # Had the opening been lost, the channel would be absent.
            assert host.verdict(domain) == ("lost", "0", "agent-silent")

    async def test_failure_is_retried(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(Activity.RUNNING, origin=Origin.START)
            host.hypervisor.fail("inspect_domain", HypervisorError("no"), HypervisorError("no"))
            host.event(domain, Happening.STARTED, Origin.START)
            await settle(2)
            assert domain.live is not None

    async def test_longer_failure_is_made_up_for(self, caplog: pytest.LogCaptureFixture) -> None:
        async with LoneHost().running(connected=False) as host:
            domain = host.add_domain(Activity.RUNNING, origin=Origin.MIGRATION)
            host.hypervisor.fail("inspect_domain", *[HypervisorError("slow")] * 10)
            await host.connect()
            await settle(60)
            assert domain.live is not None
            assert domain.live.arrival == "attach"
            assert 0 < len([r for r in caplog.records if r.levelno >= logging.WARNING]) < 5

    async def test_failing_looks_do_not_shut_the_inbox(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(Activity.RUNNING, origin=Origin.START)
            host.event(domain, Happening.STARTED, Origin.START)
            await settle(1)
            host.hypervisor.fail_always("inspect_domain", HypervisorError("slow"))
            host.tell(LookNotice(domain.uuid))
            await settle(10)
            before = host.hypervisor.calls["inspect_domain", domain.uuid]
            await settle(60)
            assert host.hypervisor.calls["inspect_domain", domain.uuid] - before < 45
            host.event(domain, Happening.STOPPED)
            await settle(10)
            assert not host.attached(domain)
            host.hypervisor.fail_always("inspect_domain", None)

    async def test_chatty_port_cannot_put_the_look_off(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain()
            host.run_guest(domain, Origin.START)
            host.hypervisor.fail("inspect_domain", *[HypervisorError("slow")] * 4)
            host.tell(LookNotice(domain.uuid))
            for _ in range(15):
                host.reporter(domain)(False)
                await settle(1)
            assert domain.live is not None

    async def test_failure_keeps_the_stay(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(Activity.RUNNING, origin=Origin.START)
            host.event(domain, Happening.STARTED, Origin.START)
            await settle(1)
            host.hypervisor.fail("inspect_domain", *[HypervisorError("slow")] * 6)
            host.tell(LookNotice(domain.uuid))
            await settle(60)
            assert len(host.socket(domain).dials) == 1
            looks = host.hypervisor.calls["inspect_domain", domain.uuid]
            await settle(600)
            assert host.hypervisor.calls["inspect_domain", domain.uuid] == looks

    async def test_process_that_was_replaced_unseen(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(Activity.RUNNING, origin=Origin.START)
            host.event(domain, Happening.STARTED, Origin.START)
            await settle(1)
            old = host.socket(domain)
            host.renew_process(domain)
            host.tell(LookNotice(domain.uuid))
            await settle(1)
            assert old.clients == []
            assert host.attached(domain)
            assert domain.live is not None
            assert (domain.live.arrivals, domain.live.run) == (2, domain.run)

    async def test_renamed_domain_goes_by_its_new_name(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        async with LoneHost().running() as host:
            domain = host.add_domain(Activity.RUNNING, origin=Origin.START, name="--help\n")
            host.tell(LookNotice(domain.uuid))
            await settle(1)
            assert "'--help\\n': arrived (start), arrival 1" in caplog.messages


class TestStopped:
    async def test_nothing_is_written_any_more(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(Activity.RUNNING, origin=Origin.START, record=came_along())
            domain.hold_job()
            host.event(domain, Happening.STARTED, Origin.START)
            await settle(3)
            host.event(domain, Happening.STOPPED)
            domain.release_job()
            await settle(100)
            assert (host.hypervisor.attempts, domain.live) == ([], came_along())

    async def test_dies_while_we_write(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        async with LoneHost().running() as host:
            domain = host.add_domain(Activity.RUNNING, origin=Origin.START)
            host.hypervisor.delays_s["write_record"] = 1
            host.event(domain, Happening.STARTED, Origin.START)
            await settle(0.5)
            del host.hypervisor.domains[domain.uuid]
            await settle(2)
            host.event(domain, Happening.STOPPED)
            await settle(10)
            assert [r.message for r in caplog.records if "gone" in r.message] == [
                "'vm1': gone before its record was written"
            ]
            assert host.engine._domains == {}

    async def test_port_and_record_notices_of_an_unknown_domain_are_dropped(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(Activity.RUNNING)
            host.tell(PortNotice(domain.uuid, "channel0", opened=True))
            host.event(domain, Happening.REDEFINED)
            host.event(domain, Happening.STOPPED)
            await settle(1)
            assert host.engine._domains == {}
            assert host.hypervisor.calls["inspect_domain", domain.uuid] == 0


class TestRecordTouched:
    async def test_configuration_defined_anew_is_put_right(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(Activity.RUNNING, origin=Origin.START)
            host.event(domain, Happening.STARTED, Origin.START)
            await settle(1)
            domain.config = None
            host.event(domain, Happening.REDEFINED)
            await settle(61)
            assert domain.config == domain.live

    async def test_undefined_meanwhile(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(Activity.RUNNING, origin=Origin.START)
            host.event(domain, Happening.STARTED, Origin.START)
            await settle(1)
            domain.persistent, domain.config = False, None
            host.event(domain, Happening.REDEFINED)
            await settle(100)
            assert len(host.hypervisor.attempts) == 1

    async def test_transient(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(Activity.RUNNING, origin=Origin.START)
            domain.persistent = False
            host.event(domain, Happening.STARTED, Origin.START)
            await settle(100)
            assert domain.live is not None
            assert domain.config is None
            assert len(host.hypervisor.attempts) == 1


class TestPolicy:
    @staticmethod
    def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
        return [record.getMessage() for record in caplog.records if "bad-policy" in record.getMessage()]

    async def test_a_broken_one_is_told_once_however_often_we_look(self, caplog: pytest.LogCaptureFixture) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(Activity.RUNNING, origin=Origin.START, name="vm\u20ac")
            domain.policy_problem = "tools 'maybe': expected true or false"
            for _ in range(3):
                host.tell(LookNotice(domain.uuid))
                await settle(1)
            expected = "'vm\\u20ac': bad-policy: it refuses nothing: tools 'maybe': expected true or false"
            assert self.warnings(caplog) == [expected]
            assert domain.live is not None, "and hinders nobody"

    async def test_another_problem_is_told_and_the_same_one_after_it_was_mended(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(Activity.RUNNING, origin=Origin.START)
            for problem in (None, "one", "one", "two", None, "two"):
                domain.policy_problem = problem
                host.tell(LookNotice(domain.uuid))
                await settle(1)
            assert [line.rpartition(" ")[2] for line in self.warnings(caplog)] == ["one", "two", "two"]

    async def test_a_guest_that_comes_back_is_told_of_again(self, caplog: pytest.LogCaptureFixture) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(Activity.RUNNING, origin=Origin.MIGRATION)
            domain.policy_problem = "one"
            host.tell(LookNotice(domain.uuid))
            await settle(1)
            host.end(domain)
            await settle(1)
            host.renew_process(domain)
            host.hypervisor.domains[domain.uuid] = domain
            host.tell(LookNotice(domain.uuid))
            await settle(1)
            assert len(self.warnings(caplog)) == 2
