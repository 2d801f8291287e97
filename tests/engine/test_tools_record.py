"""The guest's tools on record: from what the agents say to what stands in the domain's XML."""

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from sidecar.engine.notices import AgentNotice, Happening
from sidecar.engine.ports import Activity
from sidecar.protocol.tools import Source, ToolsVersion, Tristate
from sidecar.record.agreement import Agreement, Origin, ToolsRow
from tests.engine.lone_host import BETA, NEW, LoneHost, came_along, settle
from tests.fakes.channels import FakeGuest
from tests.fakes.hypervisor import FakeDomain
from tests.fakes.ovirt_agent import AgentModel, Era
from tests.fakes.qga_agent import FakeQga

pytestmark = pytest.mark.looptime

QGA, DIRECT = "org.qemu.guest_agent.0", "org.qemu.guest_agent.1"
OURS: dict[str, object] = {
    "major": 1,
    "minor": 4,
    "micro": 0,
    "build": 12,
    "installed": True,
    "notUpgradable": False,
    "updated": 1,
}
TOLD = ("guest-tools", "1.4.0-12", "true", "unknown")
PACKAGE = ("applications", "1.0.16", "unknown", "unknown")
CARRIED = ToolsRow(Source.GUEST_TOOLS, ToolsVersion(1, 4, 0, 12), Tristate.TRUE, Tristate.FALSE)


def tools(domain: FakeDomain) -> tuple[str, ...] | None:
    assert domain.live is not None
    row = domain.live.tools
    return None if row is None else (row.source, str(row.version), row.upgradable, row.up_to_date)


def rows(host: LoneHost, domain: FakeDomain) -> list[ToolsRow | None]:
    return [agreement.tools for agreement in host.hypervisor.written(domain.uuid)]


def say(guest: FakeGuest, name: str, **arguments: object) -> None:
    guest.socket.write(json.dumps({"__name__": name, **arguments}).encode() + b"\n")


def tell(guest: FakeGuest, **changes: object) -> None:
    say(guest, "guest-tools", **(OURS | changes))


def call_current(host: LoneHost, **current: str) -> None:
    versions = {Source(source.replace("_", "-")): ToolsVersion.parse(text) for source, text in current.items()}
    host.engine.reconfigure(replace(host.surroundings.settings, tools_current=versions))


@asynccontextmanager
async def started(
    maximum: int = 4, agent: AgentModel | None = None, **current: str
) -> AsyncIterator[tuple[LoneHost, FakeDomain, FakeGuest]]:
    """A guest that was started, and whose agent (of ours) has told everything."""
    host = LoneHost(maximum)
    call_current(host, **current)
    async with host.running():
        domain = host.add_domain(Activity.RUNNING, origin=Origin.START)
        host.event(domain, Happening.STARTED, Origin.START)
        await settle(0.5)
        guest = host.guest(domain, agent=agent or AgentModel(Era.V1_0_16, maximum=4, prompt=True))
        guest.open()
        await settle(20)
        yield host, domain, guest
        guest.silence()


def original() -> AgentModel:
    return AgentModel(Era.V1_0_16)


