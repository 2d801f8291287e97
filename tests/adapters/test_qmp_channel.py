"""A guest agent on a real socket: polite, old, broken, hostile. Every trap of `qemu.qmp` has a test here."""

import asyncio
import contextlib
import gc
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from sidecar.adapters import qmp_client
from sidecar.adapters.channel_socket import LeakyBucket
from sidecar.adapters.qmp_channel import QmpChannel, dial_qga
from sidecar.adapters.qmp_client import REPLY_LIMIT_BYTES
from sidecar.adapters.unix_channel import UnixDialer
from sidecar.engine.ports import Dialer, QgaConnection
from sidecar.errors import (
    AgentBusyError,
    AgentDisconnectedError,
    AgentLeftError,
    BadReplyError,
    ChannelUnreachableError,
    ForeignSocketError,
    NoAnswerError,
    NotSentError,
    UncorrelatedReplyError,
)
from tests.fakes.qga_server import (
    DEEP,
    ENDLESS,
    GARBAGE,
    NOISE,
    SENTINEL,
    HangUp,
    QgaServer,
    before,
    error_line,
    flooding,
    hanging_up,
    honest,
    instead,
    line_of,
    mute,
    silent,
    smuggle,
    split,
    twice,
    wrong_sync,
)

PATIENCE_S = 10.0
SOON_S = 0.1
SYNC = "guest-sync-delimited"


@pytest.fixture(autouse=True)
async def no_task_left() -> AsyncIterator[None]:
    """No test leaves a task or an exception that nobody took."""
    problems: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(str(context)))
    before = asyncio.all_tasks()
    yield
    await wait_until(lambda: asyncio.all_tasks() <= before | {asyncio.current_task()})
    gc.collect()
    assert problems == []


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[QgaServer]:
    async with QgaServer(tmp_path / "qga") as made:
        yield made


@pytest.fixture
async def channel(agent: QgaServer) -> AsyncIterator[QmpChannel]:
    made = await dial_qga(str(agent.path), os.getpid())
    yield made
    await finish(made)


async def finish(channel: QgaConnection) -> None:
    channel.close()
    async with asyncio.timeout(PATIENCE_S):
        await channel.wait_closed()


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what it waits for is on the other end of a socket
            await asyncio.sleep(0.001)


def command(name: str = "guest-ping", command_id: str | None = "mine") -> str:
    return json.dumps({"execute": name} | ({} if command_id is None else {"id": command_id}))


async def call(channel: QgaConnection, name: str = "guest-ping", command_id: str | None = "mine") -> object:
    """The result of a command that is answered."""
    return json.loads(await channel.call(command(name, command_id), PATIENCE_S))["return"]


@pytest.fixture
def root_log() -> Iterator[list[str]]:
    """All that reaches the root's handlers, as the daemon's do; `caplog` would listen to the library's logger, too."""
    heard: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    root, listener = logging.getLogger(), Listener()
    level = root.level
    root.addHandler(listener)
    root.setLevel(logging.DEBUG)
    yield heard
    root.setLevel(level)
    root.removeHandler(listener)


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


