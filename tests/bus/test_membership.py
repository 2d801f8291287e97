"""Daemons' memberships with their real processes and a real broker: what one host's callers hear of the others."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sidecar.api.events import EventType
from sidecar.api.views import HostView
from sidecar.config import parse_configuration
from sidecar.engine.bridge import Bridge
from sidecar.engine.operations import Operations
from sidecar.membership import Membership
from tests.bus.conftest import BusVhost
from tests.engine.lone_bridge import OFFER, ROOT, ask, examine, refused
from tests.engine.lone_host import LoneHost

pytestmark = pytest.mark.thorough

# A process imports for a second or two, and all of them at once on a busy machine for longer.
PATIENCE_S = 60.0

# What a question may take beyond its own time: the link's margin, and some.
MARGIN_S = 4.0

# Nothing listens there.
NOWHERE = "rabbit://guest:guest@127.0.0.1:1/"


class Member:
    """A host of the fleet: engine, operations and membership are real, libvirt and guests are not there."""

    def __init__(self, hostname: str, number: int, url: str, directory: Path) -> None:
        text = f"[upgrade_levels]\novirt = 'auto'\n[bus]\nurl = '{url}'\ndirectory = '{directory / hostname}'\n"
        self.host = LoneHost()
        self.surroundings = self.host.surroundings
        self.offer = replace(OFFER, hostname=hostname, host_uuid=f"5c0f0000-0000-4000-8000-{number:012}")
        configuration = parse_configuration(text.encode(), "FILE")
        self.membership = Membership(configuration, self.surroundings, self._describe, lambda: None)
        operations = Operations(self.host.engine, self.surroundings, self._describe, examine, self.membership.fleet)
        self.bridge = Bridge(operations)

    @property
    def known(self) -> set[str]:
        return set(self.membership.fleet.known.hosts)

    @property
    def connected(self) -> bool:
        return self.surroundings.tally.bus_connected

    @property
    def waiting(self) -> int:
        return self.surroundings.tally.bus_waiting

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Member"]:
        parts = (self.host.engine.run(), self.membership.run(self.bridge))
        tasks = [asyncio.create_task(part) for part in parts]
        await asyncio.sleep(0)
        await self.host.connect()
        self.membership.announce(self.offer)
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def ask(self, name: str, **arguments: object) -> Any:
        return await ask(self.bridge, name, ROOT, **arguments)

    def _describe(self) -> HostView:
        return self.offer


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 # another process's doing
            await asyncio.sleep(0.01)


@asynccontextmanager
async def fleet(url: str, directory: Path, *names: str) -> AsyncIterator[list[Member]]:
    """Members that know each other."""
    async with AsyncExitStack() as stack:
        members = [Member(name, number, url, directory) for number, name in enumerate(names)]
        for member in members:
            await stack.enter_async_context(member.running())
        await until(lambda: all(member.known == {*names} - {member.offer.hostname} for member in members))
        await until(lambda: all(member.connected for member in members))
        yield members


async def test_hosts_find_each_other_and_answer(vhost: BusVhost, tmp_path: Path) -> None:
    async with fleet(vhost.url("sidecar-host"), tmp_path, "alpha", "beta", "gamma") as (alpha, beta, gamma):
        view = await alpha.ask("fleet", timeout=20)
        assert view.complete
        assert [(host.hostname, host.answered) for host in view.hosts] == [
            ("alpha", True),
            ("beta", True),
            ("gamma", True),
        ]
        assert (await alpha.ask("fleet_preflight", host="beta", timeout=20)).host == "beta"
        assert await refused(alpha.bridge, "fleet_preflight", host="delta", timeout=1) == "host-not-found"
        await alpha.ask("fleet_forget", host="gamma")
        await until(lambda: beta.known == {"alpha"})
        # Who is forgotten and still there says so at once.
        await until(lambda: gamma.known == {"alpha", "beta"})
        await until(lambda: beta.known == {"alpha", "gamma"})


async def test_a_change_is_heard_by_all(vhost: BusVhost, tmp_path: Path) -> None:
    async with fleet(vhost.url("sidecar-host"), tmp_path, "alpha", "beta") as (alpha, beta):
        less = {**beta.offer.dialects, "ovirt": replace(beta.offer.dialects["ovirt"], maximum=2, supported=2)}
        beta.offer = replace(beta.offer, dialects=less)
        beta.membership.announce(beta.offer)
        await until(lambda: alpha.membership.fleet.caps.ovirt == 2)


@pytest.mark.long
async def test_a_broker_that_hangs_holds_nobody_up(vhost: BusVhost, tmp_path: Path) -> None:
    async with fleet(vhost.url("sidecar-host"), tmp_path, "alpha", "beta") as (alpha, beta):
        vhost.broker.pause()
        begun = time.monotonic()
        view = await alpha.ask("fleet", timeout=1)
        assert not view.complete
        assert [(host.hostname, host.answered) for host in view.hosts] == [("alpha", True), ("beta", False)]
        assert time.monotonic() - begun < 1 + MARGIN_S
        await until(lambda: not alpha.connected)
        begun = time.monotonic()
        assert not (await alpha.ask("fleet", timeout=20)).complete
        assert time.monotonic() - begun < MARGIN_S
        assert await refused(alpha.bridge, "fleet_forget", host="beta") == "bus-unavailable"
        vhost.broker.resume()
        await until(lambda: alpha.connected and beta.connected)
        assert (await alpha.ask("fleet", timeout=20)).complete


async def test_without_a_broker_events_wait_on_disk_over_a_restart(tmp_path: Path) -> None:
    async with Member("alpha", 1, NOWHERE, tmp_path).running() as member:
        for _ in range(3):
            member.surroundings.events.publish(EventType.DAEMON, what="reloaded")
        await until(lambda: member.waiting == 3)
        member.surroundings.events.publish(EventType.DAEMON, what="stopping")
        begun = time.monotonic()
    assert time.monotonic() - begun < MARGIN_S
    async with Member("alpha", 1, NOWHERE, tmp_path).running() as member:
        # The last word was taken, and another daemon says that it cannot know whether something is missing.
        await until(lambda: member.waiting == 5)
        assert await refused(member.bridge, "fleet_preflight", host="beta") == "bus-unavailable"
