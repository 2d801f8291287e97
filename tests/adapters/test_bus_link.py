"""What the daemon and the process beside it say to each other, and what that process may get wrong."""

import asyncio
import os
import signal
import time
from dataclasses import replace
from typing import Any

import pytest

from sidecar.adapters import bus_link, bus_process, bus_watch
from sidecar.adapters.bus_link import CALLS_LIMIT
from sidecar.api.events import EventType
from sidecar.api.link import Word, render_line
from sidecar.api.problems import ProblemError
from sidecar.errors import BusDownError
from tests.adapters.bus_rig import BEGINNING, BusRig, Puppet, halt, hear_numbers, impatience, rig, tell, until  # noqa: F401

pytestmark = pytest.mark.thorough


MANY = 500


async def test_the_first_words(rig: BusRig) -> None:
    tell(rig, 1, 2)
    rig.bus.announce({"hostname": "beta", "old": True})
    rig.bus.announce({"hostname": "beta"})
    rig.bus.begin(BEGINNING)
    puppet = await rig.puppet()
    assert rig.bus.configured
    assert await puppet.hear(Word.BEGIN) == {
        "hostname": "beta",
        "version": "1.3",
        "section": {"url": "rabbit://beta:secret@broker/"},
        "log_level": "info",
    }
    await puppet.say(Word.READY, after=None)
    heard: dict[Word, list[Any]] = {Word.OFFER: [], Word.EVENT: []}
    for _ in range(3):
        word, values = await puppet.hear_any()
        heard[word].append(values)
    assert heard[Word.OFFER] == [{"offer": {"hostname": "beta"}, "announce": True}]
    assert [values["event"]["number"] for values in heard[Word.EVENT]] == [1, 2]
    tell(rig, 3, 3)
    assert await hear_numbers(puppet, 1) == [3]
    rig.bus.announce({"hostname": "beta", "new": True})
    assert await puppet.hear(Word.OFFER) == {"offer": {"hostname": "beta", "new": True}, "announce": True}


async def test_an_offer_that_only_who_asks_is_to_know(rig: BusRig) -> None:
    puppet = await rig.begun()
    rig.bus.announce({"number": 1})
    assert await puppet.hear(Word.OFFER) == {"offer": {"number": 1}, "announce": True}
    rig.bus.announce({"number": 2}, silently=True)
    assert await puppet.hear(Word.OFFER) == {"offer": {"number": 2}, "announce": False}
    # One that all are to know may be followed by the other kind before it is told.
    rig.bus.announce({"number": 3})
    rig.bus.announce({"number": 4}, silently=True)
    assert await puppet.hear(Word.OFFER) == {"offer": {"number": 4}, "announce": True}
    rig.bus.announce({"number": 5}, silently=True)
    assert await puppet.hear(Word.OFFER) == {"offer": {"number": 5}, "announce": False}


async def test_another_level_of_the_log_is_a_word(rig: BusRig) -> None:
    puppet = await rig.begun()
    pid = rig.bus.pid
    rig.bus.begin(replace(BEGINNING, log_level="debug"))
    assert await puppet.hear(Word.LEVEL) == {"level": "debug"}
    rig.bus.begin(replace(BEGINNING, log_level="debug"))
    tell(rig, 1, 1)
    assert await hear_numbers(puppet, 1) == [1]
    assert rig.bus.pid == pid
    puppet.die()
    # The next one begins as the first did, and is told the rest.
    second = await rig.puppet()
    await second.hear(Word.BEGIN)
    await second.say(Word.READY, after=None)
    words = [await second.hear_any() for _ in range(2)]
    assert (Word.LEVEL, {"level": "debug"}) in words


async def test_news(rig: BusRig) -> None:
    puppet = await rig.begun()
    await puppet.say(Word.SEEN, offer={"hostname": "alpha"})
    await puppet.say(Word.FORGOTTEN, hostname="gamma")
    await until(lambda: rig.forgotten)
    assert (rig.seen, rig.forgotten) == ([{"hostname": "alpha"}], ["gamma"])
    await puppet.say(Word.STATUS, connected=False, waiting=7, notified=3, dropped=0)
    await until(lambda: not rig.bus.connected)
    assert [status.connected for status in rig.statuses] == [True, False]
    assert (rig.tally.bus_waiting, rig.tally.bus_notified, rig.tally.bus_connected) == (7, 3, False)


async def test_events_go_on_where_the_disk_ends(rig: BusRig) -> None:
    first = await rig.begun()
    tell(rig, 1, 3)
    assert await hear_numbers(first, 2) == [1, 2]
    after = (await first.hear(Word.EVENT))["event"]["id"]
    first.die()
    tell(rig, 4, 5)
    second = await rig.begun(after)
    assert await hear_numbers(second, 2) == [4, 5]


async def test_an_outbox_of_another_daemon_is_told_that_something_may_be_missing(rig: BusRig) -> None:
    tell(rig, 1, 1)
    puppet = await rig.begun("another-7")
    event = (await puppet.hear(Word.EVENT))["event"]
    assert (event["what"], event["missed"]) == ("missed", None)
    assert await hear_numbers(puppet, 1) == [1]