class TestTooMuchSaid:
    @pytest.mark.parametrize("line", GARBAGE.values(), ids=GARBAGE)
    async def test_garbage_in_every_place(self, line: bytes, agent: QgaServer, channel: QmpChannel) -> None:
        await agent.say(line * 3)
        assert await call(channel) == {}
        agent.manners = before(line)
        channel.lose_agent()
        assert await call(channel, command_id=None) == {}
        assert channel.dropped_lines >= 5

    @pytest.mark.parametrize("line", NOISE.values(), ids=NOISE)
    async def test_noise_in_every_place(self, line: bytes, agent: QgaServer, channel: QmpChannel) -> None:
        await agent.say(line * 3)
        assert await call(channel) == {}
        agent.manners = before(line)
        channel.lose_agent()
        assert await call(channel) == {}
        assert channel.dropped_lines == 0

    async def test_first_bad_line_alone_is_logged_as_one_short_line(
        self, agent: QgaServer, root_log: list[str], capfd: pytest.CaptureFixture[str]
    ) -> None:
        channel = await dial_qga(str(agent.path), None)
        await agent.say(b"\x1b[31m\xc3\xa9" + b"secret" * 1000 + b"\n", *GARBAGE.values(), *NOISE.values())
        assert await call(channel) == {}
        agent.hang_up()
        await channel.wait_closed()
        (logged,) = root_log
        assert logged.isascii()
        assert logged.isprintable()
        assert len(logged) < 300 + len(str(agent.path))
        assert capfd.readouterr() == ("", "")

    async def test_events_are_not_kept(self, agent: QgaServer, channel: QmpChannel) -> None:
        await agent.say(NOISE["event"] * 1000)
        assert await call(channel) == {}
        assert channel._client.events.empty()

    async def test_two_replies_to_one_command(self, agent: QgaServer, channel: QmpChannel) -> None:
        agent.manners = twice
        for name in ("guest-ping", "guest-info") * 3:
            assert (await call(channel, name, command_id=name) == {}) == (name == "guest-ping")

    async def test_two_replies_while_the_caller_goes(self, agent: QgaServer, channel: QmpChannel) -> None:
        agent.manners = twice
        for _ in range(20):
            with contextlib.suppress(NoAnswerError, NotSentError):
                await channel.call(command(command_id=None), 0.0005)
        assert await call(channel) == {}

    async def test_smuggled_reply(self, agent: QgaServer, channel: QmpChannel) -> None:
        agent.manners = smuggle
        assert await call(channel) == {}
        assert await call(channel, command_id=None) == {}

    async def test_an_id_that_is_null_is_one(self, agent: QgaServer, channel: QmpChannel) -> None:
        await call(channel)
        agent.manners = before(b'{"return": "other", "id": null}\n')
        assert await call(channel, command_id=None) == {}

    async def test_line_that_is_too_long_ends_no_sync(self, agent: QgaServer, channel: QmpChannel) -> None:
        agent.manners = lambda name, answer: [b"x" * 2 * REPLY_LIMIT_BYTES, b"\n", answer] if name == SYNC else [answer]
        assert await call(channel) == {}
        assert channel.dropped_lines == 1

    async def test_reply_of_the_limit(self, agent: QgaServer, channel: QmpChannel) -> None:
        frame = len(line_of({"return": "", "id": "mine"}))
        agent.handlers["guest-ping"] = lambda _: "x" * (REPLY_LIMIT_BYTES - frame)
        assert len(str(await call(channel))) == REPLY_LIMIT_BYTES - frame
        agent.handlers["guest-ping"] = lambda _: "x" * (REPLY_LIMIT_BYTES - frame + 1)
        with pytest.raises(BadReplyError):
            await call(channel)
        del agent.handlers["guest-ping"]
        assert await call(channel) == {}
        assert agent.commands == [SYNC, "guest-ping", "guest-ping", SYNC, "guest-ping"]

    async def test_line_without_an_end(
        self, agent: QgaServer, channel: QmpChannel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(channel._client, "_bucket", LeakyBucket(1 << 30, 1 << 30))
        agent.manners = instead(ENDLESS)
        with pytest.raises(BadReplyError):
            await channel.call(command(), PATIENCE_S)
        agent.manners = honest
        assert await call(channel) == {}  # the sentinel ends it
        assert channel.dropped_lines == 1

    async def test_line_without_an_end_before_the_sync(self, agent: QgaServer, channel: QmpChannel) -> None:
        await agent.say(b"x" * (2 * REPLY_LIMIT_BYTES))
        assert await call(channel) == {}

    async def test_memory_is_bounded(self, agent: QgaServer, channel: QmpChannel) -> None:
        telling = asyncio.create_task(agent.say(ENDLESS))
        await wait_until(lambda: channel.dropped_lines == 1)
        client = channel._client
        assert client._reader is not None
        kept = len(client._reader._buffer)  # type: ignore[attr-defined]
        assert kept <= 512 * 1024
        assert sum(len(line or b"") for line in client._lines) <= REPLY_LIMIT_BYTES
        channel.close()
        with contextlib.suppress(OSError):
            await telling

    async def test_deep_reply_with_our_id(self, agent: QgaServer, channel: QmpChannel) -> None:
        agent.manners = instead(b'{"id": "mine", "return": ' + DEEP)
        with pytest.raises(NoAnswerError):
            await channel.call(command(), SOON_S)
        agent.manners = honest
        assert await call(channel) == {}


FLOODS = {
    "blank": b"\n" * 65536,
    "sentinels": SENTINEL * 65536,
    "short": b"1\n" * 32768,
    "valid": b'{"return": {}, "id": "x"}\n' * 4096,
    "events": NOISE["event"] * 2048,
    "long": b'{"return": [' + b"[]," * 300_000 + b"[]]}\n",
    "deep": DEEP,
    "endless": b"x" * 65536,
}


class TestFlood:
    @pytest.mark.parametrize("piece", FLOODS.values(), ids=FLOODS)
    async def test_the_loop_turns_and_the_stream_pauses(
        self, piece: bytes, agent: QgaServer, channel: QmpChannel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        poured: list[int] = []
        bucket = channel._client._bucket

        class Spy:
            def pour(self, taken_bytes: int, now: float) -> float:
                poured.append(taken_bytes)
                return bucket.pour(taken_bytes, now)

        monkeypatch.setattr(channel._client, "_bucket", Spy())
        agent.manners = flooding(piece)
        loop = asyncio.get_running_loop()
        begin = loop.time()
        assert await call(channel) == {}
        await wait_until(lambda: sum(poured) > qmp_client.FLOOD_BURST_BYTES)
        for _ in range(50):
            await asyncio.sleep(0.001)
        allowed = (loop.time() - begin) * qmp_client.FLOOD_RATE_BYTES_S + qmp_client.FLOOD_BURST_BYTES
        assert sum(poured) <= allowed + 2 * max(poured)
        await finish(channel)

    async def test_few_lines_a_turn(self, agent: QgaServer, channel: QmpChannel) -> None:
        saying = asyncio.create_task(agent.say(b"\n" * 40_000))
        seen = [0]
        async with asyncio.timeout(PATIENCE_S):
            while seen[-1] < 40_000:
                await asyncio.sleep(0)
                seen.append(channel.dropped_lines)
        await saying
        assert max(after - before for before, after in pairwise(seen)) <= qmp_client.TURN_LINES

    async def test_close_ends_a_paused_stream_at_once(self, agent: QgaServer, channel: QmpChannel) -> None:
        agent.manners = flooding(FLOODS["blank"])
        await call(channel)
        await wait_until(lambda: channel._client._overflow_s > 1)
        channel.close()
        async with asyncio.timeout(1):
            await channel.wait_closed()


class TestEnd:
    async def test_close_ends_it_for_every_waiter(self, agent: QgaServer) -> None:
        channel = await dial_qga(str(agent.path), None)
        waiters = [asyncio.create_task(channel.wait_closed()) for _ in range(3)]
        await asyncio.sleep(0)
        channel.close()
        channel.close()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*waiters)
            await channel.wait_closed()
        assert channel.unread_bytes() == 0
        channel.close()

    async def test_agent_ends_it_for_every_waiter(self, agent: QgaServer) -> None:
        channel = await dial_qga(str(agent.path), None)
        await call(channel)
        waiters = [asyncio.create_task(channel.wait_closed()) for _ in range(3)]
        agent.hang_up()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*waiters)
        channel.close()
        assert channel.unread_bytes() == 0

    @pytest.mark.parametrize("last", [b"", b"garbage", b"garbage\n", DEEP, b"\xff\xff", b'{"return": {}}'])
    async def test_after_garbage(self, last: bytes, agent: QgaServer) -> None:
        channel = await dial_qga(str(agent.path), None)
        await agent.say(last)
        agent.hang_up()
        async with asyncio.timeout(PATIENCE_S):
            await channel.wait_closed()

    async def test_cancelled_waiter_ends_nothing(self, channel: QmpChannel) -> None:
        waiting = asyncio.create_task(channel.wait_closed())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await call(channel) == {}

    @pytest.mark.parametrize("last", [b"", b"x", b"1\n" * 1000])
    async def test_peer_that_hangs_up_at_once(self, last: bytes, tmp_path: Path) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "raw"))
        listener.listen()

        def serve_once() -> None:
            client, _ = listener.accept()
            client.sendall(last)
            client.close()

        for _ in range(50):
            serving = asyncio.get_running_loop().run_in_executor(None, serve_once)
            channel = await dial_qga(str(tmp_path / "raw"), None)
            async with asyncio.timeout(PATIENCE_S):
                await channel.wait_closed()
            await serving
        listener.close()

    @pytest.mark.parametrize("half", ["open", "shut"])
    async def test_peer_that_does_not_read_cannot_hold_it(self, half: str, tmp_path: Path) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "raw"))
        listener.listen()
        channel = await dial_qga(str(tmp_path / "raw"), None)
        client, _ = listener.accept()
        client.setblocking(False)
        loop = asyncio.get_running_loop()

        async def synchronise() -> None:
            nonce = json.loads((await loop.sock_recv(client, 1 << 16))[1:])["arguments"]["id"]
            await loop.sock_sendall(client, SENTINEL + line_of({"return": nonce}))

        synchronising = asyncio.create_task(synchronise())
        large = json.dumps({"execute": "guest-file-write", "arguments": {"buf-b64": "x" * 3_000_000}})
        with pytest.raises(NoAnswerError):
            await channel.call(large, SOON_S)
        await synchronising
        unread = channel.unread_bytes()
        assert unread > 2_000_000
        with pytest.raises(NotSentError, match="does not read"):
            await channel.call(command(), PATIENCE_S)
        assert channel.unread_bytes() == unread  # nothing piles up
        if half == "shut":
            client.shutdown(socket.SHUT_WR)  # we are told of the end, and could wait for ever to be read
        else:
            channel.close()
        async with asyncio.timeout(PATIENCE_S):
            await channel.wait_closed()
        client.close()
        listener.close()


