import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sidecar.errors import AgentBusyError, AgentLeftError, NoAnswerError
from sidecar.protocol.qga_commands import QGA_COMMANDS
from sidecar.protocol.releases import Release
from sidecar.record.agreement import ChannelRow
from tests.engine.lone_host import now, settle
from tests.engine.lone_qga import DIRECT, QGA, LoneQga
from tests.fakes.qga_agent import FakeQga

pytestmark = pytest.mark.looptime


def both_ways(test: Callable[[Any, LoneQga], Awaitable[None]]) -> Any:
    """The test is given a running channel: once through libvirt, once direct."""

    @pytest.mark.parametrize("direct", [False, True], ids=["libvirt", "direct"])
    async def run(self: object, direct: bool) -> None:
        async with LoneQga(direct=direct).running() as lone:
            await test(self, lone)

    return run


async def agreed(lone: LoneQga, agent: FakeQga | None = None) -> FakeQga:
    opened = lone.open(agent)
    await settle(0.1)
    assert lone.verdict() == ("agreed", opened.version.rpartition(".")[0], None)
    return opened


class TestAsking:
    @both_ways
    async def test_one_question_at_each_opening_and_none_after_it(self, lone: LoneQga) -> None:
        agent = await agreed(lone)
        await settle(10_000)
        assert agent.commands() == ["guest-info"]
        lone.close()
        assert lone.verdict() == ("lost", "0", "port-closed")
        newer = await agreed(lone, FakeQga("10.0.2"))
        await settle(10_000)
        assert newer.commands() == ["guest-info"]

    async def test_an_end_that_is_open_already_is_asked_once(self) -> None:
        for direct in (False, True):
            async with LoneQga(direct=direct, opened=True).running() as lone:
                await settle(0.1)
                assert lone.verdict() == ("agreed", "7.2", None)
                lone._report(True)  # the report of what the XML said
                await settle(1)
                assert lone.agent.asked == 1
                lone._report(True)  # two in a row: a closing was swallowed
                await settle(1)
                assert lone.agent.asked == 2

    @both_ways
    async def test_nothing_is_asked_while_the_guest_stands(self, lone: LoneQga) -> None:
        lone.stop_clock()
        agent = lone.open()
        await settle(500)
        assert agent.received == []
        assert lone.verdict() == ("waiting", "0", "not-heard")
        lone.start_clock()
        await settle(0.1)
        assert lone.verdict() == ("agreed", "7.2", None)

    @both_ways
    async def test_never_opened_is_absent_after_a_while_of_the_guests_time(self, lone: LoneQga) -> None:
        await settle(100)
        lone.stop_clock()
        await settle(500)
        lone.start_clock()
        assert lone.verdict() == ("waiting", "0", "not-heard")
        await settle(21)
        assert lone.verdict() == ("absent", "0", "not-opened")
        await agreed(lone)

    @both_ways
    async def test_ids_are_never_the_same_twice(self, lone: LoneQga) -> None:
        agent = await agreed(lone)
        for _ in range(20):
            await lone.channel.send("guest-ping", {}, 5)
        ids = [str(request["id"]) for request in agent.received]
        assert len({*ids}) == 21
        assert all(len(one) == 32 for one in ids)

    @both_ways
    async def test_an_agent_of_before_id_is_synchronised_with_before_each_command(self, lone: LoneQga) -> None:
        agent = await agreed(lone, FakeQga("2.12.0", knows_id=False))
        assert agent.commands() == ["guest-info", "guest-info", "guest-sync", "guest-info"]
        agent.received.clear()
        assert await lone.channel.send("guest-get-time", {}, 5) == {}
        assert agent.commands() == ["guest-sync", "guest-get-time"]
        assert not any("id" in request for request in agent.received)
        nonces = [request["arguments"]["id"] for request in agent.received if "arguments" in request]  # type: ignore[index]
        assert all(0 < nonce < 2**53 for nonce in nonces)

    @both_ways
    async def test_a_reply_without_our_id_is_no_answer(self, lone: LoneQga) -> None:
        agent = FakeQga()
        agent.smuggled = ['{"return": {"version": "1.0.0", "supported_commands": []}}']
        await agreed(lone, agent)
        assert agent.asked == 2
        await lone.channel.send("guest-ping", {}, 5)
        assert "id" in agent.received[-1], "one line without it does not make the agent an old one"

    @both_ways
    async def test_blocked_guest_info_is_a_verdict_and_not_asked_again(self, lone: LoneQga) -> None:
        agent = lone.open(FakeQga(blocked={"guest-info"}))
        await settle(10_000)
        assert lone.verdict() == ("unversioned", "0", "guest-info-blocked")
        assert agent.asked == 1

    @both_ways
    async def test_an_answer_to_an_agent_that_is_gone_does_not_count(self, lone: LoneQga) -> None:
        lone.open(FakeQga("10.0.0"))
        await settle(0.002)
        lone.close()
        newer = lone.open(FakeQga("5.2.0"))
        await settle(0.1)
        assert lone.verdict() == ("agreed", "5.2", None)
        assert newer.asked == 1

    @both_ways
    async def test_flapping_is_asked_six_times_a_minute(self, lone: LoneQga) -> None:
        agent = FakeQga()
        for _ in range(60):
            lone.open(agent)
            await settle(0.5)
            lone.close()
            await settle(0.5)
        assert agent.asked <= 7
        lone.open(agent)
        assert lone.verdict()[2] == "flapping"
        await settle(200)
        assert lone.verdict() == ("agreed", "7.2", None)

    async def test_asked_before_libvirt_was_ready_to(self) -> None:
        async with LoneQga().running() as lone:
            lone.channel.port_seen(True)  # the XML shows it, and libvirt's own connection is not up yet
            await settle(0.05)
            lone.open()
            await settle(0.05)
            assert lone.verdict() == ("agreed", "7.2", None)


