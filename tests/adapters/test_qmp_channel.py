"""A guest agent on a real socket: polite, old, broken, hostile. Every trap of `qemu.qmp` has a test here."""

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.adapters.qmp_channel import QmpChannel, dial_qga
from sidecar.errors import (
    AgentBusyError,
    AgentDisconnectedError,
    AgentLeftError,
    NoAnswerError,
    NotSentError,
    UncorrelatedReplyError,
)
from tests.adapters.qmp_rig import (  # noqa: F401 - fixtures among them
    PATIENCE_S,
    SOON_S,
    SYNC,
    agent,
    call,
    channel,
    command,
    finish,
    no_task_left,
    root_log,
    wait_until,
)
from tests.fakes.qga_server import (
    SENTINEL,
    HangUp,
    QgaServer,
    before,
    error_line,
    hanging_up,
    honest,
    instead,
    line_of,
    mute,
    silent,
    split,
    wrong_sync,
)

pytestmark = pytest.mark.thorough


class TestPolite:
    async def test_says_nothing_unasked(self, agent: QgaServer, channel: QmpChannel) -> None:
        await wait_until(lambda: agent.clients == 1)
        assert (agent.requests, channel.unread_bytes()) == ([], 0)

    async def test_synchronises_once(self, agent: QgaServer, channel: QmpChannel) -> None:
        assert await call(channel) == {}
        information = await call(channel, "guest-info")
        assert isinstance(information, dict)
        assert information["version"] == "7.2.22"
        assert agent.commands == [SYNC, "guest-ping", "guest-info"]

    async def test_reply_as_it_came(self, agent: QgaServer, channel: QmpChannel) -> None:
        answer = b'{ "return" : {"x":  1e400, "d\\u00e9": "\xc3\xa9"} , "id":"mine"}'
        agent.manners = instead(answer + b"\r\n")
        assert (await channel.call(command(), PATIENCE_S)).encode().strip() == answer

    async def test_error_is_a_reply(self, agent: QgaServer, channel: QmpChannel) -> None:
        agent.supported["guest-info"] = False
        reply = json.loads(await channel.call(command("guest-info"), PATIENCE_S))
        assert reply["error"]["class"] == "CommandNotFound"
        await call(channel)
        assert agent.commands == [SYNC, "guest-info", "guest-ping"]

    async def test_command_and_its_arguments_arrive_as_they_are(self, agent: QgaServer, channel: QmpChannel) -> None:
        request = {"execute": "guest-ping", "arguments": {"x": ["\u00ff", 1]}, "id": "mine"}
        await channel.call(json.dumps(request, ensure_ascii=False), PATIENCE_S)
        assert agent.requests[-1] == request

    async def test_sync_begins_with_a_sentinel_and_has_a_nonce_that_doubles_can_hold(self, tmp_path: Path) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "raw"))
        listener.listen()
        nonces = set()
        for _ in range(5):
            channel = await dial_qga(str(tmp_path / "raw"), None)
            client, _address = listener.accept()
            with pytest.raises(NotSentError):
                await channel.call(command(), 0.01)
            said = client.recv(1 << 16)
            assert said.count(SENTINEL) == said.count(b"\n") == 1
            assert said.startswith(SENTINEL)
            nonces.add(json.loads(said[1:])["arguments"]["id"])
            await finish(channel)
            client.close()
        listener.close()
        assert len(nonces) == 5
        assert all(isinstance(nonce, int) and 0 < nonce < 2**53 for nonce in nonces)


