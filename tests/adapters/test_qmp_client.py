"""A direct channel to a hostile guest: too much, too long, too deep; and how a connection begins and ends."""

import asyncio
import contextlib
import gc
import json
import os
import socket
from itertools import pairwise
from pathlib import Path

import pytest

from sidecar.adapters import qmp_client
from sidecar.adapters.channel_socket import LeakyBucket
from sidecar.adapters.qmp_channel import QmpChannel, dial_qga
from sidecar.adapters.qmp_client import REPLY_LIMIT_BYTES
from sidecar.adapters.unix_channel import UnixDialer
from sidecar.engine.ports import Dialer
from sidecar.errors import (
    BadReplyError,
    ChannelUnreachableError,
    ForeignSocketError,
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

pytestmark = pytest.mark.thorough


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