class TestWhatNoEventTells:
    async def asked_at(self, lone: LoneQga, seconds: float) -> list[float]:
        times: list[float] = []
        started = now()
        lone.agent.on_command = lambda _name: times.append(now() - started)
        await settle(seconds)
        return times

    async def test_silence_is_asked_again_after_1_doubling_to_60_seconds(self) -> None:
        async with LoneQga().running() as lone:
            lone.open(FakeQga(silent=True))
            times = await self.asked_at(lone, 400)
            assert lone.verdict() == ("lost", "0", "agent-silent")
            pauses = [round(later - earlier - 5) for earlier, later in itertools.pairwise(times)]
            assert pauses[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
            assert lone.domain.port.calls[:3] == [False, True, True], "known to hang: in the pool of those"
            lone.agent.silent = False
            await settle(66)
            assert lone.verdict() == ("agreed", "7.2", None)

    async def test_silence_of_a_direct_agent(self) -> None:
        async with LoneQga(direct=True).running() as lone:
            lone.open(FakeQga(silent=True))
            await settle(5.1)
            assert lone.verdict() == ("lost", "0", "agent-silent")
            lone.agent.silent = False
            await settle(2)
            assert lone.verdict() == ("agreed", "7.2", None)

    async def test_poisoned_and_back(self) -> None:
        async with LoneQga().running() as lone:
            lone.domain.port.poisoned = True
            lone.open()
            await settle(0.1)
            assert lone.verdict() == ("lost", "0", "agent-poisoned")
            await settle(100)
            assert 5 <= len(lone.domain.port.calls) <= 8
            lone.close()
            assert lone.verdict() == ("lost", "0", "port-closed")
            await agreed(lone)

    async def test_another_clients_agent_job(self) -> None:
        async with LoneQga().running() as lone:
            lone.domain.port.job_held = True
            lone.open()
            await settle(29)
            assert lone.verdict() == ("waiting", "0", "not-heard")
            await settle(1.1)
            assert lone.verdict() == ("waiting", "0", "agent-job-held")
            lone.domain.port.job_held = False
            await settle(2)
            assert lone.verdict() == ("agreed", "7.2", None)

    @both_ways
    async def test_frozen_on_arrival_is_not_judged_until_it_thaws(self, lone: LoneQga) -> None:
        agent = lone.open(FakeQga(frozen=True))
        await settle(0.1)
        assert lone.verdict() == ("waiting", "0", "guest-frozen")
        await settle(100)
        assert agent.asked == 7
        agent.frozen = False
        await settle(64)
        assert lone.verdict() == ("agreed", "7.2", None)

    @both_ways
    async def test_freezing_by_us_keeps_what_was_agreed_and_closes_the_gate(self, lone: LoneQga) -> None:
        await agreed(lone)
        assert await lone.channel.send("guest-fsfreeze-freeze", {}, 5) == 1
        await settle(0.1)
        assert lone.verdict() == ("agreed", "7.2", "guest-frozen")
        allowed = {name for name in QGA_COMMANDS if lone.channel.refuse(name) is None}
        assert allowed == {"guest-ping", "guest-info", "guest-fsfreeze-status", "guest-fsfreeze-thaw"}
        assert await lone.channel.send("guest-fsfreeze-thaw", {}, 5) == 1
        await settle(0.1)
        assert lone.verdict() == ("agreed", "7.2", None)

    @both_ways
    async def test_garbage_for_a_list_of_commands(self, lone: LoneQga) -> None:
        agent = FakeQga(results={"guest-info": ["no", "list"]})
        lone.open(agent)
        await settle(0.1)
        assert lone.verdict() == ("lost", "0", "bad-reply")
        agent.results.clear()
        await settle(2)
        assert lone.verdict() == ("agreed", "7.2", None)

    async def test_libvirt_was_away(self) -> None:
        async with LoneQga().running() as lone:
            await agreed(lone)
            row = lone.channel.row
            lone._serve(FakeQga("10.0.0"))
            lone.channel.reports_lost()
            lone.channel.port_seen(True)
            await settle(0.1)
            assert lone.verdict() == ("agreed", "10.0", None)
            lone.channel.reports_lost()
            lone.channel.port_seen(False)
            assert lone.verdict() == ("lost", "0", "port-closed")
            assert row != lone.channel.row

    async def test_a_pause_is_no_silence(self) -> None:
        async with LoneQga().running() as lone:
            lone.open(FakeQga(silent=True))
            await settle(1)
            lone.stop_clock()
            await settle(60)
            assert lone.verdict() == ("waiting", "0", "not-heard")
            lone.agent.silent = False
            lone.start_clock()
            await settle(2)
            assert lone.verdict() == ("agreed", "7.2", None)


class TestLeaving:
    """An agent that leaves while a command is under way ends it, and the next agent is asked at once."""

    @both_ways
    async def test_in_the_middle_of_a_command(self, lone: LoneQga) -> None:
        agent = await agreed(lone)
        agent.silent = True
        sending = asyncio.create_task(lone.channel.send("guest-exec", {}, 600))
        await settle(1)
        lone.close()
        with pytest.raises(AgentLeftError):
            await sending
        await agreed(lone, FakeQga("10.0.2"))

    @both_ways
    async def test_in_the_middle_of_being_asked(self, lone: LoneQga) -> None:
        lone.open(FakeQga(silent=True))
        await settle(0.2)
        lone.close()
        await settle(0.2)
        await agreed(lone, FakeQga("10.0.2"))

    @both_ways
    async def test_a_command_that_fails_after_the_end_starts_nothing(self, lone: LoneQga) -> None:
        agent = await agreed(lone)
        agent.silent = True
        sending = asyncio.create_task(lone.channel.send("guest-exec", {}, 3))
        await settle(1)
        lone.channel.close()
        with pytest.raises(NoAnswerError):
            await sending

    @both_ways
    async def test_when_everything_ends_with_it(self, lone: LoneQga) -> None:
        lone.open(FakeQga(silent=True))
        await settle(0.2)
        lone.close()
        lone.open(FakeQga())  # asked as soon as the question to the other one is over, unless we are over before


class TestDirect:
    async def test_what_the_one_who_has_gone_did_not_read_nobody_reads(self) -> None:
        async with LoneQga(direct=True).running() as lone:
            lone.open()
            await settle(1)
            (connection,) = lone.socket.clients
            connection.unread += b"guest-shutdown"
            lone.close()
            await settle(1)
            assert not connection.open
            assert len(lone.socket.clients) == 1
            lone.open()
            await settle(1)
            assert lone.verdict()[0] == "agreed"

    async def test_another_program_has_the_socket(self) -> None:
        lone = LoneQga(direct=True)
        lone.socket.shown = False  # nor can it be seen
        other = lone.socket.connect(lambda _data: None)
        async with lone.running():
            lone.open()
            await settle(5.1)
            assert lone.verdict() == ("waiting", "0", "socket-busy")
            other.close()
            await settle(100)
            assert lone.verdict() == ("agreed", "7.2", None)

    async def test_the_socket_breaks(self) -> None:
        async with LoneQga(direct=True).running() as lone:
            await agreed(lone)
            lone.socket.clients[0].close()
            await settle(0.1)
            assert lone.verdict() == ("lost", "0", "disconnected")
            await settle(1)
            assert lone.verdict() == ("agreed", "7.2", None)

    async def test_nobody_serves_the_socket(self) -> None:
        lone = LoneQga(direct=True)
        lone.socket.refusing = True
        async with lone.running():
            lone.open()
            await settle(2)
            assert lone.verdict() == ("waiting", "0", "socket-unreachable")
            with pytest.raises(Exception, match="socket-unreachable"):
                await lone.channel.send("guest-ping", {}, 5)

    async def test_a_socket_that_comes_late_is_dialled_when_the_guest_opens_it(self) -> None:
        lone = LoneQga(direct=True)
        lone.socket.refusing = True
        async with lone.running():
            await settle(100)
            lone.socket.refusing = False
            lone.open()
            await settle(0.1)
            assert lone.verdict() == ("agreed", "7.2", None)


class TestRecord:
    async def test_row(self) -> None:
        async with LoneQga(Release(5, 2)).running() as lone:
            lone.open()
            await settle(0.1)
            row = lone.channel.row
            assert (row.name, row.dialect, row.state, row.version) == (QGA, "qga", "agreed", "5.2")
            assert (row.guest, row.host, row.reason) == ("7.2.22", "5.2", None)

    async def test_a_restart_of_ours_changes_nothing_on_record(self) -> None:
        recorded = ChannelRow(QGA, "qga", "agreed", "7.2", "7.2.22", "10.0", "2026-11-21T00:00:00.000Z", None)
        async with LoneQga(opened=True, recorded=recorded).running() as lone:
            assert lone.channel.row == recorded
            await settle(10)
            assert lone.channel.row == recorded
            assert lone.agent.asked == 1

    @pytest.mark.parametrize("state", ["lost", "absent"])
    async def test_a_restart_of_ours_while_nobody_is_there(self, state: str) -> None:
        reason = {"lost": "port-closed", "absent": "not-opened"}[state]
        recorded = ChannelRow(DIRECT, "qga", state, "0", None, "10.0", "2026-11-21T00:00:00.000Z", reason)
        async with LoneQga(direct=True, recorded=recorded).running() as lone:
            await settle(500)
            assert lone.channel.row == recorded

    async def test_a_cap_that_changes(self) -> None:
        async with LoneQga().running() as lone:
            agent = await agreed(lone)
            for maximum, verdict in (
                (Release(0, 0), ("unversioned", "0", "host-capped")),
                (Release(5, 2), ("agreed", "5.2", None)),
            ):
                lone.surroundings.settings = type(lone.surroundings.settings)(4, 120, 120, qga_maximum=maximum)
                lone.channel.settings_changed()
                assert lone.verdict() == verdict
            assert agent.asked == 1


async def test_one_call_at_a_time_and_the_rest_wait_their_turn() -> None:
    async with LoneQga().running() as lone:
        agent = await agreed(lone)
        await asyncio.gather(*(lone.channel.send("guest-ping", {}, 5) for _ in range(10)))
        assert lone.domain.port.in_flight_most == 1
        agent.silent = True
        calls = [lone.channel.send("guest-ping", {}, seconds) for seconds in (4, 2)]
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(end) for end in ends] == [NoAnswerError, AgentBusyError]