class TestWhoTells:
    async def test_an_agent_of_ours(self) -> None:
        async with started() as (host, domain, _):
            assert host.verdict(domain) == ("agreed", "4", None)
            assert tools(domain) == TOLD

    async def test_an_original_agent(self) -> None:
        async with started(agent=original(), applications="1.0") as (_, domain, _guest):
            assert tools(domain) == ("applications", "1.0.16", "unknown", "true")

    async def test_a_host_that_is_capped_below_it_knows_the_package_only(self) -> None:
        async with started(3) as (host, domain, guest):
            assert (host.verdict(domain), tools(domain)) == (("agreed", "3", None), PACKAGE)
            tell(guest, updated=99)
            await settle(10)
            assert tools(domain) == PACKAGE

    async def test_a_cap_that_is_lifted(self) -> None:
        async with started(3) as (host, domain, _):
            host.engine.reconfigure(replace(host.surroundings.settings, ovirt_maximum=4))
            await settle(20)
            assert (host.verdict(domain), tools(domain)) == (("agreed", "4", None), TOLD)

    async def test_a_qemu_guest_agent(self) -> None:
        async with LoneHost().running() as host:
            call_current(host, qga="8.0")
            domain = host.add_domain(Activity.RUNNING, origin=Origin.START, channels=(QGA,))
            host.event(domain, Happening.STARTED, Origin.START)
            await settle(0.5)
            domain.port.agent = FakeQga()
            host.tell(AgentNotice(domain.uuid, connected=True))
            await settle(1)
            assert tools(domain) == ("qga", "7.2.22", "unknown", "false")
            assert rows(host, domain)[0] is None
            assert len(rows(host, domain)) == 2  # it is agreed, and tells, at once

    @pytest.mark.parametrize("first", [QGA, DIRECT])
    async def test_two_qemu_guest_agents(self, first: str) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(Activity.RUNNING, origin=Origin.START, channels=(DIRECT, QGA))
            host.event(domain, Happening.STARTED, Origin.START)
            await settle(0.5)

            async def open_end(name: str) -> None:
                if name == QGA:
                    domain.port.agent = FakeQga()
                    host.tell(AgentNotice(domain.uuid, connected=True))
                else:
                    host.socket(domain, DIRECT).qga = FakeQga("8.2.0")
                    host.reporter(domain, DIRECT)(True)
                await settle(20)

            for name in (first, *{QGA, DIRECT} - {first}):
                await open_end(name)
            assert (host.verdict(domain, QGA)[0], host.verdict(domain, DIRECT)[0]) == ("agreed", "agreed")
            seen = len(rows(host, domain))
            for name in (DIRECT, QGA, DIRECT):
                await open_end(name)
                assert tools(domain) == ("qga", "7.2.22", "unknown", "unknown")
            assert len(set(rows(host, domain)[seen:])) <= 1

    async def test_a_guest_that_tells_nothing(self) -> None:
        agent = original()
        agent.facts["applications"] = {"applications": ["kernel-6.1.0"]}
        async with started(agent=agent) as (host, domain, _):
            assert host.verdict(domain) == ("agreed", "3", None)
            assert tools(domain) is None


class TestChanges:
    async def test_what_is_touched_and_does_not_change_is_no_write(self) -> None:
        async with started() as (host, domain, guest):
            count = len(host.hypervisor.attempts)
            for updated in range(2, 200):
                tell(guest, updated=updated)
                await settle(1)
            assert (len(host.hypervisor.attempts), tools(domain)) == (count, TOLD)

    async def test_what_changes_without_updated_is_not_looked_at(self) -> None:
        async with started() as (_, domain, guest):
            tell(guest, minor=5, updated=1)
            await settle(20)
            assert tools(domain) == TOLD
            tell(guest, minor=5, updated=2)
            await settle(20)
            assert tools(domain) == ("guest-tools", "1.5.0-12", "true", "unknown")

    @pytest.mark.parametrize(
        ("changes", "row"),
        [
            ({"minor": 3}, ("guest-tools", "1.3.0-12", "true", "false")),
            ({"minor": 3, "notUpgradable": True}, ("guest-tools", "1.3.0-12", "false", "true")),
            ({"major": 9, "build": "proto-0.5"}, ("guest-tools", "9.4.0", "true", "unknown")),
            ({"micro": -1}, ("guest-tools", "1.4-12", "true", "true")),
            ({"installed": False}, PACKAGE),
            ({"major": "one"}, ("guest-tools", "1.4.0-12", "true", "true")),
        ],
        ids=["downgrade", "locked", "build-in-words", "no-micro", "uninstalled", "unusable"],
    )
    async def test_what_it_comes_to(self, changes: dict[str, object], row: tuple[str, ...]) -> None:
        async with started(guest_tools="1.4") as (_, domain, guest):
            tell(guest, **changes, updated=2)
            await settle(20)
            assert tools(domain) == row

    async def test_the_row_stays_when_the_channel_is_lost(self) -> None:
        async with started() as (host, domain, guest):
            guest.close()
            await settle(1000)
            assert (host.verdict(domain)[0], tools(domain)) == ("lost", TOLD)

    async def test_a_guest_that_boots_another_system_tells_anew(self) -> None:
        async with started() as (host, domain, guest):
            guest.close()
            await settle(60)
            agent = AgentModel(Era.V1_0_16, maximum=4, prompt=True)
            agent.facts["guest-tools"] = {**OURS, "minor": 2, "updated": 0}  # and its clock is behind
            newer = host.guest(domain, agent=agent)
            newer.open()
            await settle(20)
            assert tools(domain) == ("guest-tools", "1.2.0-12", "true", "unknown")
            newer.silence()

    async def test_a_package_that_is_removed(self) -> None:
        async with started(agent=original()) as (_, domain, guest):
            say(guest, "applications", applications=["kernel-6.1.0"])
            await settle(20)
            assert tools(domain) is None

    async def test_an_agent_whose_package_is_being_removed_says_so(self) -> None:
        async with started(agent=original()) as (_, domain, guest):
            say(guest, "uninstalled")
            await settle(20)
            assert tools(domain) is None

    async def test_so_does_one_of_ours(self) -> None:
        async with started() as (_, domain, guest):
            say(guest, "uninstalled")
            await settle(20)
            assert tools(domain) is None

    @pytest.mark.parametrize("reported", [True, False])
    async def test_an_agent_of_ours_that_restarts_is_no_write(self, reported: bool) -> None:
        async with started() as (host, domain, guest):
            seen = len(rows(host, domain))
            guest.close(reported=reported)
            newer = host.guest(domain, agent=AgentModel(Era.V1_0_16, maximum=4, prompt=True))
            newer.agent.facts["guest-tools"] = {**OURS, "updated": 0}
            if reported:
                newer.open(5.0)
            else:
                newer.socket.peer = newer
                newer.go_on(0.03)
            await settle(60)
            assert host.verdict(domain) == ("agreed", "4", None)
            assert {row and str(row.version) for row in rows(host, domain)[seen:]} <= {"1.4.0-12"}
            assert tools(domain) == TOLD
            assert not reported or len(rows(host, domain)) - seen <= 2  # the channel's own
            newer.silence()

    async def test_an_original_agent_in_the_place_of_ours(self) -> None:
        async with started() as (host, domain, guest):
            guest.close()
            await settle(60)
            older = host.guest(domain, agent=original())
            older.open()
            await settle(5)
            assert tools(domain) == TOLD
            await settle(10)
            assert (host.verdict(domain), tools(domain)) == (("agreed", "3", None), PACKAGE)
            older.silence()

    async def test_a_cap_that_comes_and_goes(self) -> None:
        async with started() as (host, domain, guest):
            for maximum, row in ((2, PACKAGE), (4, TOLD), (0, PACKAGE), (4, TOLD)):
                host.engine.reconfigure(replace(host.surroundings.settings, ovirt_maximum=maximum))
                await settle(120)
                assert tools(domain) == row
                if maximum < 4:
                    tell(guest, minor=9, updated=99)
                    await settle(20)
                    assert tools(domain) == row

    async def test_new_settings_are_judged_by_at_once(self) -> None:
        async with started() as (host, domain, _):
            count = len(host.hypervisor.attempts)
            call_current(host, guest_tools="1.5")
            await settle(0.1)
            assert tools(domain) == ("guest-tools", "1.4.0-12", "true", "false")
            call_current(host, guest_tools="1.5")
            await settle(20)
            assert len(host.hypervisor.attempts) == count + 1


