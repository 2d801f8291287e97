"""A daemon that starts beside guests whose record is its own: what stands there stays, unless something happened."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sidecar.engine.ports import Activity
from sidecar.record.agreement import Agreement, ChannelRow, Origin
from tests.engine.lone_host import BETA, NEW, LoneHost, settle
from tests.fakes.channels import Occupant
from tests.fakes.hypervisor import FakeDomain

pytestmark = pytest.mark.looptime

SINCE = "2026-11-21T06:00:00.000Z"


@asynccontextmanager
async def restarted(state: str, reason: str, opened: bool) -> AsyncIterator[tuple[LoneHost, FakeDomain]]:
    host = LoneHost()
    domain = host.add_domain(Activity.RUNNING, origin=Origin.START, opened=opened)
    row = ChannelRow(NEW, "ovirt", state, "0", "3" if state == "lost" else None, "4", SINCE, reason)
    domain.live = domain.config = Agreement("beta", BETA.uuid, domain.run, "start", 7, SINCE, (row,))
    async with host.running():
        yield host, domain


@pytest.mark.parametrize(("state", "reason"), [("lost", "port-closed"), ("absent", "not-opened")])
async def test_what_is_not_there_is_left_as_it_stands(state: str, reason: str) -> None:
    async with restarted(state, reason, opened=False) as (host, domain):
        await settle(3600)
        assert host.hypervisor.attempts == []
        assert host.row(domain).since == SINCE
        assert host.attached(domain)


@pytest.mark.parametrize(("state", "reason"), [("lost", "port-closed"), ("absent", "not-opened")])
async def test_what_comes_is_agreed(state: str, reason: str) -> None:
    async with restarted(state, reason, opened=False) as (host, domain):
        await settle(10)
        host.guest(domain).open()
        await settle(20)
        assert host.verdict(domain) == ("agreed", "3", None)
        assert domain.live is not None
        assert domain.live.arrivals == 7


async def test_agent_that_came_meanwhile_is_agreed() -> None:
    async with restarted("lost", "port-closed", opened=True) as (host, domain):
        host.guest(domain).open()
        await settle(20)
        assert host.verdict(domain) == ("agreed", "3", None)


async def test_channel_of_another_program_is_not_taken_while_that_restarts() -> None:
    async with restarted("waiting", "socket-busy", opened=True) as (host, domain):
        await settle(10)
        vdsm = Occupant(host.socket(domain))
        await settle(3600)
        assert vdsm.has_channel
        assert host.hypervisor.attempts == []
        host.guest(domain).open()
        vdsm.stop()
        await settle(700)
        assert host.attached(domain)