class TestCalls:
    async def test_a_result(self, rig: BusRig) -> None:
        puppet = await rig.begun()
        await puppet.say(Word.CALL, id=3, operation="show", arguments={"domain": "vm1"}, version="1.1")
        assert await puppet.hear(Word.ANSWER) == {"id": 3, "result": {"done": True}}
        assert rig.calls == [("show", {"domain": "vm1"}, "1.1")]

    @pytest.mark.parametrize("operation", ["send", "renegotiate", "fleet_forget"])
    async def test_what_changes_something_is_not_begun_too_late(self, rig: BusRig, operation: str) -> None:
        """As when the daemon stood still meanwhile."""
        puppet = await rig.begun()
        call = {"operation": operation, "arguments": {}, "version": "1.3"}
        await puppet.say(Word.CALL, id=3, **call, deadline=time.monotonic() - 0.5)
        heard = await puppet.hear(Word.ANSWER)
        assert (heard["id"], heard["problem"]["code"]) == (3, "too-slow")
        assert "nothing was done" in heard["problem"]["detail"]
        assert rig.calls == []
        await puppet.say(Word.CALL, id=4, **call, deadline=time.monotonic() + 60.0)
        assert "result" in await puppet.hear(Word.ANSWER)
        await puppet.say(Word.CALL, id=5, **{**call, "operation": "show"}, deadline=time.monotonic() - 0.5)
        assert "result" in await puppet.hear(Word.ANSWER)
        assert len(rig.calls) == 2

    async def test_a_problem(self, rig: BusRig) -> None:
        puppet = await rig.begun()
        rig.failure = ProblemError("not-agreed", "so it is", reason="not-heard")
        await puppet.say(Word.CALL, id=3, operation="send", arguments={}, version=None)
        problem = {"code": "not-agreed", "detail": "so it is", "extra": {"reason": "not-heard"}}
        assert await puppet.hear(Word.ANSWER) == {"id": 3, "problem": problem}

    @pytest.mark.parametrize("result", [float("nan"), object(), {1, 2}])
    async def test_what_no_line_can_carry_is_a_fault_of_ours(self, rig: BusRig, result: object) -> None:
        puppet = await rig.begun()
        rig.result = result
        await puppet.say(Word.CALL, id=3, operation="host", arguments={}, version=None)
        assert (await puppet.hear(Word.ANSWER))["problem"]["code"] == "internal"
        rig.failure = RuntimeError("a slip")
        await puppet.say(Word.CALL, id=4, operation="host", arguments={}, version=None)
        heard = await puppet.hear(Word.ANSWER)
        assert (heard["id"], heard["problem"]["code"]) == (4, "internal")
        assert "slip" not in str(heard)

    async def test_an_answer_that_is_too_large(self, rig: BusRig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bus_link, "LINE_LIMIT_BYTES", 100)
        puppet = await rig.begun()
        rig.result = "x" * 100
        await puppet.say(Word.CALL, id=3, operation="host", arguments={}, version=None)
        assert "too large" in (await puppet.hear(Word.ANSWER))["problem"]["detail"]

    async def test_one_too_many_is_refused_and_a_place_comes_free_again(self, rig: BusRig) -> None:
        puppet = await rig.begun()
        rig.hold = asyncio.Event()
        for number in range(CALLS_LIMIT + 1):
            await puppet.say(Word.CALL, id=number, operation="wait", arguments={}, version=None)
        refused = await puppet.hear(Word.ANSWER)
        assert (refused["id"], refused["problem"]["code"]) == (CALLS_LIMIT, "too-many-connections")
        assert len(rig.calls) == CALLS_LIMIT
        rig.hold.set()
        assert {(await puppet.hear(Word.ANSWER))["id"] for _ in range(CALLS_LIMIT)} == set(range(CALLS_LIMIT))
        await puppet.say(Word.CALL, id=-1, operation="wait", arguments={}, version=None)
        assert "result" in await puppet.hear(Word.ANSWER)

    async def test_a_call_ends_with_its_process(self, rig: BusRig) -> None:
        puppet = await rig.begun()
        rig.hold = asyncio.Event()
        await puppet.say(Word.CALL, id=1, operation="wait", arguments={}, version=None)
        await until(lambda: rig.calls)
        puppet.die()
        await until(lambda: rig.cancelled == 1)


