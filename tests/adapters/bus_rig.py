"""A `BusProcess` whose process is a puppet: a test reads what it hears, and writes what it says."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sidecar.adapters import bus_process
from sidecar.adapters.bus_link import Beginning, BusEars
from sidecar.adapters.bus_process import BusProcess
from sidecar.api.events import EventType
from sidecar.api.link import BusStatus, Word, parse_line, render_line
from sidecar.engine.clocks import utc_now
from sidecar.engine.event_log import EventLog
from sidecar.engine.tally import Tally
from tests.fakes import bus_end

# Whatever a test waits for comes within this time, or never.
PATIENCE_S = 20.0

BEGINNING = Beginning("beta", "1.3", {"url": "rabbit://beta:secret@broker/"})


class Puppet:
    """One process; `say` and `hear` are its."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.rest: list[dict[str, Any]] | None = None

    async def hear(self, word: Word) -> dict[str, Any]:
        """The values of the next word, which must be this one."""
        heard, values = await self.hear_any()
        assert heard is word
        return values

    async def hear_any(self) -> tuple[Word, dict[str, Any]]:
        async with asyncio.timeout(PATIENCE_S):
            return parse_line(await self._reader.readline())

    async def hear_end(self) -> list[dict[str, Any]]:
        """The values of everything up to the end of the daemon's words; after the rig's end, too."""
        if self.rest is None:
            async with asyncio.timeout(PATIENCE_S):
                self.rest = [parse_line(line)[1] async for line in self._reader if line.endswith(b"\n")]
            self._writer.close()
        return self.rest

    async def say(self, word: Word, **values: Any) -> None:
        await self.say_line(render_line(word, **values))

    async def say_line(self, line: bytes) -> None:
        self._writer.write(line)
        await self._writer.drain()

    def die(self) -> None:
        self._writer.close()


class BusRig:
    """`bus` is what is tested; what its ears hear stands in the lists."""

    def __init__(self, directory: Path) -> None:
        self.events, self.tally = EventLog(utc_now, limit=64), Tally()
        self.path = directory / "puppet"
        self.bus = BusProcess(self.events, self.tally, (sys.executable, bus_end.__file__, str(self.path)))
        self.seen: list[object] = []
        self.deaf = False
        self.forgotten: list[object] = []
        self.statuses: list[BusStatus] = []
        self.calls: list[tuple[object, object, object]] = []
        self.result: Any = {"done": True}
        self.failure: Exception | None = None
        self.hold: asyncio.Event | None = None
        self.cancelled = 0
        self._known: list[Puppet] = []
        self._puppets: asyncio.Queue[Puppet] = asyncio.Queue()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["BusRig"]:
        """On the way out there must be no process and no task left."""
        before = asyncio.all_tasks()
        server = await asyncio.start_unix_server(self._receive, self.path, limit=1024 * 1024)
        running = asyncio.create_task(self.bus.run(self._ears()))
        try:
            yield self
        finally:
            running.cancel()
            await asyncio.wait([running])
            server.close()
        for puppet in self._known:
            await puppet.hear_end()
        assert running.cancelled()
        assert self.bus.pid == 0
        await until(lambda: not asyncio.all_tasks() - before - {asyncio.current_task()})

    async def puppet(self) -> Puppet:
        """The next process that is started."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._puppets.get()

    async def begun(self, after: str | None = None) -> Puppet:
        """The next process, which has said what it says first."""
        if not self.bus.configured:
            self.bus.begin(BEGINNING)
        puppet = await self.puppet()
        await puppet.hear(Word.BEGIN)
        await puppet.say(Word.READY, after=after)
        await puppet.say(Word.STATUS, connected=True, waiting=0, notified=0, dropped=0)
        await until(lambda: self.bus.connected)
        return puppet

    def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._known.append(Puppet(reader, writer))
        self._puppets.put_nowait(self._known[-1])

    def _ears(self) -> BusEars:
        return BusEars(self._call, self._see, self.forgotten.append, self.statuses.append)

    def _see(self, offer: object) -> None:
        if self.deaf:
            raise ValueError(offer)
        self.seen.append(offer)

    async def _call(self, operation: object, arguments: object, version: object) -> Any:
        self.calls.append((operation, arguments, version))
        try:
            if self.hold is not None:
                await self.hold.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failure is not None:
            raise self.failure
        return self.result


async def until(condition: Any) -> None:
    """Processes tell nobody here of what they do."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 # nobody tells us
            await asyncio.sleep(0.001)


async def halt(pid: int) -> None:
    """Stop a process; on another core it goes on for a moment after the signal was sent."""
    os.kill(pid, signal.SIGSTOP)
    stat = Path(f"/proc/{pid}/stat")
    await until(lambda: stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "T")


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_process, "RESTART_FIRST_S", 0.01)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[BusRig]:
    problems: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(str(context)))
    async with BusRig(tmp_path).running() as made:
        yield made
    gc.collect()
    assert problems == []


def tell(rig: BusRig, first: int, last: int) -> None:
    for number in range(first, last + 1):
        rig.events.publish(EventType.DAEMON, what="reloaded", number=number)


async def hear_numbers(puppet: Puppet, count: int) -> list[int]:
    return [(await puppet.hear(Word.EVENT))["event"]["number"] for _ in range(count)]