class TestStorms:
    async def test_a_guest_whose_version_flaps_makes_six_writes_and_log_lines_a_minute(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "sidecar")
        async with started() as (host, domain, guest):
            await settle(100)
            caplog.clear()
            count = len(host.hypervisor.attempts)
            host.hypervisor.calls.clear()
            for updated in range(2, 3002):
                tell(guest, updated=updated, minor=updated % 2)
                await settle(0.1)
            times = [write.at for write in host.hypervisor.attempts[count:]]
            # It may flip back while libvirt is asked, and then nothing is written.
            assert host.hypervisor.calls["is_job_held", domain.uuid] < 2 * len(times)
            assert max(sum(start <= at < start + 60 for at in times) for start in times) == 6
            assert len(times) > 20
            lines = [record.getMessage() for record in caplog.records]
            assert len(lines) == len(times)
            assert {line.split(" by ")[0] for line in lines} == {"'vm1': tools: 1.0.0-12", "'vm1': tools: 1.1.0-12"}
            await settle(60)
            assert tools(domain) == ("guest-tools", "1.1.0-12", "true", "unknown")

    async def test_it_does_not_hold_up_what_happens_to_a_channel(self) -> None:
        async with started() as (host, domain, guest):
            await settle(100)
            for updated in range(2, 60):
                tell(guest, updated=updated, minor=updated % 2)
                await settle(0.1)
            guest.close()
            await settle(0.5)
            assert host.verdict(domain)[0] == "lost"

    async def test_one_that_changes_during_a_write_ends_as_it_is(self) -> None:
        async with started() as (host, domain, guest):
            host.hypervisor.delays_s["write_record"] = 3
            tell(guest, updated=2, minor=5)
            await settle(1)
            tell(guest, updated=3, minor=6)
            await settle(1)
            tell(guest, updated=4, minor=7)
            await settle(20)
            assert tools(domain) == ("guest-tools", "1.7.0-12", "true", "unknown")
            assert [row and row.version.minor for row in rows(host, domain)[-2:]] == [5, 7]