class TestDialling:
    async def test_through_the_engine_s_port(self, agent: QgaServer) -> None:
        dialer: Dialer = UnixDialer()
        channel = await dialer.dial_qga(str(agent.path), os.getpid())
        assert await call(channel) == {}
        await finish(channel)

    async def test_nobody_there(self, tmp_path: Path) -> None:
        with pytest.raises(ChannelUnreachableError):
            await dial_qga(str(tmp_path / "nothing"), None)

    async def test_another_process(self, agent: QgaServer) -> None:
        with pytest.raises(ForeignSocketError):
            await dial_qga(str(agent.path), os.getpid() + 1)
        assert agent.requests == []

    async def test_cancelled_at_any_moment(self, agent: QgaServer) -> None:
        def open_files() -> int:
            gc.collect()
            return len(os.listdir("/proc/self/fd"))

        await wait_until(lambda: agent.clients == 0)
        files = open_files()
        for turns in range(12):
            dialling = asyncio.create_task(dial_qga(str(agent.path), None))
            for _ in range(turns):
                await asyncio.sleep(0)
            dialling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await finish(await dialling)
        await wait_until(lambda: open_files() == files)

    async def test_the_library_fails(self, agent: QgaServer, monkeypatch: pytest.MonkeyPatch) -> None:
        async def fail(*_args: object, **_kwargs: object) -> None:
            raise OSError("no")

        monkeypatch.setattr(asyncio, "open_connection", fail)
        with pytest.raises(ChannelUnreachableError):
            await dial_qga(str(agent.path), None)
