"""When a QEMU guest agent is asked of its guest, for whom, and for how long."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sidecar.engine.qga_facts import FACT_COMMANDS, FRESH_S, LEAST_S, REFRESH_S
from sidecar.protocol.fact_content import FACT_LIMIT_BYTES
from sidecar.protocol.qga_commands import QGA_COMMANDS
from sidecar.protocol.releases import Release
from tests.engine.lone_host import now, settle
from tests.engine.lone_qga import DIRECT, QGA, LoneQga
from tests.fakes.qga_agent import LATENCY_S, FakeQga

pytestmark = pytest.mark.looptime

RESULTS: dict[str, object] = {
    "guest-get-host-name": {"host-name": "lab-guest"},
    "guest-get-osinfo": {"id": "debian", "version-id": "12", "machine": "x86_64"},
    "guest-get-timezone": {"zone": "UTC", "offset": 0},
    "guest-network-get-interfaces": [
        {"name": "lo", "ip-addresses": [{"ip-address": "127.0.0.1", "prefix": 8}]},
        {"name": "eth0", "hardware-address": "52:54:00:00:00:01", "statistics": {"rx-bytes": 2**63}},
    ],
    "guest-get-users": [{"user": "root", "login-time": 1763708400.5}],
    "guest-get-vcpus": [{"logical-id": 0, "online": True, "can-offline": False}],
    "guest-get-fsinfo": [{"name": "vda1", "mountpoint": "/", "type": "ext4", "disk": []}],
}


def telling(**changes: object) -> FakeQga:
    """An agent with something to tell; the changes' names are the commands', with _ for -."""
    return FakeQga(results={**RESULTS, **{name.replace("_", "-"): result for name, result in changes.items()}})


def commands(agent: FakeQga) -> list[str]:
    """What it was asked, but for what it is."""
    return [name for name in agent.commands() if name != "guest-info"]


def told(lone: LoneQga) -> dict[str, object]:
    return {view.name: view.value for view in lone.facts.views()}


@asynccontextmanager
async def agreed(agent: FakeQga | None = None, *, direct: bool = False) -> AsyncIterator[tuple[LoneQga, FakeQga]]:
    async with LoneQga(direct=direct).running() as lone:
        agent = lone.open(agent or telling())
        await settle(0.1)
        yield lone, agent


async def refresh(lone: LoneQga) -> float:
    """How long it took."""
    begun = now()
    await lone.channel.refresh()
    return now() - begun


class TestAsking:
    def test_what_is_asked_is_in_the_table_and_changes_nothing(self) -> None:
        assert {*FACT_COMMANDS} == {*RESULTS}
        assert {*FACT_COMMANDS} <= {*QGA_COMMANDS}
        assert all("-get-" in command for command in FACT_COMMANDS)

    @pytest.mark.parametrize("direct", [False, True])
    async def test_all_that_it_tells(self, direct: bool) -> None:
        async with agreed(direct=direct) as (lone, agent):
            await refresh(lone)
            assert told(lone) == RESULTS
            assert commands(agent) == [*FACT_COMMANDS]
            assert {(view.channel, view.dialect) for view in lone.facts.views()} == {(DIRECT if direct else QGA, "qga")}

    async def test_nothing_unasked(self) -> None:
        async with agreed() as (lone, agent):
            await settle(10_000)
            assert commands(agent) == []
            assert lone.facts.views() == ()

    async def test_one_after_the_other(self) -> None:
        async with agreed() as (lone, _):
            assert await refresh(lone) == pytest.approx(len(FACT_COMMANDS) * LATENCY_S)
            assert lone.domain.port.in_flight_most == 1

    async def test_not_again_while_it_is_fresh(self) -> None:
        async with agreed() as (lone, agent):
            await refresh(lone)
            for _ in range(10):
                await settle(2.9)
                assert await refresh(lone) == 0
            assert len(commands(agent)) == len(FACT_COMMANDS)
            agent.results["guest-get-host-name"] = {"host-name": "another"}
            await settle(FRESH_S - 29 + 0.1)
            await refresh(lone)
            assert told(lone) == {**RESULTS, "guest-get-host-name": {"host-name": "another"}}
            assert len(commands(agent)) == 2 * len(FACT_COMMANDS)
            await settle(3)
            assert {round(view.age_seconds, 1) for view in lone.facts.views()} == {3.0}

    async def test_those_who_ask_at_once_share_it(self) -> None:
        async with agreed() as (lone, agent):
            begun = now()
            await asyncio.gather(*(lone.channel.refresh() for _ in range(50)))
            assert now() - begun == pytest.approx(len(FACT_COMMANDS) * LATENCY_S)
            assert commands(agent) == [*FACT_COMMANDS]

    async def test_one_who_gives_up_takes_nothing_from_the_others(self) -> None:
        async with agreed() as (lone, _):
            first, second = (asyncio.create_task(lone.channel.refresh()) for _ in range(2))
            await settle(2 * LATENCY_S)
            first.cancel()
            await second
            assert first.cancelled()
            assert told(lone) == RESULTS

    async def test_an_old_agent_that_knows_no_id(self) -> None:
        agent = telling()
        agent.knows_id, agent.version = False, "2.12.1"
        async with agreed(agent) as (lone, _):
            await refresh(lone)
            assert told(lone) == RESULTS


class TestNotAsking:
    async def test_what_is_refused_is_not_sent(self) -> None:
        agent = telling()
        agent.blocked = {"guest-get-users", "guest-network-get-interfaces"}
        async with agreed(agent) as (lone, _):
            await refresh(lone)
            assert commands(agent) == [command for command in FACT_COMMANDS if command not in agent.blocked]
            assert told(lone).keys() == RESULTS.keys() - agent.blocked

    async def test_what_is_newer_than_the_agreement_is_not_sent(self) -> None:
        async with LoneQga(Release(2, 3)).running() as lone:
            agent = lone.open(telling())
            await settle(0.1)
            await refresh(lone)
            assert commands(agent) == ["guest-network-get-interfaces", "guest-get-vcpus", "guest-get-fsinfo"]

    async def test_one_that_is_not_there_or_not_agreed(self) -> None:
        async with LoneQga(Release(0, 0)).running() as lone:
            assert await refresh(lone) == 0
            agent = lone.open(telling())
            await settle(0.1)
            assert lone.verdict() == ("unversioned", "0", "host-capped")
            assert await refresh(lone) == 0
            assert commands(agent) == []

    async def test_what_was_not_asked_is_asked_as_soon_as_it_can_be(self) -> None:
        async with LoneQga().running() as lone:
            await refresh(lone)
            lone.open(telling())
            await settle(0.1)
            await refresh(lone)
            assert told(lone) == RESULTS

    async def test_one_that_is_frozen(self) -> None:
        async with agreed() as (lone, agent):
            await lone.channel.send("guest-fsfreeze-freeze", {}, 5)
            await settle(0.1)
            assert lone.verdict() == ("agreed", "7.2", "guest-frozen")
            assert await refresh(lone) == 0
            assert commands(agent) == ["guest-fsfreeze-freeze"]
            await lone.channel.send("guest-fsfreeze-thaw", {}, 5)
            await settle(0.1)
            await refresh(lone)
            assert told(lone) == RESULTS

    async def test_a_guest_that_stands(self) -> None:
        async with agreed() as (lone, agent):
            await refresh(lone)
            lone.stop_clock()
            await settle(100)
            assert await refresh(lone) == 0
            assert len(commands(agent)) == len(FACT_COMMANDS)
            assert told(lone) == RESULTS
            lone.start_clock()
            await refresh(lone)
            assert len(commands(agent)) == 2 * len(FACT_COMMANDS)

    async def test_a_guest_that_stops_meanwhile_is_asked_no_more(self) -> None:
        async with agreed(direct=True) as (lone, agent):
            agent.on_command = lambda name: lone.stop_clock() if name == "guest-get-timezone" else None
            await refresh(lone)
            assert commands(agent) == [*FACT_COMMANDS[:3]]

    async def test_a_channel_that_is_closed(self) -> None:
        lone = LoneQga()
        async with lone.running():
            agent = lone.open(telling())
            await settle(0.1)
        assert await refresh(lone) == 0
        assert commands(agent) == []

    async def test_a_channel_that_closes_meanwhile_lets_everybody_go(self) -> None:
        async with agreed() as (lone, agent):
            agent.silent = True
            asking = asyncio.create_task(refresh(lone))
            await settle(0.5)
            lone.channel.close()
            assert await asking == pytest.approx(0.5)
            assert commands(agent) == [FACT_COMMANDS[0]]


class TestTrouble:
    async def test_one_that_hangs_is_waited_for_no_longer_and_doubted(self) -> None:
        async with agreed() as (lone, agent):
            await refresh(lone)
            await settle(FRESH_S + 1)
            asked, agent.silent = agent.asked, True
            assert await refresh(lone) == pytest.approx(REFRESH_S)
            assert commands(agent)[len(FACT_COMMANDS) :] == [FACT_COMMANDS[0]]
            assert told(lone) == RESULTS  # as of then
            assert lone.facts.views()[0].age_seconds > FRESH_S
            assert lone.verdict() == ("agreed", "7.2", None)
            await settle(5.1)
            assert agent.asked == asked + 1
            assert lone.verdict()[0] == "lost"

    async def test_one_that_hangs_over_one_of_them_has_told_the_others(self) -> None:
        async with agreed() as (lone, agent):
            agent.on_command = lambda name: setattr(agent, "silent", name == "guest-get-fsinfo")
            assert await refresh(lone) == pytest.approx(REFRESH_S)
            assert told(lone) == {name: value for name, value in RESULTS.items() if name != "guest-get-fsinfo"}
            await settle(1)
            assert lone.verdict() == ("agreed", "7.2", None)  # it answers what it is

    async def test_one_that_hangs_is_not_asked_by_each_who_comes(self) -> None:
        async with agreed() as (lone, agent):
            agent.silent = True
            first = asyncio.create_task(refresh(lone))
            await settle(1)
            assert await refresh(lone) == pytest.approx(REFRESH_S - 1, abs=0.01)
            assert await first == pytest.approx(REFRESH_S)
            assert await refresh(lone) == 0
            assert len(commands(agent)) == 1

    async def test_nothing_is_begun_that_has_no_time_to_be_answered(self) -> None:
        async with agreed() as (lone, agent):
            late = asyncio.create_task(lone.channel.send("guest-get-time", {}, 5))
            agent.silent = True
            await settle(LATENCY_S / 2)
            refreshing = asyncio.create_task(refresh(lone))
            await settle(REFRESH_S - LEAST_S + 0.1)
            agent.silent = False
            lone.domain.port.left.set()  # the other's command is over
            await asyncio.wait([late])
            assert late.exception() is not None
            assert await refreshing < REFRESH_S - LEAST_S + 0.2
            assert commands(agent) == ["guest-get-time", FACT_COMMANDS[0]]
            assert told(lone).keys() == {FACT_COMMANDS[0]}

    async def test_another_client_that_holds_the_agent(self) -> None:
        async with agreed() as (lone, agent):
            lone.domain.port.job_held = True
            assert await refresh(lone) == pytest.approx(REFRESH_S)
            assert commands(agent) == []
            assert told(lone) == {}
            lone.domain.port.job_held = False
            await settle(FRESH_S + 60)
            await refresh(lone)
            assert told(lone) == RESULTS

    async def test_an_agent_that_libvirt_gave_up(self) -> None:
        async with agreed() as (lone, agent):
            lone.domain.port.poisoned = True
            calls = len(lone.domain.port.calls)
            assert await refresh(lone) < 0.1
            await settle(0.1)
            assert len(lone.domain.port.calls) == calls + 2  # one command, and what it is
            assert commands(agent) == []
            assert lone.verdict()[::2] == ("lost", "agent-poisoned")

    async def test_an_error_is_one_commands_own(self) -> None:
        async with agreed(telling(guest_get_osinfo="it is secret", guest_get_users="\x1b[31m")) as (lone, agent):
            await refresh(lone)
            assert commands(agent) == [*FACT_COMMANDS]
            assert told(lone).keys() == RESULTS.keys() - {"guest-get-osinfo", "guest-get-users"}
            assert lone.verdict() == ("agreed", "7.2", None)

    async def test_an_agent_that_has_a_command_no_more_is_asked_what_it_has(self) -> None:
        async with agreed() as (lone, agent):
            agent.blocked = {"guest-get-osinfo"}
            asked = agent.asked
            await refresh(lone)
            await settle(0.1)
            assert agent.asked == asked + 1
            assert told(lone).keys() == RESULTS.keys() - agent.blocked

    async def test_what_fails_takes_nothing_back(self) -> None:
        async with agreed() as (lone, agent):
            await refresh(lone)
            agent.results["guest-get-users"] = "no utmp"
            await settle(FRESH_S + 1)
            await refresh(lone)
            assert told(lone) == RESULTS


class TestHostileAnswers:
    @pytest.mark.parametrize(
        ("answer", "value"),
        [
            ({"host-name": "a\x00\x1b[31m"}, {"host-name": "a\ufffd\ufffd[31m"}),
            ({"host-name": 2**64}, None),
            ({"x": ["y"] * 5}, {"x": ["y"] * 5}),
            ({"x": "y" * FACT_LIMIT_BYTES}, None),
            ([], []),
            (17, 17),
            ([[]] * 20_000, None),
            (["x" * 1000] * 100, ["x" * 1000] * 65),
        ],
        ids=range(8),
    )
    async def test_what_is_kept_of_it(self, answer: object, value: object) -> None:
        async with agreed(telling(guest_get_host_name=answer)) as (lone, _):
            await refresh(lone)
            kept = told(lone)
            assert kept.pop("guest-get-host-name", None) == value
            assert kept == {name: value for name, value in RESULTS.items() if name != "guest-get-host-name"}

    async def test_a_list_that_was_cut_says_so(self) -> None:
        async with agreed(telling(guest_get_users=[{"user": "x" * 1000}] * 100)) as (lone, _):
            await refresh(lone)
            assert {view.name for view in lone.facts.views() if view.truncated} == {"guest-get-users"}

    async def test_an_answer_that_is_too_deep(self) -> None:
        deep: list[object] = []
        for _ in range(50):
            deep = [deep]
        async with agreed(telling(guest_get_users=deep)) as (lone, _):
            await refresh(lone)
            assert told(lone).keys() == RESULTS.keys() - {"guest-get-users"}
