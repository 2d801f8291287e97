import asyncio
import itertools
import json
import logging
from dataclasses import replace

import pytest

from sidecar.errors import ChannelUnreachableError
from sidecar.record.agreement import ChannelRow
from tests.engine.lone_channel import LoneChannel
from tests.engine.lone_host import NEW, settle
from tests.fakes.ovirt_agent import AgentModel, Era

pytestmark = pytest.mark.looptime


def commands(channel: LoneChannel) -> list[str]:
    return [json.loads(line)["__name__"] for line in channel.guest.heard.splitlines()]


def recorded(state: str = "agreed", version: str = "3", reason: str | None = None) -> ChannelRow:
    return ChannelRow(NEW, "ovirt", state, version, "3", "4", "2026-11-20T00:00:00.000Z", reason)


class TestNegotiation:
    @pytest.mark.parametrize(
        ("era", "verdict"),
        [
            (Era.V1_0_8, ("unversioned", "0", "no-version")),
            (Era.V1_0_10, ("agreed", "1", None)),
            (Era.V1_0_11, ("agreed", "2", None)),
            (Era.V1_0_16, ("agreed", "3", None)),
        ],
    )
    async def test_every_era_ends_at_the_lower_maximum(self, era: Era, verdict: tuple[str, str, str | None]) -> None:
        async with LoneChannel().running() as c:
            c.guest.agent = AgentModel(era)
            c.guest.open()
            await settle(11)
            assert verdict == c.verdict
            assert c.guest.agent.version == int(verdict[1])

    async def test_first_words_wait_in_the_port(self) -> None:
        async with LoneChannel().running() as c:
            await settle(100)
            assert c.socket.clients[0].unread_bytes() > 0
            c.guest.open()
            await settle(0.01)
            assert commands(c) == ["refresh"]

    async def test_host_capped_to_zero_never_says_a_version(self) -> None:
        async with LoneChannel(maximum=0).running() as c:
            c.guest.open()
            await settle(60)
            assert c.verdict == ("unversioned", "0", "host-capped")
            assert b"apiVersion" not in c.guest.heard

    async def test_restarted_agent(self) -> None:
        async with LoneChannel().running() as c:
            c.guest.open()
            await settle(10)
            c.guest.close()
            await settle(1)
            assert c.channel.row.reason == "port-closed"
            c.guest.agent = AgentModel(Era.V1_0_16)
            c.guest.open()
            await settle(10)
            assert c.verdict == ("agreed", "3", None)
            assert c.guest.agent.version == 3

    async def test_new_cap_is_negotiated_at_once(self) -> None:
        async with LoneChannel().running() as c:
            c.guest.open()
            await settle(10)
            c.surroundings.settings = replace(c.surroundings.settings, ovirt_maximum=1)
            c.channel.settings_changed()
            await settle(0.01)
            assert c.verdict == ("agreed", "1", None)
            assert c.guest.agent.version == 1

    async def test_bad_input_is_one_line_of_log(self, caplog: pytest.LogCaptureFixture) -> None:
        async with LoneChannel().running() as c:
            c.guest.open()
            for _ in range(50):
                c.socket.write(b"\xff\xfe[[\n" * 100)
                await settle(0.1)
            await settle(10)
            assert c.verdict == ("agreed", "3", None)
            assert len([r for r in caplog.records if "bad input" in r.message]) == 1


class TestDeadlines:
    async def test_silence_is_loss(self) -> None:
        async with LoneChannel().running() as c:
            c.guest.open()
            await settle(10)
            c.guest.silence()
            await settle(114)
            assert c.verdict[0] == "agreed"
            await settle(7)
            assert c.verdict == ("lost", "0", "agent-silent")

    async def test_never_opened_is_absence(self) -> None:
        async with LoneChannel().running() as c:
            await settle(119)
            assert c.verdict == ("waiting", "0", "not-heard")
            await settle(2)
            assert c.verdict == ("absent", "0", "not-opened")

    @pytest.mark.parametrize("speaks", [True, False])
    async def test_stand_still_while_the_guest_does(self, *, speaks: bool) -> None:
        async with LoneChannel().running() as c:
            if speaks:
                c.guest.open()
            await settle(60)
            before = c.verdict
            c.guest.stand()
            c.guest.silence()
            c.stop_clock()
            await settle(10_000)
            assert c.verdict == before
            c.start_clock()
            await settle(50)
            assert c.verdict == before
            await settle(75)
            assert c.verdict[0] == ("lost" if speaks else "absent")

    @pytest.mark.parametrize("step_s", [0.1, 0.3, 1 / 3])
    async def test_no_timer_spins(self, step_s: float) -> None:
        async with LoneChannel().running() as c:
            for _ in range(20):  # sums of such steps are never exact
                c.stop_clock()
                await settle(step_s)
                c.start_clock()
                await settle(step_s)
            changes = c.changes
            await settle(1000)
            assert c.changes - changes < 5