class TestOldAgents:
    @pytest.mark.parametrize("ids", ["dropped", "rejected"])
    async def test_without_an_id(self, ids: str, agent: QgaServer, channel: QmpChannel) -> None:
        agent.ids = "dropped" if ids == "dropped" else "rejected"
        assert await call(channel, command_id=None) == {}

    @pytest.mark.parametrize("ids", ["dropped", "rejected"])
    async def test_with_an_id_the_caller_learns_soon_that_it_is_not_known(
        self, ids: str, agent: QgaServer, channel: QmpChannel
    ) -> None:
        agent.ids = "dropped" if ids == "dropped" else "rejected"
        with pytest.raises(UncorrelatedReplyError):
            await channel.call(command(), PATIENCE_S)
        assert await call(channel, command_id=None) == {}
        assert agent.commands == [SYNC, "guest-ping"] * 2

    async def test_a_line_without_an_id_is_no_answer_when_the_right_one_follows(
        self, agent: QgaServer, channel: QmpChannel
    ) -> None:
        agent.manners = before(b'{"return": "SMUGGLED"}\n')
        assert await call(channel) == {}
        assert await call(channel) == {}

    @pytest.mark.parametrize("known", ["unknown", "disabled"])
    @pytest.mark.parametrize("complains", [False, True])
    async def test_only_plain_sync(self, known: str, complains: bool, agent: QgaServer, channel: QmpChannel) -> None:
        agent.complains = complains
        if known == "unknown":
            del agent.supported[SYNC]
        else:
            agent.supported[SYNC] = False
        for _ in range(2):
            assert await call(channel, command_id=None) == {}
        assert agent.commands == [SYNC, "guest-sync", "guest-ping", "guest-ping"]

    async def test_no_sync_at_all(self, agent: QgaServer, channel: QmpChannel) -> None:
        del agent.supported[SYNC], agent.supported["guest-sync"]
        with pytest.raises(NotSentError):
            await channel.call(command(), SOON_S)
        assert agent.commands == [SYNC, "guest-sync"]

    async def test_complaint_about_the_sentinel(self, agent: QgaServer, channel: QmpChannel) -> None:
        agent.complains = True
        for _ in range(3):
            channel.lose_agent()
            assert await call(channel) == {}
        assert agent.commands == [SYNC, "guest-ping"] * 3
        assert channel.dropped_lines == 0


class TestSync:
    async def test_anew_when_told_so(self, agent: QgaServer, channel: QmpChannel) -> None:
        await call(channel)
        channel.lose_agent()
        await call(channel)
        assert agent.commands == [SYNC, "guest-ping"] * 2

    async def test_lost_during_a_call(self, agent: QgaServer, channel: QmpChannel) -> None:
        agent.handlers["guest-ping"] = lambda _: channel.lose_agent()
        with pytest.raises(AgentLeftError):
            await channel.call(command(), PATIENCE_S)
        del agent.handlers["guest-ping"]
        assert await call(channel) == {}
        assert agent.commands == [SYNC, "guest-ping"] * 2

    async def test_lost_during_the_sync(self, agent: QgaServer, channel: QmpChannel) -> None:
        echo, times = agent.handlers[SYNC], iter([True, False])

        def forget_once(arguments: dict[str, object]) -> object:
            if next(times):
                channel.lose_agent()
            return echo(arguments)

        agent.handlers[SYNC] = forget_once
        with pytest.raises(AgentDisconnectedError):
            await channel.call(command(), PATIENCE_S)
        await call(channel)
        assert agent.commands == [SYNC, SYNC, "guest-ping"]

    async def test_sentinel_and_message_come_in_pieces(self, agent: QgaServer, channel: QmpChannel) -> None:
        agent.manners = split
        for _ in range(3):
            channel.lose_agent()
            assert await call(channel) == {}
        assert channel.dropped_lines == 0

    async def test_all_before_the_answer_is_stale(self, agent: QgaServer, channel: QmpChannel) -> None:
        results: list[object] = [1, True, "x", {}, None, [], 1.5, 2**53, 2**70]
        stale = [line_of({"return": result}) for result in results]
        stale += [
            line_of({"return": {}, "id": "mine"}),
            error_line("CommandNotFound", "The command x has not been found"),
        ]
        stale += [b'{"event": "x", "return": 5}\n', b'{"return": "half a line']

        def manners(name: str, answer: bytes) -> list[bytes]:
            return [*stale, answer] if name == SYNC else [answer]

        agent.manners = manners
        assert await call(channel, command_id=None) == {}
        assert await call(channel) == {}
        assert agent.commands == [SYNC, "guest-ping", "guest-ping"]

    async def test_stale_replies_are_not_the_command_s(self, agent: QgaServer, channel: QmpChannel) -> None:
        await agent.say(line_of({"return": "stale"}), line_of({"return": "stale", "id": "mine"}))
        assert await call(channel) == {}
        channel.lose_agent()
        await agent.say(
            line_of({"return": "stale"}), error_line("CommandNotFound", f"The command {SYNC} has not been found")
        )
        assert await call(channel, command_id=None) == {}

    async def test_wrong_number_for_ever(self, agent: QgaServer, channel: QmpChannel) -> None:
        agent.manners = wrong_sync
        with pytest.raises(NotSentError):
            await channel.call(command(), SOON_S)
        agent.manners = honest
        assert await call(channel) == {}
        assert agent.commands == [SYNC, SYNC, "guest-ping"]

    async def test_silent_agent_is_sent_no_command(self, agent: QgaServer, channel: QmpChannel) -> None:
        agent.manners = silent
        with pytest.raises(NotSentError):
            await channel.call(command(), SOON_S)
        assert agent.commands == [SYNC]


