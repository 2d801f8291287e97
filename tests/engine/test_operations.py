"""What the operations do: views, the message table, sending, negotiating anew."""

from dataclasses import replace

import pytest

from sidecar.engine.notices import Happening
from sidecar.engine.ports import Activity
from sidecar.errors import HypervisorError, RecordChangedError
from sidecar.protocol.ovirt_messages import HOST_TO_GUEST
from sidecar.protocol.qga_commands import QGA_COMMANDS
from sidecar.record.agreement import Origin
from tests.engine.lone_bridge import ANYBODY, ask, make_bridge, refused
from tests.engine.lone_host import BETA, NEW, LoneHost, now, settle
from tests.engine.lone_talk import QGA, talking
from tests.fakes.qga_agent import FakeQga

pytestmark = pytest.mark.looptime


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
