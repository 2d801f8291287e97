import asyncio
from dataclasses import replace

import pytest

from sidecar.engine.qga_agent import ASK_WAIT_S
from sidecar.engine.qga_tools import LOOK_AFTER_S, LOOK_AGAIN_S, LOOKS_LIMIT
from sidecar.errors import NoAnswerError
from sidecar.protocol.releases import Release
from sidecar.protocol.tools import UPGRADE_LOCK, Source, ToolsReport, ToolsVersion, Tristate
from tests.engine.lone_host import settle
from tests.engine.lone_qga import LoneQga
from tests.fakes.qga_agent import FakeQga

pytestmark = pytest.mark.looptime

MISSING = f"failed to open file '{UPGRADE_LOCK}' (mode: 'r'): No such file or directory"
DENIED = f"failed to open file '{UPGRADE_LOCK}' (mode: 'r'): Permission denied"
OPEN = {"execute": "guest-file-open", "arguments": {"path": "/etc/pv-drivers-not-upgradable", "mode": "r"}}
LOOK = ["guest-file-open", "guest-file-close"]


def allow(lone: LoneQga, *, read: bool = True, maximum: Release | None = None) -> None:
    settings = lone.surroundings.settings
    maximum = maximum or settings.qga_maximum
    lone.surroundings.settings = replace(settings, read_guest_file=read, qga_maximum=maximum)
    lone.channel.settings_changed()


def looking(agent: FakeQga | None = None, *, direct: bool = False) -> LoneQga:
    lone = LoneQga(direct=direct, agent=agent)
    settings = lone.surroundings.settings
    lone.surroundings.settings = replace(settings, read_guest_file=True)
    return lone


def locked(handle: object = 1000) -> FakeQga:
    return FakeQga(results={"guest-file-open": handle})


def told(lone: LoneQga) -> tuple[str, str] | None:
    row = lone.tools.row
    return None if row is None else (str(row.version), row.upgradable.value)


def commands(agent: FakeQga) -> list[str]:
    """What it was asked, but for what it is."""
    return [name for name in agent.commands() if name != "guest-info"]


class TestVersion:
    async def test_of_an_agent_that_is_agreed(self) -> None:
        async with LoneQga().running() as lone:
            assert told(lone) is None
            lone.open(FakeQga("5.2.0.11"))
            await settle(0.1)
            assert told(lone) == ("5.2.0", "unknown")
            lone.close()
            await settle(10)
            assert told(lone) == ("5.2.0", "unknown")  # the tools are there, whoever serves the channel
            lone.open(FakeQga("7.2.22"))
            await settle(0.1)
            assert told(lone) == ("7.2.22", "unknown")

    async def test_of_an_agent_that_is_not_agreed_is_not_told(self) -> None:
        async with LoneQga(Release(0, 0)).running() as lone:
            lone.open()
            await settle(20)
            assert lone.verdict() == ("unversioned", "0", "host-capped")
            assert told(lone) is None

    async def test_an_agent_that_calls_itself_nothing_withdraws_it(self) -> None:
        async with LoneQga().running() as lone:
            lone.open()
            await settle(0.1)
            commands = [{"name": "guest-ping", "enabled": True}]
            lone.open(FakeQga(results={"guest-info": {"version": "", "supported_commands": commands}}))
            await settle(0.1)
            assert lone.verdict() == ("agreed", "0.15", "inferred")
            assert told(lone) is None