class TestRecorded:
    async def test_same_verdict_after_a_restart_of_the_daemon_stays(self) -> None:
        c = LoneChannel(opened=True, recorded=recorded())
        c.guest.agent.heartbeat()
        c.guest.agent.version = 3
        async with c.running():
            rows = {c.channel.row}
            c.guest.arrive(c.socket, c.channel.port_changed, 4.9)
            for _ in range(200):
                await settle(0.1)
                rows.add(c.channel.row)
            assert rows == {recorded()}
            assert commands(c).count("api-version") == 1

    async def test_live_view_is_never_stale(self) -> None:
        c = LoneChannel(opened=True, recorded=recorded())
        c.socket.peer = c.guest  # whose heart does not beat
        async with c.running():
            assert (c.channel.row.state, c.channel.view.state, c.channel.heard) == ("agreed", "waiting", False)
            await settle(8)
            assert c.verdict == ("waiting", "0", "not-heard")

    @pytest.mark.parametrize(
        "row",
        [
            replace(recorded(), state="happy"),
            replace(recorded(), version="3.5"),
            replace(recorded(), guest="x"),
            replace(recorded(), reason="because"),
            replace(recorded(), dialect="qga"),
        ],
    )
    async def test_a_row_that_we_never_wrote_is_ignored(self, row: ChannelRow) -> None:
        async with LoneChannel(recorded=row).running() as c:
            assert c.verdict == ("waiting", "0", "not-heard")
            assert c.channel.row.since > row.since

    async def test_since_moves_with_the_state_alone(self) -> None:
        async with LoneChannel().running() as c:
            await settle(1)
            first = c.channel.row.since
            c.guest.open()
            await settle(0.02)
            assert c.channel.row.since == first
            await settle(10)
            agreed = c.channel.row.since
            assert first < agreed
            await settle(100)
            assert c.channel.row.since == agreed


