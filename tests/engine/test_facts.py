"""What is known of a guest: whose word counts, how old it is, and when there is none."""

import json
from collections.abc import Mapping

import pytest

from sidecar.api.views import FactView
from sidecar.engine.facts import Facts
from sidecar.engine.notices import Happening
from sidecar.engine.ports import Activity
from sidecar.engine.qga_facts import FACT_COMMANDS, REFRESH_S
from sidecar.protocol.fact_content import FACT_LIMIT_BYTES, FactContent
from sidecar.protocol.ovirt_facts import APPLICATIONS_LIMIT_BYTES, FACTS
from sidecar.protocol.states import Dialect
from sidecar.record.agreement import Origin
from tests.engine.lone_channel import LoneChannel
from tests.engine.lone_host import NEW, OLD, LoneHost, now, settle, wall_clock
from tests.engine.lone_qga import DIRECT, QGA
from tests.fakes.hypervisor import FakeDomain
from tests.fakes.qga_agent import FakeQga

pytestmark = pytest.mark.looptime


def new_facts() -> Facts:
    return Facts(wall_clock, now)


def fqdn(name: object) -> FactContent:
    return FactContent(json.dumps({"__name__": "fqdn", "fqdn": name}).encode())


def line(name: str, arguments: Mapping[str, object]) -> bytes:
    return json.dumps({"__name__": name, **arguments}).encode() + b"\n"


def shown(facts: Facts) -> list[tuple[str, str, object]]:
    return [(view.name, view.channel, view.value) for view in facts.views()]


def named(facts: Facts, name: str) -> FactView:
    (view,) = (view for view in facts.views() if view.name == name)
    return view


class TestViews:
    async def test_one(self) -> None:
        facts = new_facts()
        await settle(2)
        facts.note("fqdn", NEW, Dialect.OVIRT, fqdn("a\x00b"))
        await settle(7.25)
        assert facts.views() == (
            FactView("fqdn", NEW, "ovirt", "2026-11-21T07:00:02.000Z", 7.25, False, {"fqdn": "a\ufffdb"}),
        )

    async def test_the_newest_word_counts_and_is_as_old_as_it_is(self) -> None:
        facts = new_facts()
        for name in ("old", "new"):
            await settle(10)
            facts.note("fqdn", NEW, Dialect.OVIRT, fqdn(name))
        await settle(1)
        assert [(view.value, view.age_seconds) for view in facts.views()] == [({"fqdn": "new"}, 1.0)]

    async def test_by_name_then_channel(self) -> None:
        facts = new_facts()
        for name, channel in (("timezone", NEW), ("fqdn", NEW), ("host-name", OLD), ("fqdn", OLD)):
            facts.note(name, channel, Dialect.OVIRT, FactContent(b"{}"))
        assert shown(facts) == [
            ("fqdn", OLD, {}),
            ("fqdn", NEW, {}),
            ("host-name", OLD, {}),
            ("timezone", NEW, {}),
        ]

    async def test_an_agent_of_qemus_may_answer_with_anything(self) -> None:
        facts = new_facts()
        facts.note("guest-get-users", QGA, Dialect.QGA, FactContent(b'[{"user": "a"}, {"us', truncated=True))
        facts.note("guest-get-osinfo", QGA, Dialect.QGA, FactContent(b'{"__name__": 1}'))
        osinfo, users = facts.views()
        assert (users.dialect, users.truncated, users.value) == ("qga", True, [{"user": "a"}])
        assert (osinfo.dialect, osinfo.truncated, osinfo.value) == ("qga", False, {"__name__": 1})

    @pytest.mark.parametrize("dialect", Dialect)
    @pytest.mark.parametrize("raw", [b"", b"no", b'{"a": 1e999}', b"[" * 50 + b"]" * 50, b"1" + b"0" * 30])
    async def test_what_cannot_be_read_is_left_out_until_something_better_comes(
        self, raw: bytes, dialect: Dialect
    ) -> None:
        facts = new_facts()
        facts.note("fqdn", NEW, dialect, FactContent(raw))
        facts.note("host-name", NEW, dialect, FactContent(b"{}"))
        assert shown(facts) == [("host-name", NEW, {})]
        facts.note("fqdn", NEW, dialect, FactContent(b'{"fqdn": "a"}'))
        assert shown(facts) == [("fqdn", NEW, {"fqdn": "a"}), ("host-name", NEW, {})]