@asynccontextmanager
async def arrived(origin: Origin, **current: str) -> AsyncIterator[tuple[LoneHost, FakeDomain]]:
    """A guest that brought a record with tools from another host; its agent has said nothing yet."""
    host = LoneHost()
    call_current(host, **current)
    async with host.running():
        record = replace(came_along(), tools=CARRIED)
        if origin is Origin.ATTACH:
            domain = host.add_domain(Activity.RUNNING, record=record)
            await host.connect()
        else:
            domain = host.add_domain(Activity.RUNNING, origin=origin, record=record)
            host.event(domain, Happening.STARTED, origin)
        await settle(0.5)
        yield host, domain


class TestWhatCameAlong:
    @pytest.mark.parametrize("origin", [Origin.MIGRATION, Origin.RESTORE, Origin.SNAPSHOT, Origin.ATTACH])
    async def test_goes_on_in_a_guest_that_goes_on(self, origin: Origin) -> None:
        async with arrived(origin, guest_tools="1.4") as (host, domain):
            assert domain.live is not None
            assert domain.live.arrival == origin
            assert rows(host, domain)[0] == replace(CARRIED, up_to_date=Tristate.TRUE)  # on this host it is
            await settle(1000)
            assert tools(domain) == ("guest-tools", "1.4.0-12", "true", "true")

    async def test_is_over_in_a_guest_that_was_started(self) -> None:
        async with arrived(Origin.START) as (host, domain):
            await settle(1000)
            assert set(rows(host, domain)) == {None}

    async def test_of_a_guest_that_tells_the_same_is_not_written_again(self) -> None:
        async with arrived(Origin.MIGRATION) as (host, domain):
            guest = host.migrated_guest(domain)
            guest.open()
            await settle(20)
            assert tools(domain) == TOLD
            assert len({row and row.version for row in rows(host, domain)}) == 1
            assert host.verdict(domain) == ("agreed", "4", None)
            guest.silence()

    async def test_a_migrated_agent_that_tells_something_else(self) -> None:
        async with arrived(Origin.MIGRATION) as (host, domain):
            guest = host.migrated_guest(domain)
            guest.agent.facts["guest-tools"] = {**OURS, "minor": 9, "updated": 0}
            guest.open()
            await settle(20)
            assert tools(domain) == ("guest-tools", "1.9.0-12", "true", "unknown")
            guest.silence()

    async def test_of_a_host_with_our_agent_to_one_with_none(self) -> None:
        async with arrived(Origin.MIGRATION) as (host, domain):
            guest = host.guest(domain, agent=original())
            guest.open()
            await settle(5)
            assert tools(domain) == TOLD
            await settle(10)
            assert tools(domain) == PACKAGE
            guest.silence()

    async def test_in_a_domain_without_channels_it_is_kept(self) -> None:
        async with LoneHost().running() as host:
            record = replace(came_along(), tools=CARRIED)
            domain = host.add_domain(Activity.RUNNING, origin=Origin.RESTORE, channels=(), record=record)
            host.event(domain, Happening.STARTED, Origin.RESTORE)
            await settle(1)
            assert tools(domain) == TOLD
            call_current(host, guest_tools="1.4")
            await settle(1)
            assert tools(domain) == ("guest-tools", "1.4.0-12", "true", "true")


class TestDaemonRestart:
    def own(self, domain: FakeDomain, up_to_date: Tristate) -> Agreement:
        row = replace(CARRIED, up_to_date=up_to_date)
        channel = replace(came_along().channels[0], name=NEW)
        return Agreement("beta", BETA.uuid, domain.run, "start", 7, channel.since, (channel,), row)

    async def test_nothing_is_written_when_all_is_as_it_was(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "sidecar")
        host = LoneHost()
        call_current(host, guest_tools="1.5")
        domain = host.add_domain(Activity.RUNNING, origin=Origin.START, opened=True)
        domain.live = domain.config = self.own(domain, Tristate.FALSE)
        guest = host.migrated_guest(domain)
        guest.socket.peer = guest
        async with host.running():
            await settle(0.5)
            guest.go_on(0.1)
            await settle(60)
            assert host.hypervisor.attempts == []
            assert not [record for record in caplog.records if "tools" in record.getMessage()]
            guest.silence()

    async def test_a_new_configuration_is_judged_by(self) -> None:
        host = LoneHost()
        call_current(host, guest_tools="1.4")
        domain = host.add_domain(Activity.RUNNING, origin=Origin.START, opened=True)
        domain.live = domain.config = self.own(domain, Tristate.FALSE)
        async with host.running():
            await settle(1)
            assert tools(domain) == ("guest-tools", "1.4.0-12", "true", "true")
            assert domain.live.arrivals == 7