class TestDialling:
    async def test_unreachable_is_dialled_with_backoff(self, caplog: pytest.LogCaptureFixture) -> None:
        c = LoneChannel()
        c.socket.refusing = True
        dials = 0
        real_dial = c.dialer.dial

        async def dial(*arguments: object) -> object:
            nonlocal dials
            dials += 1
            return await real_dial(*arguments)  # type: ignore[arg-type]

        c.dialer.dial = dial  # type: ignore[method-assign,assignment]
        async with c.running():
            await settle(600)
            assert 10 < dials < 35
            assert c.channel.view.reason == "socket-unreachable"
            assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == 1
            c.socket.refusing = False
            c.guest.open()
            await settle(60)
            assert c.verdict == ("agreed", "3", None)

    async def test_a_socket_that_comes_late_is_no_fault(self, caplog: pytest.LogCaptureFixture) -> None:
        c = LoneChannel()
        c.socket.refusing = True
        async with c.running():
            await settle(0.1)
            c.socket.refusing = False
            await settle(0.5)
            assert c.socket.clients
            assert caplog.records == []

    @pytest.mark.parametrize("news", ["the guest runs", "its end is open"])
    async def test_news_of_the_guest_cuts_the_backoff_short(self, news: str) -> None:
        c = LoneChannel()
        c.socket.refusing = True
        c.stop_clock()
        async with c.running():
            await settle(100)
            c.socket.refusing = False
            await settle(0.1)
            assert not c.socket.clients
            if news == "the guest runs":
                c.start_clock()
            else:
                c.channel.port_changed(opened=True)
            await settle(0.1)
            assert c.socket.clients

    async def test_news_while_it_is_dialled_is_not_lost(self) -> None:
        c = LoneChannel()
        c.socket.refusing = True
        async with c.running():
            await settle(100)
            dial = c.dialer.dial

            async def dial_slowly(*arguments: object) -> object:
                c.dialer.dial = dial  # type: ignore[method-assign]
                c.start_clock()
                c.socket.refusing = False
                raise ChannelUnreachableError("too early")

            c.dialer.dial = dial_slowly  # type: ignore[method-assign,assignment]
            c.start_clock()
            await settle(0.1)
            assert c.socket.clients

    async def test_foreign_process_is_told_nothing(self) -> None:
        c = LoneChannel()
        c.socket.pid = 666
        async with c.running():
            await settle(60)
            assert c.channel.view.reason == "socket-foreign"
            assert c.dialer.made == []
            assert 3 < len(c.socket.dials) < 15

    async def test_a_peer_that_hangs_up_at_once_does_not_make_us_spin(self) -> None:
        c = LoneChannel()
        c.socket.hangs_up = True
        async with c.running():
            await settle(100)
            assert 3 < len(c.socket.dials) <= 400

    async def test_connection_cut_is_dialled_again_and_negotiated_anew(self) -> None:
        async with LoneChannel().running() as c:
            c.guest.open()
            await settle(10)
            c.dialer.made[0].close()
            await settle(0.1)
            assert (c.channel.view.state, c.verdict[0]) == ("lost", "agreed")  # too short for the record
            await settle(6)
            assert c.verdict == ("agreed", "3", None)
            assert commands(c).count("api-version") == 2

    async def test_cancelled_while_dialling_leaves_nothing(self) -> None:
        for patience_s in (0.0, 0.0001, 0.02, 3):
            c = LoneChannel()
            c.socket.refusing = patience_s == 3
            async with asyncio.TaskGroup() as group:
                c.channel.start(group)
                await asyncio.sleep(patience_s)
                c.channel.close()
            assert c.dialer.open_connections == 0

    async def test_bytes_of_a_closed_connection_are_not_heard(self) -> None:
        async with LoneChannel().running() as c:
            c.socket.write(b'{"__name__": "heartbeat", "apiVersion": 3}\n')
            c.channel.stand_by()
            await settle(1)
            assert not c.channel.heard


class TestStandBy:
    async def test_lets_go_and_wakes(self) -> None:
        async with LoneChannel().running() as c:
            c.channel.stand_by()
            await settle(1)
            assert c.verdict == ("waiting", "0", "other-channel")
            assert c.socket.clients == []
            c.channel.wake()
            await settle(7)
            assert c.verdict == ("waiting", "0", "not-heard")
            assert len(c.socket.clients) == 1

    async def test_port_that_opens_wakes(self) -> None:
        async with LoneChannel().running() as c:
            c.channel.stand_by()
            await settle(1)
            c.guest.open()
            await settle(6)
            assert c.verdict == ("agreed", "3", None)

    async def test_during_a_dial_that_fails(self) -> None:
        c = LoneChannel()
        c.socket.refusing = True
        async with c.running():
            await settle(5)
            c.channel.stand_by()
            await settle(60)
            assert c.verdict == ("waiting", "0", "other-channel")
            c.socket.refusing = False
            await settle(50)
            assert c.socket.clients == []


class TestFlapping:
    async def test_version(self) -> None:
        async with LoneChannel().running() as c:
            c.guest.open()
            await settle(5)
            c.guest.silence()
            verdicts = []
            for version in itertools.islice(itertools.cycle([1, 2]), 300):
                c.socket.write(b'{"__name__": "heartbeat", "apiVersion": %d}\n' % version)
                await settle(0.2)
                verdicts.append(c.verdict)
            assert verdicts[-1][2] == "flapping"
            changes = sum(a != b for a, b in itertools.pairwise(verdicts))
            assert changes <= 8
            assert commands(c).count("api-version") <= 8

    async def test_port(self) -> None:
        async with LoneChannel().running() as c:
            for _ in range(100):
                c.guest.open(0.01)
                await settle(0.2)
                c.guest.close()
                await settle(0.2)
            assert len(commands(c)) <= 2 * 7
