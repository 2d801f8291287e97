import asyncio
import itertools
import logging
import random
from collections.abc import Callable

import pytest

from sidecar.engine.host import RECOVERY_S
from sidecar.engine.notices import Happening, HookNotice, LookNotice
from sidecar.engine.ports import Activity
from sidecar.errors import HypervisorError
from sidecar.record.agreement import Origin
from tests.engine.lone_host import LoneHost, settle
from tests.fakes.channels import FakeSocket
from tests.fakes.hypervisor import FakeDomain

pytestmark = pytest.mark.looptime


def start(host: LoneHost, count: int = 1) -> list[FakeDomain]:
    domains = [host.add_domain(Activity.RUNNING, origin=Origin.START) for _ in range(count)]
    for domain in domains:
        host.event(domain, Happening.STARTED, Origin.START)
    return domains


class TestIsolation:
    @pytest.mark.parametrize("operation", ["inspect_domain", "is_job_held", "write_record"])
    async def test_fault_of_ours_in_one_domain(self, operation: str, caplog: pytest.LogCaptureFixture) -> None:
        async with LoneHost().running() as host:
            host.hypervisor.fail(operation, RuntimeError("our fault"), uuid=None)
            broken, *others = start(host, 3)
            await settle(1)
            assert all(other.live is not None for other in others)
            assert broken.live is None
            assert not host.attached(broken)
            await settle(RECOVERY_S)
            assert broken.live is not None
            assert broken.live.arrivals == 1
            assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == 1

    async def test_fault_that_stays(self) -> None:
        async with LoneHost().running() as host:
            broken, other = start(host, 2)
            host.hypervisor.fail_always("inspect_domain", RuntimeError("our fault"), uuid=broken.uuid)
            await settle(601)
            looks = host.hypervisor.calls["inspect_domain", broken.uuid]
            assert looks == pytest.approx(600 / RECOVERY_S, abs=2)
            assert host.attached(other)
            host.end(broken)
            host.hypervisor.fail_always("inspect_domain", None, uuid=broken.uuid)
            await settle(2 * RECOVERY_S)
            assert list(host.engine._domains) == [other.uuid]

    async def test_notice_during_the_recovery_is_taken(self) -> None:
        async with LoneHost().running() as host:
            host.hypervisor.fail("inspect_domain", RuntimeError("our fault"))
            (domain,) = start(host)
            await settle(1)
            host.event(domain, Happening.RESUMED)
            await settle(1)
            assert domain.live is not None
            await settle(20)
            assert len(host.socket(domain).dials) == 1

    @pytest.mark.parametrize("blocked", ["write_record", "inspect_domain", "is_job_held"])
    async def test_one_that_libvirt_holds_up_delays_no_other(self, blocked: str) -> None:
        async with LoneHost().running() as host:
            host.hypervisor.delays_s[blocked] = 1000
            (first,) = start(host)
            await settle(0.01)
            host.hypervisor.delays_s.clear()
            (second,) = start(host)
            await settle(0.2)
            assert first.live is None
            assert second.live is not None

    async def test_flapping_guest_leaves_the_others_their_writes(self) -> None:
        async with LoneHost().running() as host:
            flapping, calm = start(host, 2)
            guest = host.guest(calm)
            for version in itertools.islice(itertools.cycle([1, 2, 3]), 600):
                host.socket(flapping).write(b'{"__name__": "heartbeat", "apiVersion": %d}\n' % version)
                host.reporter(flapping)(version != 2)
                await settle(0.1)
            guest.open()
            opened = asyncio.get_running_loop().time()
            await settle(1)
            assert host.verdict(calm) == ("agreed", "3", None)
            assert host.row(flapping).reason == "flapping"
            writes = [write.at for write in host.hypervisor.writes if write.uuid == flapping.uuid]
            assert max(sum(start <= at < start + 60 for at in writes) for start in writes) <= 6
            assert max(write.at for write in host.hypervisor.writes if write.uuid == calm.uuid) - opened < 0.2
            guest.silence()


def rubbish(socket: FakeSocket) -> None:
    socket.write(random.Random(socket.path).randbytes(100_000))


def endless_line(socket: FakeSocket) -> None:
    socket.write(b"x" * 1_000_000)


def deep(socket: FakeSocket) -> None:
    socket.write(b"[" * 100_000 + b"\n")