class TestOneChannel:
    async def test_all_that_an_agent_tells(self) -> None:
        async with LoneChannel().running() as lone:
            lone.guest.open()
            await settle(6)
            views = lone.facts.views()
            told = {view.name: view.value for view in views}
            assert told.keys() == FACTS.keys() - {"memory-stats", "number-of-cpus"}
            heartbeat = told.pop("heartbeat")
            assert heartbeat == {**lone.guest.agent.facts["heartbeat"], "apiVersion": 3}
            assert told == {name: lone.guest.agent.facts[name] for name in told}
            assert {(view.channel, view.dialect, view.truncated) for view in views} == {(NEW, "ovirt", False)}

    async def test_a_heartbeat_renews_its_own_alone(self) -> None:
        async with LoneChannel().running() as lone:
            lone.guest.open()
            await settle(600)
            assert named(lone.facts, "heartbeat").age_seconds < 5.1
            assert named(lone.facts, "fqdn").age_seconds > 590

    async def test_it_stays_when_the_agent_goes(self) -> None:
        async with LoneChannel().running() as lone:
            lone.guest.open()
            await settle(6)
            before = lone.facts.views()
            lone.guest.close()
            await settle(1000)
            assert lone.verdict == ("lost", "0", "port-closed")
            after = lone.facts.views()
            assert [view.value for view in after] == [view.value for view in before]
            assert [view.received for view in after] == [view.received for view in before]
            assert [round(view.age_seconds) for view in after] == [round(view.age_seconds + 1000) for view in before]

    async def test_it_grows_old_also_while_the_guest_stands(self) -> None:
        async with LoneChannel().running() as lone:
            lone.guest.open()
            await settle(6)
            age_s = named(lone.facts, "fqdn").age_seconds
            lone.stop_clock()
            lone.guest.stand()
            await settle(500)
            assert named(lone.facts, "fqdn").age_seconds == pytest.approx(age_s + 500)

    async def test_it_tells_by_itself_and_is_not_asked(self) -> None:
        async with LoneChannel().running() as lone:
            lone.guest.open()
            await settle(6)
            heard = bytes(lone.guest.heard)
            begun = now()
            await lone.channel.refresh()
            assert now() == begun
            await settle()
            assert bytes(lone.guest.heard) == heard

    async def test_a_guest_that_tells_without_end_takes_no_more_than_its_share(self) -> None:
        async with LoneChannel().running() as lone:
            lone.guest.open()
            await settle(6)
            entries = [f"package-{number}-1.0" for number in range(40_000)]
            keys = {"applications": "applications", "network-interfaces": "interfaces", "disks-usage": "disks"}
            for name in FACTS:
                key = keys.get(name, "list")
                for _ in range(3):
                    lone.socket.write(line(name, {"x": "y" * FACT_LIMIT_BYTES}))
                    lone.socket.write(line(name, {key: entries}))
            await settle()
            views = lone.facts.views()
            lists = {"applications", "containers", "disks-usage", "network-interfaces"}
            assert {view.name for view in views if view.truncated} == lists
            for view in views:
                limit = APPLICATIONS_LIMIT_BYTES if view.name == "applications" else FACT_LIMIT_BYTES
                size = len(json.dumps(view.value))
                assert size <= limit
                assert view.name not in lists or size > limit - 100


class TestOneGuest:
    async def test_it_outlives_its_channel(self) -> None:
        host = LoneHost()
        async with host.running():
            domain = await started(host)
            before = shown(facts_of(host, domain))
            assert ("fqdn", NEW, {"fqdn": "lab-guest.example.org"}) in before
            domain.channels = ()
            await host.hook(domain, "attach")
            await settle(1)
            assert not host.attached(domain)
            assert shown(facts_of(host, domain)) == before

    async def test_another_process_begins_without_any(self) -> None:
        host = LoneHost()
        async with host.running():
            domain = await started(host)
            facts = facts_of(host, domain)
            assert facts.views()
            host.end(domain)
            await settle(1)
            host.hypervisor.domains[domain.uuid] = domain
            host.renew_process(domain)
            host.event(domain, Happening.STARTED, Origin.START)
            await settle(1)
            assert facts_of(host, domain) is not facts
            assert facts_of(host, domain).views() == ()

    async def test_an_agent_that_moves_to_the_other_port_speaks_for_itself(self) -> None:
        host = LoneHost()
        async with host.running():
            domain = await started(host, NEW, OLD)
            first = host.guest(domain, OLD)
            first.open()
            await settle(6)
            first.silence()
            views = [view for view in facts_of(host, domain).views() if view.name == "fqdn"]
            assert [view.channel for view in views] == [OLD, NEW]

    async def test_all_that_have_to_be_asked_are_asked_at_once(self) -> None:
        host = LoneHost()
        async with host.running():
            domain = host.add_domain(Activity.RUNNING, origin=Origin.START, channels=(QGA, DIRECT), opened=True)
            agents = FakeQga(), FakeQga()
            domain.port.agent, host.socket(domain, DIRECT).qga = agents
            host.event(domain, Happening.STARTED, Origin.START)
            await settle(0.5)
            assert [host.verdict(domain, name)[0] for name in (QGA, DIRECT)] == ["agreed", "agreed"]
            stay = host.engine.find(domain.name).require_stay()
            for agent in agents:
                agent.silent = True
            begun = now()
            await stay.refresh_facts()
            assert now() - begun == pytest.approx(REFRESH_S)
            for agent in agents:
                assert [name for name in agent.commands() if name != "guest-info"] == [FACT_COMMANDS[0]]
                agent.silent = False
            await settle(60)  # both are doubted, and asked what they are
            assert [host.verdict(domain, name)[0] for name in (QGA, DIRECT)] == ["agreed", "agreed"]


async def started(host: LoneHost, *channels: str) -> FakeDomain:
    """A guest whose agent has told all it has to tell, on the first of its channels."""
    domain = host.add_domain(Activity.RUNNING, origin=Origin.START, channels=channels or (NEW,))
    host.event(domain, Happening.STARTED, Origin.START)
    await settle(0.5)
    guest = host.guest(domain)
    guest.open()
    await settle(6)
    guest.close()
    await settle(0.5)
    return domain


def facts_of(host: LoneHost, domain: FakeDomain) -> Facts:
    return host.engine.find(domain.name).require_stay().facts
