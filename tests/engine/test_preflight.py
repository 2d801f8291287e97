"""What a guest would lose on another host, and what its policy says there."""

from dataclasses import replace
from typing import Any

import pytest

from sidecar.protocol.qga_commands import QGA_COMMANDS
from sidecar.protocol.releases import Release
from sidecar.record.policy import Policy
from tests.engine.lone_bridge import ask, make_bridge, refused
from tests.engine.lone_host import NEW, settle
from tests.engine.lone_talk import QGA, Talk, talking
from tests.fakes.ovirt_agent import Era
from tests.fakes.qga_agent import FakeQga

pytestmark = pytest.mark.looptime


def offer(ovirt: object = 4, qga: object = "10.0") -> dict[str, Any]:
    return {"hostname": "gamma", "dialects": {"ovirt": {"maximum": ovirt}, "qga": {"maximum": qga}}, "newer": [1]}


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