def refresh_storm(socket: FakeSocket) -> None:
    socket.write(b'{"__name__": "session-startup"}\n' * 1000)


@pytest.mark.parametrize("attack", [rubbish, endless_line, deep, refresh_storm])
async def test_hostile_guest_changes_no_other_guests_timing(attack: Callable[[FakeSocket], None]) -> None:
    times: list[list[float]] = []
    for hostile in (False, True):
        async with LoneHost().running() as host:
            began = asyncio.get_running_loop().time()
            evil, calm = start(host, 2)
            guest = host.guest(calm)
            guest.open()
            for _ in range(30):
                if hostile:
                    attack(host.socket(evil))
                await settle(0.5)
            times.append([write.at - began for write in host.hypervisor.writes if write.uuid == calm.uuid])
            assert host.verdict(calm) == ("agreed", "3", None)
            assert sum(write.uuid == evil.uuid for write in host.hypervisor.writes) <= 6
            evil_says = sum(len(client.unread) for client in host.socket(evil).clients)
            assert evil_says < 1000  # nothing of it is answered without bound
            guest.silence()
    assert times[0] == pytest.approx(times[1], abs=0.01)


class TestHooks:
    async def test_before_libvirt_is_there_is_dropped(self) -> None:
        async with LoneHost().running(connected=False) as host:
            domain = host.add_domain(Activity.RUNNING)
            await host.hook(domain, "started")
            assert host.hypervisor.calls["find_domain", None] == 0
            await host.connect()
            await settle(1)
            assert domain.live is not None

    @pytest.mark.parametrize("operation", ["migrate", "started", "anything"])
    async def test_of_an_unknown_domain(self, operation: str) -> None:
        async with LoneHost().running() as host:
            await host.engine.receive_hook(HookNotice("$(id)\n--help", operation))
            await settle(1)
            assert host.engine._domains == {}

    async def test_libvirt_fails_to_find_it(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(Activity.RUNNING)
            host.hypervisor.fail("find_domain", HypervisorError("no"))
            await host.hook(domain, "started")
            await settle(1)
            assert host.engine._domains == {}

    async def test_of_a_defined_domain_that_does_not_run(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain()
            host.tell(LookNotice(domain.uuid))
            del host.hypervisor.domains[domain.uuid]
            host.tell(LookNotice(domain.uuid))
            await settle(1)
            assert host.engine._domains == {}


class TestLeaks:
    async def test_domains_leave_no_task_and_no_connection(self) -> None:
        async with LoneHost().running() as host:
            await settle(1)
            before = len(asyncio.all_tasks())
            for _ in range(5):
                domains = start(host, 20)
                guests = [host.guest(domain) for domain in domains]
                await settle(0.01)
                for guest in guests:
                    guest.open()
                await settle(7)
                assert host.dialer.open_connections == 20
                for domain, guest in zip(domains, guests, strict=True):
                    guest.silence()
                    host.end(domain)
                await settle(1)
                assert len(asyncio.all_tasks()) == before
                assert host.dialer.open_connections == 0
                assert host.engine._domains == {}

    @pytest.mark.parametrize("after_s", [0.0, 0.0005, 0.002, 0.01, 0.1, 1.0])
    async def test_stopping_the_daemon_at_any_moment(self, after_s: float) -> None:
        async with LoneHost().running() as host:
            host.hypervisor.delays_s = {"inspect_domain": 0.001, "write_record": 0.005, "is_job_held": 0.001}
            start(host, 5)
            await settle(after_s)

    async def test_thousands_of_hooks_at_once(self) -> None:
        async with LoneHost().running() as host:
            (domain,) = start(host)
            await settle(1)
            await asyncio.gather(*(host.hook(domain, "started") for _ in range(3000)))
            await settle(1)
            assert host.hypervisor.calls["inspect_domain", domain.uuid] < 10
            assert len(host.hypervisor.attempts) == 1


async def test_connected_that_fails_halfway_is_tried_again() -> None:
    async with LoneHost().running(connected=False) as host:
        domain = host.add_domain(Activity.RUNNING)
        host.hypervisor.fail("list_domains", HypervisorError("no"))
        with pytest.raises(HypervisorError):
            await host.connect()
        await host.hook(domain, "started")
        await host.connect()
        await settle(1)
        assert domain.live is not None
        assert domain.live.arrival == "attach"
