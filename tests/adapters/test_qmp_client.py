"""What a hostile guest says on a direct channel: too much, too long, too deep, and nothing of it harms us."""

import asyncio
import contextlib
from itertools import pairwise

import pytest

from sidecar.adapters import qmp_client
from sidecar.adapters.channel_socket import LeakyBucket
from sidecar.adapters.qmp_channel import QmpChannel, dial_qga
from sidecar.adapters.qmp_client import REPLY_LIMIT_BYTES
from sidecar.errors import (
    BadReplyError,
    NoAnswerError,
    NotSentError,
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
    DEEP,
    ENDLESS,
    GARBAGE,
    NOISE,
    SENTINEL,
    QgaServer,
    before,
    flooding,
    honest,
    instead,
    line_of,
    smuggle,
    twice,
)


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