class TestNoAnswer:
    async def test_late_answer_is_never_the_next_one_s(self, agent: QgaServer, channel: QmpChannel) -> None:
        await call(channel)
        agent.handlers["guest-ping"] = lambda _: "late"
        agent.go.clear()
        with pytest.raises(NoAnswerError):
            await channel.call(command(command_id=None), SOON_S)
        agent.handlers["guest-ping"] = lambda _: "prompt"
        agent.go.set()
        assert await call(channel, command_id=None) == "prompt"
        assert agent.commands == [SYNC, "guest-ping", "guest-ping", SYNC, "guest-ping"]

    async def test_late_answer_with_the_same_id(self, agent: QgaServer, channel: QmpChannel) -> None:
        await call(channel)
        agent.handlers["guest-ping"] = lambda _: "late"
        agent.go.clear()
        with pytest.raises(NoAnswerError):
            await channel.call(command(), SOON_S)
        await wait_until(lambda: agent.commands.count("guest-ping") == 2)
        agent.handlers["guest-ping"] = lambda _: "prompt"
        agent.go.set()
        assert await call(channel) == "prompt"

    async def test_command_that_is_not_answered_when_it_succeeds(self, agent: QgaServer, channel: QmpChannel) -> None:
        agent.manners = mute
        with pytest.raises(NoAnswerError):
            await channel.call(command("guest-shutdown"), SOON_S)
        assert agent.commands == [SYNC, "guest-shutdown"]

    async def test_agent_hangs_up_meanwhile(self, agent: QgaServer, channel: QmpChannel) -> None:
        agent.manners = hanging_up
        with pytest.raises(AgentLeftError):
            await channel.call(command(), PATIENCE_S)
        await channel.wait_closed()
        with pytest.raises(NotSentError):
            await channel.call(command(), PATIENCE_S)

    async def test_agent_hangs_up_during_the_sync(self, agent: QgaServer, channel: QmpChannel) -> None:
        agent.go.clear()
        waiting = asyncio.create_task(channel.call(command(), PATIENCE_S))
        await wait_until(lambda: agent.commands == [SYNC])
        agent.hang_up()
        with pytest.raises(NotSentError):
            await waiting

    async def test_it_ends_right_after_the_sync(self, agent: QgaServer, channel: QmpChannel) -> None:
        def manners(name: str, answer: bytes) -> Iterator[bytes]:
            yield answer
            raise HangUp

        agent.manners = manners
        begin = asyncio.get_running_loop().time()
        with pytest.raises((NotSentError, NoAnswerError)):
            await channel.call(command(), PATIENCE_S)
        assert asyncio.get_running_loop().time() - begin < PATIENCE_S / 2

    async def test_closed_between_sync_and_command(self, agent: QgaServer, channel: QmpChannel) -> None:
        settle = channel._client._settle

        def settle_and_close(outcome: str) -> None:
            settle(outcome)
            channel.close()

        channel._client._settle = settle_and_close  # type: ignore[assignment,method-assign]
        with pytest.raises(NotSentError):
            await channel.call(command(), PATIENCE_S)
        await channel.wait_closed()
        assert agent.commands == [SYNC]

    async def test_closed_between_the_two_syncs(self, agent: QgaServer, channel: QmpChannel) -> None:
        del agent.supported[SYNC]
        settle = channel._client._settle

        def settle_and_close(outcome: str) -> None:
            settle(outcome)
            channel.close()

        channel._client._settle = settle_and_close  # type: ignore[assignment,method-assign]
        begin = asyncio.get_running_loop().time()
        with pytest.raises(NotSentError):
            await channel.call(command(), PATIENCE_S)
        assert asyncio.get_running_loop().time() - begin < PATIENCE_S / 2
        assert agent.commands == [SYNC]

    async def test_answer_comes_in_the_moment_of_cancelling(self, agent: QgaServer, channel: QmpChannel) -> None:
        await call(channel)
        agent.go.clear()
        waiting = asyncio.create_task(channel.call(command(), PATIENCE_S))
        await wait_until(lambda: agent.commands.count("guest-ping") == 2)
        waiting.cancel()
        channel._client._settle("{}")
        with pytest.raises(asyncio.CancelledError):
            await waiting
        agent.go.set()
        assert await call(channel) == {}

    async def test_we_close_meanwhile(self, agent: QgaServer, channel: QmpChannel) -> None:
        agent.manners = mute
        waiting = asyncio.create_task(channel.call(command(), PATIENCE_S))
        await wait_until(lambda: "guest-ping" in agent.commands)
        channel.close()
        with pytest.raises(AgentLeftError):
            await waiting
        with pytest.raises(NotSentError):
            await channel.call(command(), PATIENCE_S)

    async def test_cancelled_caller_leaves_nothing_but_a_sync_to_do(
        self, agent: QgaServer, channel: QmpChannel
    ) -> None:
        await call(channel)
        agent.handlers["guest-ping"] = lambda _: "late"
        agent.go.clear()
        waiting = asyncio.create_task(channel.call(command(), PATIENCE_S))
        await wait_until(lambda: agent.commands.count("guest-ping") == 2)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        agent.handlers["guest-ping"] = lambda _: "prompt"
        agent.go.set()
        assert await call(channel) == "prompt"
        assert agent.commands == [SYNC, "guest-ping", "guest-ping", SYNC, "guest-ping"]