class TestLooking:
    @pytest.mark.parametrize("direct", [False, True])
    @pytest.mark.parametrize(
        ("answer", "upgradable", "closed"),
        [
            (1000, "false", True),
            (0, "false", True),
            (MISSING, "true", False),
            (DENIED, "unknown", False),
            ("", "unknown", False),
            (True, "unknown", False),
            (None, "unknown", False),
            ("1000", "unknown", False),
            ({"handle": 1}, "unknown", False),
        ],
    )
    async def test_what_it_finds(self, answer: object, upgradable: str, closed: bool, direct: bool) -> None:
        async with looking(locked(answer), direct=direct).running() as lone:
            agent = lone.open()
            await settle(LOOK_AFTER_S - 0.1)
            assert (commands(agent), told(lone)) == ([], ("7.2.22", "unknown"))
            await settle(0.3)
            assert told(lone) == ("7.2.22", upgradable)
            assert commands(agent) == (LOOK if closed else LOOK[:1])
            await settle(10_000)
            assert commands(agent) == (LOOK if closed else LOOK[:1])
            assert lone.verdict() == ("agreed", "7.2", None)

    async def test_it_looks_for_one_file_and_closes_what_it_opened(self) -> None:
        async with looking(locked(4711)).running() as lone:
            agent = lone.open()
            await settle(11)
            asked = [dict(request) for request in agent.received if request["execute"] in LOOK]
            for request in asked:
                request.pop("id")
            assert asked == [OPEN, {"execute": "guest-file-close", "arguments": {"handle": 4711}}]

    async def test_not_by_default(self) -> None:
        async with LoneQga(agent=locked()).running() as lone:
            agent = lone.open()
            await settle(10_000)
            assert (commands(agent), told(lone)) == ([], ("7.2.22", "unknown"))

    async def test_once_it_is_allowed_and_not_when_it_is_forbidden(self) -> None:
        async with LoneQga(agent=locked()).running() as lone:
            agent = lone.open()
            await settle(5)
            allow(lone)
            await settle(1)
            allow(lone, read=False)
            await settle(100)
            assert commands(agent) == []
            allow(lone)
            await settle(1)
            assert (commands(agent), told(lone)) == (LOOK, ("7.2.22", "false"))

    async def test_not_where_the_guest_tells_by_itself(self) -> None:
        async with looking(locked()).running() as lone:
            agent = lone.open()
            await settle(9)
            lone.tools.tell(Source.GUEST_TOOLS, ToolsReport(Source.GUEST_TOOLS, ToolsVersion(1, 4)))
            await settle(1000)
            assert commands(agent) == []

    @pytest.mark.parametrize("blocked", LOOK)
    async def test_not_where_the_agent_does_not_have_it_enabled(self, blocked: str) -> None:
        agent = locked()
        agent.blocked = {blocked}
        async with looking(agent).running() as lone:
            lone.open()
            await settle(10_000)
            assert (commands(agent), told(lone), agent.asked) == ([], ("7.2.22", "unknown"), 1)

    async def test_not_when_the_same_agent_has_it_enabled_later(self) -> None:
        agent = locked()
        agent.blocked = set(LOOK)
        async with looking(agent).running() as lone:
            lone.open()
            await settle(20)
            agent.blocked = set()
            lone.channel._doubt()
            await settle(20)
            assert (commands(agent), agent.asked) == ([], 2)

    async def test_while_the_guest_runs(self) -> None:
        async with looking(locked()).running() as lone:
            agent = lone.open()
            await settle(5)
            lone.stop_clock()
            await settle(1000)
            lone.start_clock()
            await settle(4.8)
            assert commands(agent) == []
            await settle(0.3)
            assert commands(agent) == LOOK

    async def test_each_agent_is_asked_once(self) -> None:
        async with looking().running() as lone:
            for answer, upgradable in ((1000, "false"), (MISSING, "true"), (DENIED, "unknown")):
                agent = lone.open(locked(answer))
                await settle(100)
                assert told(lone) == ("7.2.22", upgradable)
                assert commands(agent)[:1] == LOOK[:1]
                lone.close()
                await settle(60)

    @pytest.mark.parametrize("direct", [False, True])
    async def test_the_same_agent_is_not_asked_again_when_only_we_were_away(self, direct: bool) -> None:
        async with looking(locked(), direct=direct).running() as lone:
            agent = lone.open()
            await settle(20)
            assert commands(agent) == LOOK
            for _ in range(5):
                lone.channel.reports_lost()
                lone.channel.port_seen(True)
                if direct:
                    lone.socket.clients[0].close()
                await settle(100)
            assert agent.asked >= 6
            assert (commands(agent), told(lone)) == (LOOK, ("7.2.22", "false"))

    @pytest.mark.parametrize("direct", [False, True])
    async def test_another_that_came_while_we_were_away_is_asked_when_it_can_be_told(self, direct: bool) -> None:
        async with looking(locked(), direct=direct).running() as lone:
            lone.open()
            await settle(20)
            newer = lone.agent = FakeQga("8.2.0", results={"guest-file-open": MISSING})
            lone._serve(newer)
            lone.channel.reports_lost()
            lone.channel.port_seen(True)
            await settle(LOOK_AFTER_S + 1)
            assert (commands(newer), told(lone)) == (LOOK[:1], ("8.2.0", "true"))

    async def test_another_whose_coming_the_xml_shows_is_asked(self) -> None:
        async with looking(locked()).running() as lone:
            agent = lone.open()
            await settle(20)
            lone.channel.port_seen(False)
            lone.channel.port_seen(True)
            await settle(20)
            assert commands(agent) == LOOK * 2

    async def test_a_connection_that_breaks_meanwhile_is_no_answer(self) -> None:
        agent = locked()

        def leave(name: str) -> None:
            if name == "guest-file-open" and commands(agent).count(name) == 1:
                agent.silent = True
                lone.socket.clients[0].close()
                asyncio.get_running_loop().call_soon(setattr, agent, "silent", False)

        agent.on_command = leave
        async with looking(agent, direct=True).running() as lone:
            lone.open()
            await settle(LOOK_AFTER_S + 10)
            assert told(lone) == ("7.2.22", "unknown")
            await settle(LOOK_AGAIN_S + 10)
            assert told(lone) == ("7.2.22", "false")

    async def test_a_guest_whose_own_tools_are_withdrawn_is_looked_at_later(self) -> None:
        async with looking(locked()).running() as lone:
            agent = lone.open()
            lone.tools.tell(Source.GUEST_TOOLS, ToolsReport(Source.GUEST_TOOLS, ToolsVersion(1, 4)))
            await settle(100)
            assert commands(agent) == []
            lone.tools.tell(Source.GUEST_TOOLS, None)
            await settle(LOOK_AGAIN_S)
            assert (commands(agent), told(lone)) == (LOOK, ("7.2.22", "false"))

    async def test_not_while_the_guests_own_agent_restarts(self) -> None:
        async with looking(locked()).running() as lone:
            agent = lone.open()
            report = ToolsReport(Source.GUEST_TOOLS, ToolsVersion(1, 4))
            lone.tools.tell(Source.GUEST_TOOLS, report)
            await settle(100)
            lone.tools.renew(Source.GUEST_TOOLS)
            lone.channel.settings_changed()
            await settle(9)
            lone.tools.tell(Source.GUEST_TOOLS, report)
            await settle(100)
            assert commands(agent) == []

    async def test_an_agent_that_does_not_stay_is_not_asked(self) -> None:
        async with looking(locked()).running() as lone:
            agent = lone.agent
            for _ in range(20):
                lone.open()
                await settle(8)
                lone.close()
                await settle(8)
            assert commands(agent) == []

    async def test_a_flapping_guest_is_looked_at_no_oftener_than_it_is_asked(self) -> None:
        async with looking(locked()).running() as lone:
            agent = lone.agent
            for _ in range(600):
                lone.open()
                await settle(0.1)
            assert commands(agent) == []