class TestFaults:
    @pytest.mark.parametrize(
        "line",
        [
            b"nonsense\n",
            b"[1]\n",
            b"\xff\n",
            b'{"word": "begin"}\n',
            b'{"word": "answer", "id": 1}\n',
            b'{"word": "no such"}\n',
            b'{"word": ["seen"], "offer": 1}\n',
            b'{"word": "ready", "after": null}\n',
            b'{"word": "seen"}\n',
            b'{"word": "call"}\n',
            b'{"word": "done", "id": []}\n',
            b'{"word": "status", "connected": "yes"}\n',
            b'{"word": "seen", "offer": ' + b"[" * 100_000 + b"\n",
        ],
    )
    async def test_one_that_talks_nonsense(self, rig: BusRig, caplog: pytest.LogCaptureFixture, line: bytes) -> None:
        puppet = await rig.begun()
        await puppet.say_line(line)
        await rig.begun()
        assert rig.tally.bus_restarts == 1
        assert "no word of ours" in caplog.text

    async def test_an_answer_that_is_none(self, rig: BusRig) -> None:
        puppet = await rig.begun()
        asked = asyncio.create_task(rig.bus.collect([], 60))
        await puppet.say(Word.DONE, id=(await puppet.hear(Word.ASK))["id"], problem={"code": "x"})
        with pytest.raises(BusDownError):
            await asked
        await rig.begun()

    @pytest.mark.parametrize("word", [Word.CALL, Word.SEEN, Word.STATUS])
    async def test_one_that_does_not_begin_with_the_beginning(self, rig: BusRig, word: Word) -> None:
        rig.bus.begin(BEGINNING)
        await (await rig.puppet()).say(word, id=1, offer={}, operation="host")
        await rig.begun()
        assert (rig.seen, rig.calls) == ([], [])

    async def test_one_that_never_begins(self, rig: BusRig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bus_link, "READY_S", 0.05)
        rig.bus.begin(BEGINNING)
        await rig.puppet()
        monkeypatch.undo()
        await rig.begun()

    async def test_a_line_without_end(self, rig: BusRig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bus_process, "LINE_LIMIT_BYTES", 10_000)
        puppet = await rig.begun()
        await puppet.say_line(b"x" * 100_000)
        await rig.begun()
        assert rig.tally.bus_restarts == 1

    async def test_ears_that_fail_are_no_fault_of_the_process(
        self, rig: BusRig, caplog: pytest.LogCaptureFixture
    ) -> None:
        rig.deaf = True
        puppet = await rig.begun()
        await puppet.say(Word.SEEN, offer={})
        await puppet.say(Word.FORGOTTEN, hostname="gamma")
        await until(lambda: rig.forgotten)
        assert rig.tally.bus_restarts == 0
        assert "a fault of ours" in caplog.text

    async def test_a_flood_leaves_the_loop_its_time(self, rig: BusRig) -> None:
        puppet = await rig.begun()
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        turning = asyncio.create_task(turn())
        await puppet.say_line(render_line(Word.SEEN, offer={}) * 10_000)
        await until(lambda: len(rig.seen) == 10_000)
        turning.cancel()
        assert turns > 10_000 / bus_link.WORDS_AT_A_TIME

    async def test_one_that_hangs_costs_no_memory_and_misses_what_the_log_forgot(self, rig: BusRig) -> None:
        puppet = await rig.begun()
        await halt(rig.bus.pid)
        # More than pipe and process take in between them.
        for _ in range(MANY):
            rig.events.publish(EventType.DAEMON, what="reloaded", filler="x" * 1000)
            await asyncio.sleep(0)
        link = rig.bus._link
        assert link is not None
        assert link._writer.transport.get_write_buffer_size() < 70_000
        os.kill(rig.bus.pid, signal.SIGCONT)
        rig.events.publish(EventType.DAEMON, what="last")
        heard = [(await puppet.hear(Word.EVENT))["event"]]
        while heard[-1]["what"] != "last":
            heard.append((await puppet.hear(Word.EVENT))["event"])
        missed = [event["missed"] for event in heard if event["what"] == "missed"]
        assert len(missed) == 1
        assert len(heard) - 1 + missed[0] == MANY + 1

    async def test_nobody_asks_one_that_is_backed_up(self, rig: BusRig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bus_link, "BACKLOG_LIMIT_BYTES", 1000)
        await rig.begun()
        await halt(rig.bus.pid)
        rig.bus.announce({"filler": "x" * 200_000})
        for _ in range(10):
            await asyncio.sleep(0)
        with pytest.raises(BusDownError, match="takes no question"):
            await rig.bus.collect([], 60)

    async def test_one_that_hangs_for_long_is_replaced(
        self, rig: BusRig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(bus_link, "HANG_S", 0.05)
        await rig.begun()
        await halt(rig.bus.pid)
        rig.bus.announce({"filler": "x" * 200_000})
        await until(lambda: not rig.bus.connected)
        monkeypatch.undo()
        await rig.begun()
        assert "it read nothing for" in caplog.text

    async def test_one_that_hangs_and_has_nothing_to_read(
        self, rig: BusRig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(bus_watch, "LOOK_S", 0.05)
        await rig.begun()
        first = rig.bus.pid
        await halt(first)
        await until(lambda: not rig.bus.connected)
        assert rig.bus.pid == first
        assert not rig.tally.bus_connected
        await until(lambda: rig.bus.pid != first)
        monkeypatch.undo()
        await rig.begun()
        assert rig.bus.pid != first
        assert [status.connected for status in rig.statuses] == [True, False, True]
        assert "it did not say how it does for" in caplog.text
        assert caplog.text.count("the message bus is not connected any more") == 1