class TestTwoCallers:
    async def test_take_turns(self, agent: QgaServer, channel: QmpChannel) -> None:
        agent.handlers["guest-ping"] = lambda arguments: arguments["n"]

        async def ask(number: int) -> object:
            request = {"execute": "guest-ping", "arguments": {"n": number}}
            return json.loads(await channel.call(json.dumps(request), PATIENCE_S))["return"]

        assert await asyncio.gather(*(ask(number) for number in range(20))) == list(range(20))
        assert agent.commands == [SYNC] + ["guest-ping"] * 20

    async def test_second_one_is_told_when_it_has_to_wait_too_long(self, agent: QgaServer, channel: QmpChannel) -> None:
        agent.go.clear()
        first = asyncio.create_task(call(channel))
        await wait_until(lambda: agent.commands == [SYNC])
        with pytest.raises(AgentBusyError):
            await channel.call(command("guest-info"), SOON_S)
        agent.go.set()
        assert await first == {}
        assert agent.commands == [SYNC, "guest-ping"]

    async def test_the_connection_ends_for_all(self, agent: QgaServer, channel: QmpChannel) -> None:
        agent.manners = hanging_up
        outcomes = await asyncio.gather(
            *(channel.call(command(), PATIENCE_S) for _ in range(3)), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes] == [
            AgentLeftError,
            AgentDisconnectedError,
            AgentDisconnectedError,
        ]