class TestFailure:
    async def test_a_frozen_guest_is_looked_at_when_it_is_thawed(self) -> None:
        async with looking(locked()).running() as lone:
            agent = lone.open()
            await settle(1)
            agent.frozen = True
            lone.channel._doubt()
            await settle(200)
            assert lone.verdict() == ("agreed", "7.2", "guest-frozen")
            assert commands(agent) == []
            agent.frozen = False
            await settle(120)
            assert lone.verdict() == ("agreed", "7.2", None)
            assert (commands(agent), told(lone)) == (LOOK, ("7.2.22", "false"))

    async def test_a_guest_that_was_frozen_behind_our_back_is_looked_at_later(self) -> None:
        async with looking(locked()).running() as lone:
            agent = lone.open()
            await settle(1)
            agent.frozen = True
            await settle(10)
            assert lone.verdict() == ("agreed", "7.2", "guest-frozen")
            assert told(lone) == ("7.2.22", "unknown")
            agent.frozen = False
            await settle(LOOK_AGAIN_S + 60)
            assert told(lone) == ("7.2.22", "false")
            assert lone.verdict() == ("agreed", "7.2", None)

    async def test_an_agent_that_lists_what_it_does_not_have_is_asked_no_more_than_so_often(self) -> None:
        agent = locked("The command guest-file-open has been disabled for this instance")
        async with looking(agent).running() as lone:
            lone.open()
            await settle(100_000)
            assert commands(agent) == LOOK[:1] * LOOKS_LIMIT
            assert agent.asked < 10
            assert (told(lone), lone.verdict()) == (("7.2.22", "unknown"), ("agreed", "7.2", None))

    async def test_another_client_has_the_agent(self) -> None:
        async with looking(locked()).running() as lone:
            agent = lone.open()
            await settle(1)
            lone.domain.port.job_held = True
            await settle(LOOK_AFTER_S + 30)
            assert commands(agent) == []
            lone.domain.port.job_held = False
            await settle(LOOK_AGAIN_S - 5)
            assert commands(agent) == []
            await settle(10)
            assert (commands(agent), told(lone)) == (LOOK, ("7.2.22", "false"))
            assert lone.verdict() == ("agreed", "7.2", None)

    @pytest.mark.parametrize("command", LOOK)
    async def test_a_command_that_hangs_costs_its_time_and_not_the_channel(self, command: str) -> None:
        agent = locked()

        def hang(name: str) -> None:
            agent.silent = name == command

        agent.on_command = hang
        async with looking(agent).running() as lone:
            lone.open()
            await settle(10.1)
            assert lone.verdict() == ("agreed", "7.2", None)
            await settle(10)
            assert told(lone) == ("7.2.22", "unknown" if command == "guest-file-open" else "false")
            assert lone.verdict() == ("agreed", "7.2", None)
            await settle(1000)
            assert commands(agent).count("guest-file-open") == 1

    async def test_an_agent_that_is_busy_is_looked_at_later_and_what_was_known_stands(self) -> None:
        agent = locked(MISSING)

        def hang(name: str) -> None:
            agent.silent = name == "guest-exec"

        agent.on_command = hang
        async with looking(agent).running() as lone:
            lone.tools.tell_upgradable(Tristate.FALSE)
            lone.open()
            await settle(1)
            exec_s = LOOK_AFTER_S + ASK_WAIT_S + 5
            running = asyncio.create_task(lone.channel.send("guest-exec", {}, exec_s))
            await settle(exec_s - 1)
            assert (commands(agent), told(lone)) == (["guest-exec"], ("7.2.22", "false"))
            with pytest.raises(NoAnswerError):
                await running
            await settle(LOOK_AGAIN_S)
            assert (commands(agent), told(lone)) == (["guest-exec", "guest-file-open"], ("7.2.22", "true"))
            assert lone.verdict() == ("agreed", "7.2", None)

    async def test_an_agent_that_goes_meanwhile_is_not_told_of_by_the_next(self) -> None:
        first, second = locked(), locked(MISSING)

        def leave(name: str) -> None:
            if name == "guest-file-open":
                asyncio.get_running_loop().call_soon(change)

        def change() -> None:
            lone.close()
            lone.open(second)

        first.on_command = leave
        async with looking(first).running() as lone:
            lone.open()
            await settle(LOOK_AFTER_S + 5)
            assert told(lone) == ("7.2.22", "unknown")
            assert "guest-file-close" not in [*commands(first), *commands(second)]
            await settle(LOOK_AFTER_S)
            assert told(lone) == ("7.2.22", "true")

    async def test_the_channel_ends_meanwhile(self) -> None:
        agent = locked()

        def hang(name: str) -> None:
            agent.silent = name == "guest-file-open"

        agent.on_command = hang
        async with asyncio.timeout(None) as most:
            async with asyncio.TaskGroup() as group:
                lone = looking(agent)
                lone.channel.start(group)
                lone.open()
                await settle(LOOK_AFTER_S + 1)
                assert commands(agent) == ["guest-file-open"]
                lone.channel.close()
                most.reschedule(asyncio.get_running_loop().time() + 0.01)
