"""Waiting for a domain's record, and following what happens."""

import asyncio
from collections.abc import Callable
from uuid import UUID

import pytest

from sidecar.api.operations import OPERATIONS
from sidecar.engine.notices import AgentNotice, Happening
from sidecar.engine.ports import Activity
from sidecar.record.agreement import Origin
from tests.engine.lone_bridge import ANYBODY, ask, make_bridge, refused
from tests.engine.lone_host import NEW, OLD, LoneHost, came_along, now, settle
from tests.engine.lone_talk import QGA, talking

pytestmark = pytest.mark.looptime


class TestWait:
    async def test_returns_with_the_record(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(record=came_along())
            guest = host.migrated_guest(domain)
            waiting = asyncio.create_task(ask(make_bridge(host), "wait", ANYBODY, domain="vm1"))
            await settle(3)
            host.event(domain, Happening.STARTED, Origin.MIGRATION)
            await settle(3)
            assert not waiting.done()  # what came along is of another host
            host.run_guest(domain, Origin.MIGRATION)
            guest.open()
            host.event(domain, Happening.RESUMED, Origin.MIGRATION)
            view = await waiting
            assert host.verdict(domain)[0] == "agreed"
            assert domain.live is not None
            assert (view.recorded, view.arrivals) == (True, 2)
            assert [(row.state, row.since) for row in view.channels] == [("agreed", host.row(domain).since)]
            guest.silence()

    async def test_a_write_that_is_held_up_is_waited_for(self) -> None:
        async with talking() as talk:
            bridge = make_bridge(talk.host)
            talk.domain.free.clear()
            talk.close_agent()
            waiting = asyncio.create_task(ask(bridge, "wait", domain="vm1", for_="lost", channel=QGA))
            await settle(20)
            assert not waiting.done()
            talk.domain.free.set()
            assert (await waiting).channels[1].state == "lost"

    async def test_every_dialect_has_to_be_there_unless_a_channel_is_named(self) -> None:
        async with talking() as talk:
            bridge = make_bridge(talk.host)
            talk.close_agent()
            await settle(1)
            begun = now()
            assert await refused(bridge, "wait", domain="vm1", timeout=7) == "not-in-time"
            assert 7 <= now() - begun < 7.1
            assert (await ask(bridge, "wait", domain="vm1", timeout=0, channel=NEW)).channels[0].state == "agreed"

    async def test_of_two_ovirt_channels_one_suffices(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(Activity.RUNNING, channels=(NEW, OLD))
            host.event(domain, Happening.STARTED, Origin.START)
            await settle()
            guest = host.guest(domain, OLD)
            guest.open()
            view = await ask(make_bridge(host), "wait", domain="vm1")
            assert sorted(row.state for row in view.channels) == ["agreed", "waiting"]
            guest.silence()

    async def test_who_waits_for_nobody_is_told_so_in_time(self) -> None:
        async with LoneHost().running() as host:
            assert await refused(make_bridge(host), "wait", domain="vm9", timeout=5) == "domain-not-found"
            domain = host.add_domain(Activity.RUNNING, channels=())
            host.event(domain, Happening.STARTED, Origin.START)
            await settle()
            assert await refused(make_bridge(host), "wait", domain="vm1", timeout=5) == "channel-not-found"
            assert now() < 5.1

    async def test_of_many_who_wait_each_gets_his_own(self) -> None:
        async with LoneHost().running() as host:
            bridge = make_bridge(host)
            waits = [asyncio.create_task(ask(bridge, "wait", domain=f"vm{i}", timeout=60)) for i in range(50)]
            await settle(1)
            domain = host.add_domain(Activity.RUNNING)  # vm1
            host.event(domain, Happening.STARTED, Origin.START)
            guest = host.guest(domain)
            guest.open()
            await settle(10)
            assert [wait.done() for wait in waits].count(True) == 1
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
            guest.silence()


class TestEvents:
    async def test_the_story_of_a_guest(self) -> None:
        async with LoneHost().running() as host:
            follower = host.surroundings.events.follow()
            domain = host.add_domain(record=came_along())
            guest = host.migrated_guest(domain)
            host.event(domain, Happening.STARTED, Origin.MIGRATION)
            await settle(1)
            host.run_guest(domain, Origin.MIGRATION)
            guest.open()
            host.event(domain, Happening.RESUMED, Origin.MIGRATION)
            await settle(8)
            guest.silence()
            host.end(domain)
            await settle(1)
            told = []
            while (event := follower.take()) is not None:
                assert (event.domain, event.uuid) == ("vm1", str(domain.uuid))
                told.append(event)
            kinds = [event.type for event in told]
            assert kinds[0] == "arrived"
            assert kinds[-1] == "left"
            assert told[0].details == {"arrival": "migration", "arrivals": 2, "run": domain.run}
            channels = [event.details["channel"]["state"] for event in told if event.type == "channel"]
            assert channels == ["waiting", "agreed"]
            records = [event.details["channels"][0]["state"] for event in told if event.type == "agreement"]
            assert records == ["waiting", "agreed"]
            assert told[1].document["channel"]["name"] == NEW

    async def test_a_cancelled_migration_is_no_event(self) -> None:
        async with LoneHost().running() as host:
            follower = host.surroundings.events.follow()
            domain = host.add_domain()
            host.event(domain, Happening.STARTED, Origin.MIGRATION)
            await settle(1)
            host.end(domain)
            await settle(1)
            assert follower.take() is None

    async def test_a_guest_that_flaps_does_not_drive_the_others_news_out(self) -> None:
        async with talking() as talk:
            follower = talk.host.surroundings.events.follow()
            for _ in range(600):
                talk.host.tell(AgentNotice(talk.domain.uuid, False))
                await settle(0.05)
                talk.host.tell(AgentNotice(talk.domain.uuid, True))
                await settle(0.05)
            kinds: list[str] = []
            while (event := follower.take()) is not None:
                kinds.append(event.type)
            assert 5 < len(kinds) < 60

    async def test_polling(self) -> None:
        async with talking() as talk:
            bridge = make_bridge(talk.host)
            begun = now()
            assert await ask(bridge, "events", ANYBODY, timeout=2) == ()
            assert now() - begun >= 2
            last = talk.host.surroundings.events.last_id
            polling = asyncio.create_task(ask(bridge, "events", domain="vm1", timeout=60))
            await settle(1)
            talk.close_agent()
            events = await polling
            assert events[0].type == "channel"
            await settle(1)
            assert (await ask(bridge, "events", after=last))[0] == events[0]
            assert await ask(bridge, "events", after=last, domain="vm2") == ()

    @pytest.mark.parametrize("render", [str, lambda uuid: str(uuid).upper(), lambda uuid: uuid.hex])
    async def test_following_by_any_form_of_the_uuid(self, render: Callable[[UUID], str]) -> None:
        async with talking() as talk:
            following = make_bridge(talk.host).follow({"domain": render(talk.domain.uuid)}, ANYBODY)
            talk.close_agent()
            assert (await anext(following)).domain == "vm1"

    async def test_following_one_domain_shows_the_daemons_words_too(self) -> None:
        async with talking() as talk:
            following = make_bridge(talk.host).follow({"domain": "vm2"}, ANYBODY)
            assert OPERATIONS["events"].streams
            talk.close_agent()
            talk.host.surroundings.events.publish("daemon", what="reloaded")  # type: ignore[arg-type]
            await settle()
            event = await anext(following)
            assert (event.type, event.document["what"]) == ("daemon", "reloaded")
            assert following.take() is None
