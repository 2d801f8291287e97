"""What the operations do: views, sending, waiting, renegotiating, what a migration would cost."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from sidecar.api.operations import OPERATIONS
from sidecar.engine.notices import AgentNotice, Happening
from sidecar.engine.ports import Activity
from sidecar.errors import HypervisorError, RecordChangedError
from sidecar.protocol.ovirt_messages import HOST_TO_GUEST
from sidecar.protocol.qga_commands import QGA_COMMANDS
from sidecar.protocol.releases import Release
from sidecar.record.agreement import Origin
from sidecar.record.policy import Policy
from tests.engine.lone_bridge import ANYBODY, ask, make_bridge, refused
from tests.engine.lone_host import BETA, NEW, OLD, LoneHost, came_along, now, settle
from tests.engine.lone_talk import QGA, Talk, talking
from tests.fakes.ovirt_agent import Era
from tests.fakes.qga_agent import FakeQga

pytestmark = pytest.mark.looptime


def offer(ovirt: object = 4, qga: object = "10.0") -> dict[str, Any]:
    return {"hostname": "gamma", "dialects": {"ovirt": {"maximum": ovirt}, "qga": {"maximum": qga}}, "newer": [1]}


class TestViews:
    async def test_a_domain_shows_what_its_record_says(self) -> None:
        async with talking() as talk:
            view = await ask(make_bridge(talk.host), "show", domain="vm1")
            record = talk.domain.live
            assert record is not None
            assert (view.name, view.uuid, view.activity) == ("vm1", str(talk.domain.uuid), "running")
            assert (view.host, view.host_uuid, view.run) == (BETA.hostname, BETA.uuid, talk.domain.run)
            assert (view.arrival, view.arrivals, view.arrived) == ("start", 1, record.arrived)
            assert view.recorded
            told = [(c.name, c.dialect, c.state, c.version, c.guest, c.host, c.since, c.reason) for c in view.channels]
            rows = record.channels
            assert told == [(r.name, r.dialect, r.state, r.version, r.guest, r.host, r.since, r.reason) for r in rows]
            assert view.tools is not None
            assert record.tools is not None
            assert (view.tools.source, view.tools.version) == (record.tools.source, str(record.tools.version))
            assert view.tools.state == "unknown"

    async def test_by_uuid_in_any_case_and_by_name(self) -> None:
        async with talking() as talk:
            bridge = make_bridge(talk.host)
            named = await ask(bridge, "show", domain="vm1")
            for name in (str(talk.domain.uuid), str(talk.domain.uuid).upper(), talk.domain.uuid.hex):
                assert await ask(bridge, "show", domain=name) == named
            assert await refused(bridge, "show", domain="vm2") == "domain-not-found"
            assert await refused(bridge, "show", domain="\x1b[31m\n") == "domain-not-found"

    async def test_a_name_that_looks_like_a_uuid_is_found_all_the_same(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(Activity.RUNNING, name="0f0e0d0c-0b0a-4908-8706-050403020100")
            host.event(domain, Happening.STARTED, Origin.START)
            await settle()
            view = await ask(make_bridge(host), "show", domain=domain.name)
            assert view.uuid == str(domain.uuid)

    async def test_the_list_is_sorted_and_has_who_is_on_the_way(self) -> None:
        async with LoneHost().running() as host:
            for name, activity in (("b", Activity.RUNNING), ("a", Activity.INCOMING), ("c", Activity.PAUSED)):
                host.event(host.add_domain(activity, name=name), Happening.STARTED, Origin.START)
            await settle()
            views = await ask(make_bridge(host), "list", ANYBODY)
            assert [(view.name, view.activity) for view in views] == [
                ("a", "incoming"),
                ("b", "running"),
                ("c", "paused"),
            ]
            assert views[0].arrival is None
            assert not views[0].recorded

    async def test_before_libvirt_has_told_nobody_is_said_not_to_exist(self) -> None:
        async with LoneHost().running(connected=False) as host:
            bridge = make_bridge(host)
            assert await refused(bridge, "list") == "libvirt-unavailable"
            assert await refused(bridge, "show", domain="vm1") == "libvirt-unavailable"
            assert await refused(bridge, "wait", domain="vm1", timeout=1) == "libvirt-unavailable"

    async def test_a_domain_that_libvirt_does_not_let_us_look_at(self) -> None:
        async with LoneHost().running(connected=False) as host:
            domain = host.add_domain(Activity.RUNNING)
            host.hypervisor.fail_always("inspect_domain", HypervisorError("refused"))
            await host.connect()
            await settle(1)
            assert await refused(make_bridge(host), "show", domain=str(domain.uuid)) == "libvirt-unavailable"

    async def test_a_record_that_somebody_else_changed_at_once_does_not_count(self) -> None:
        async with talking() as talk:
            talk.host.hypervisor.fail("write_record", RecordChangedError("somebody was quicker"))
            talk.close_agent()
            await settle(1)
            bridge = make_bridge(talk.host)
            assert not (await ask(bridge, "show", domain="vm1")).recorded
            assert await refused(bridge, "wait", domain="vm1", for_="lost", channel=QGA, timeout=5) == "not-in-time"
            assert (await ask(bridge, "wait", domain="vm1", for_="lost", channel=QGA, timeout=90)).recorded

    async def test_a_view_that_was_taken_does_not_change(self) -> None:
        async with talking() as talk:
            bridge = make_bridge(talk.host)
            before = await ask(bridge, "show", domain="vm1")
            copy = replace(before)
            talk.close_agent()
            await settle(1)
            assert before == copy
            assert await ask(bridge, "show", domain="vm1") != before


class TestMessages:
    async def test_the_table_has_every_message_and_whether_it_may_go(self) -> None:
        async with talking() as talk:
            bridge = make_bridge(talk.host)
            table = {view.message: view for view in await ask(bridge, "messages", domain="vm1")}
            assert set(table) == {*HOST_TO_GUEST, *QGA_COMMANDS}
            for name, view in table.items():
                refusal = talk.refusal(name)
                assert view.allowed == (refusal is None)
                assert (view.code, view.why) == ((None, None) if refusal is None else (refusal.code, refusal.why))
                assert view == await ask(bridge, "can_send", domain="vm1", message=name)
            assert table["guest-ping"].channel == QGA
            assert table["echo"].channel == NEW
            assert table["guest-get-load"].required == "10.0"

    async def test_of_one_channel(self) -> None:
        async with talking() as talk:
            bridge = make_bridge(talk.host)
            assert {v.dialect for v in await ask(bridge, "messages", domain="vm1", channel=QGA)} == {"qga"}
            assert await refused(bridge, "messages", domain="vm1", channel="x") == "channel-not-found"

    async def test_a_message_of_no_table_is_no_question(self) -> None:
        async with talking() as talk:
            assert (
                await refused(make_bridge(talk.host), "can_send", domain="vm1", message="heartbeat") == "not-in-table"
            )


class TestSend:
    async def test_a_command_is_answered(self) -> None:
        async with talking() as talk:
            sent = await ask(make_bridge(talk.host), "send", domain="vm1", message="guest-ping")
            assert (sent.message, sent.channel, sent.reply) == ("guest-ping", QGA, {})

    async def test_what_is_refused_is_told_and_counted(self) -> None:
        async with talking() as talk:
            follower = talk.host.surroundings.events.follow()
            arguments = {"password": "hunter2"}
            code = await refused(
                make_bridge(talk.host), "send", domain="vm1", message="guest-get-load", arguments=arguments
            )
            assert code == "version-too-low"
            event = follower.take()
            assert event is not None
            assert (event.type, event.domain, event.details["code"]) == ("refusal", "vm1", code)
            assert "hunter2" not in str(event)
            assert talk.host.surroundings.tally.refusals == {code: 1}
            assert follower.take() is None

    async def test_nothing_waits_for_a_guest_that_may_come_later(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(Activity.RUNNING)
            host.event(domain, Happening.STARTED, Origin.START)
            await settle()
            assert await refused(make_bridge(host), "send", domain="vm1", message="shutdown") == "not-agreed"
            guest = host.guest(domain)
            guest.open()
            await settle(20)
            assert b"shutdown" not in guest.heard
            guest.silence()

    @pytest.mark.parametrize("message", ["shutdown", "lifecycle-event", "guest-ping"])
    async def test_a_guest_that_stands_is_sent_nothing_for_later(self, message: str) -> None:
        async with talking() as talk:
            talk.host.event(talk.domain, Happening.SUSPENDED)
            talk.domain.activity = Activity.PAUSED
            await settle()
            assert await refused(make_bridge(talk.host), "send", domain="vm1", message=message) == "not-sent"
            talk.host.event(talk.domain, Happening.RESUMED)
            await settle(10)
            assert not talk.heard(message)
            assert talk.agent.asked == 1


class TestRenegotiate:
    async def test_both_channels_negotiate_anew_and_agree_again(self) -> None:
        async with talking() as talk:
            bridge, asked = make_bridge(talk.host), talk.agent.asked
            heard = talk.guest.heard.count(b"refresh")
            view = await ask(bridge, "renegotiate", domain="vm1")
            assert not view.recorded
            begun = now()
            view = await ask(bridge, "wait", domain="vm1")
            assert now() > begun
            assert {row.state for row in view.channels} == {"agreed"}
            assert talk.guest.heard.count(b"refresh") == heard + 1
            assert talk.agent.asked == asked + 1
            assert talk.domain.live is not None
            assert talk.domain.live.arrivals == 1

    async def test_of_one_channel(self) -> None:
        async with talking() as talk:
            bridge, asked = make_bridge(talk.host), talk.agent.asked
            heard = talk.guest.heard.count(b"refresh")
            await ask(bridge, "renegotiate", domain="vm1", channel=QGA)
            await ask(bridge, "wait", domain="vm1")
            assert (talk.guest.heard.count(b"refresh"), talk.agent.asked) == (heard, asked + 1)
            assert await refused(bridge, "renegotiate", domain="vm1", channel="x") == "channel-not-found"

    async def test_asking_for_it_all_the_time_neither_floods_the_guest_nor_counts_as_flapping(self) -> None:
        async with talking() as talk:
            bridge, asked = make_bridge(talk.host), talk.agent.asked
            heard = talk.guest.heard.count(b"refresh")
            for _ in range(200):
                await ask(bridge, "renegotiate", domain="vm1")
                await settle(0.1)
            assert talk.guest.heard.count(b"refresh") - heard <= 21
            assert talk.agent.asked - asked <= 21
            view = await ask(bridge, "wait", domain="vm1")
            assert {(row.state, row.reason) for row in view.channels} == {("agreed", None)}

    async def test_an_agent_that_has_changed_is_found(self) -> None:
        async with talking() as talk:
            talk.domain.port.agent = FakeQga("5.2.0")
            await ask(make_bridge(talk.host), "renegotiate", domain="vm1")
            view = await ask(make_bridge(talk.host), "wait", domain="vm1")
            assert view.channels[1].version == "5.2"


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


class TestPreflight:
    async def ask(self, talk: Talk, **there: object) -> Any:
        return await ask(make_bridge(talk.host), "preflight", domain="vm1", offer=offer(**there))

    async def test_a_host_that_offers_as_much_loses_nothing(self) -> None:
        async with talking() as talk:
            view = await self.ask(talk)
            assert (view.nothing_lost, view.refusal, view.destination) == (True, None, "gamma")
            assert [(c.name, c.agreed, c.there, c.lost) for c in view.channels] == [
                (NEW, "3", "3", ()),
                (QGA, "7.2", "7.2", ()),
            ]

    async def test_every_message_that_is_lost_is_named(self) -> None:
        async with talking() as talk:
            await talk.send("guest-get-timezone")
            view = await self.ask(talk, ovirt=2, qga="2.3")
            assert not view.nothing_lost
            ovirt, qga = view.channels
            assert (ovirt.agreed, ovirt.there) == ("3", "2")
            assert {(lost.message, lost.direction, lost.since) for lost in ovirt.lost} == {
                ("lifecycle-event", "host to guest", "3"),
                ("containers", "guest to host", "3"),
                ("completion", "guest to host", "3"),
            }
            assert (qga.agreed, qga.there) == ("7.2", "2.3")
            offered = {name for name in QGA_COMMANDS if talk.refusal(name) is None}
            newer = {name for name in offered if QGA_COMMANDS[name].since > Release(2, 3)}
            assert {lost.message for lost in qga.lost} == newer
            assert "guest-exec" in newer
            assert [lost.message for lost in qga.lost if lost.used] == ["guest-get-timezone"]

    async def test_what_is_being_negotiated_anew_is_lost_all_the_same(self) -> None:
        async with talking() as talk:
            before = (await self.ask(talk, qga="5.0")).channels[1]
            talk.agent.silent = True
            await ask(make_bridge(talk.host), "renegotiate", domain="vm1")
            view = await self.ask(talk, qga="5.0")
            assert not view.nothing_lost
            assert {lost.message for lost in before.lost} <= {lost.message for lost in view.channels[1].lost}

    async def test_a_command_that_failed_was_used_too(self) -> None:
        async with talking() as talk:
            talk.agent.results["guest-get-timezone"] = "no such zone"
            assert (
                await refused(make_bridge(talk.host), "send", domain="vm1", message="guest-get-timezone")
                == "command-failed"
            )
            view = await self.ask(talk, qga="2.3")
            assert [lost.message for lost in view.channels[1].lost if lost.used] == ["guest-get-timezone"]

    async def test_a_host_that_is_capped_to_nothing(self) -> None:
        async with talking() as talk:
            view = await self.ask(talk, ovirt=0, qga="0")
            assert [channel.there for channel in view.channels] == ["0", "0"]
            assert "guest-ping" in {lost.message for lost in view.channels[1].lost}

    async def test_a_frozen_guest_loses_what_it_has_when_thawed(self) -> None:
        async with talking() as talk:
            await talk.send("guest-fsfreeze-freeze")
            await settle(5)
            assert talk.host.row(talk.domain, QGA).reason == "guest-frozen"
            view = await self.ask(talk, qga="2.3")
            assert "guest-exec" in {lost.message for lost in view.channels[1].lost}

    async def test_what_this_hosts_cap_keeps_from_it_is_won(self) -> None:
        async with talking() as talk:
            settings = talk.host.surroundings.settings
            talk.host.engine.reconfigure(replace(settings, ovirt_maximum=1, qga_maximum=Release(0, 0)))
            await settle(10)
            view = await self.ask(talk)
            assert [(channel.agreed, channel.there) for channel in view.channels] == [("1", "3"), ("0", "7.2")]
            assert view.nothing_lost

    async def test_an_agent_without_versions_has_none_to_lose(self) -> None:
        async with talking(FakeQga("mine"), Era.V1_0_8) as talk:
            view = await self.ask(talk, ovirt=0, qga="10.0")
            assert view.channels[0].there == "0"
            assert view.channels[0].lost == ()
            assert view.channels[1].agreed == view.channels[1].there

    async def test_the_domains_policy_refuses_with_the_hooks_words(self) -> None:
        async with talking() as talk:
            talk.domain.policy = Policy((3,), tools=False)
            view = await self.ask(talk, ovirt=2)
            assert not view.nothing_lost
            assert 'requires dialect="ovirt" min-version="3"' in (view.refusal or "")
            assert (await self.ask(talk, ovirt=3)).refusal is None
            talk.domain.policy = Policy((), tools=True)
            assert (await self.ask(talk)).refusal is None

    @pytest.mark.parametrize("document", [{}, {"dialects": []}, offer(True), offer("4"), offer(qga=7), offer(qga="x")])
    async def test_what_is_no_offer(self, document: dict[str, Any]) -> None:
        async with talking() as talk:
            code = await refused(make_bridge(talk.host), "preflight", domain="vm1", offer=document)
            assert code == "bad-request"
