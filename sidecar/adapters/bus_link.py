"""The link with one ``sidecar.bus`` process, from its first word to its last.

That process may hang, flood or talk nonsense, and costs the daemon nothing by it: what waits for it is bounded, events
wait in the event log, where they are anyway, and a process that reads nothing for long is given up.

Source: ``api.link`` for the words.
"""

import asyncio
import logging
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, TypeVar

import msgspec

from sidecar.adapters.bus_questions import Questions
from sidecar.adapters.bus_watch import HANGING_LOOKS, LOOK_S, BusWatch
from sidecar.api.link import (
    LINE_LIMIT_BYTES,
    Ask,
    BusStatus,
    Word,
    describe_problem,
    parse_line,
    render_line,
)
from sidecar.api.operations import OPERATIONS
from sidecar.api.problems import Problem, ProblemCode, ProblemError
from sidecar.engine.bell import Bell
from sidecar.engine.event_log import EventLog, Follower
from sidecar.errors import BusDownError

logger = logging.getLogger(__name__)

T = TypeVar("T")

# As many callers of the whole fleet's as one user of the API's sockets may be.
CALLS_LIMIT = 64

# What a pipe and its process take in at once; while more than this waits nothing is asked.
BACKLOG_LIMIT_BYTES = 1024 * 1024

# It opens its files, and takes a second to import what it needs; on a machine that is busy some more.
READY_S = 30.0
# A disk that stands still for so long is no disk any more.
HANG_S = 60.0

# Some thousand words may wait at once when all hosts say what they offer. Arrivals have to be seen to meanwhile.
WORDS_AT_A_TIME = 16


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a process is told first: this host's name, the API's version that is served, and ``[bus]``, as JSON.

    Another level is no other beginning: it is told to the process that runs.
    """

    hostname: str
    version: str
    section: Mapping[str, Any]
    log_level: str = field(default="info", compare=False)


@dataclass(frozen=True, slots=True)
class BusEars:
    """Who is told what comes over the bus; on the loop's thread, and nothing of it was looked at before.

    ``call`` does an operation (its name, arguments, and the version that the caller speaks) and gives its document, or
    raises ``ProblemError``. ``seen`` is another host's offer, ``forgotten`` the name of one that counts no more.
    """

    call: Callable[[object, object, object], Awaitable[Any]]
    seen: Callable[[object], None]
    forgotten: Callable[[object], None]
    status: Callable[[BusStatus], None]


class BusLink:
    """See the module; ``run`` owns it, and everything is for the loop's thread."""

    def __init__(self, reader: StreamReader, writer: StreamWriter, events: EventLog, ears: BusEars) -> None:
        self._reader, self._writer, self._events, self._ears = reader, writer, events, ears
        self._questions = Questions(partial(self._write, Word.ASK))
        self._calls = 0
        self._ready: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._follower: Follower | None = None
        self._watch = BusWatch(partial(_hand_over, ears.status))
        self._offer: Mapping[str, Any] | None = None
        self._announce = True
        self._level = ""
        self._bell = Bell()
        self._group: asyncio.TaskGroup | None = None

    async def run(self, beginning: Beginning) -> str:
        """Talk to the process until that comes to an end; returns why it did."""
        why = ""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._speak(beginning))
                await self._listen()
        except* _OverError as over:
            why = str(over.exceptions[0])
        finally:
            self._questions.give_up()
        return why

    async def finish(self) -> None:
        """After ``run`` was cancelled: say what has happened, and that this was the last word."""
        while self._follower is not None and (event := self._follower.take()) is not None:
            self._write(Word.EVENT, event=event.document)
        self._writer.close()
        await self._writer.wait_closed()

    def change_offer(self, offer: Mapping[str, Any], *, announce: bool) -> None:
        """This host offers this; ``announce``: every host is to be told."""
        self._offer, self._announce = offer, self._announce or announce
        self._bell.ring()

    def change_level(self, level: str) -> None:
        """Log from this level on."""
        self._level = level
        self._bell.ring()

    async def ask(self, what: Ask, timeout_s: float, **values: Any) -> Any:
        """See ``Questions.ask``."""
        if not self._ready.done() or self._is_backed_up():
            raise BusDownError("the process that talks to the message bus takes no question now")
        return await self._questions.ask(what, timeout_s, **values)

    # To the process.

    async def _speak(self, beginning: Beginning) -> None:
        self._write(Word.BEGIN, **msgspec.to_builtins(beginning))
        try:
            async with asyncio.timeout(READY_S):
                after = await asyncio.shield(self._ready)
        except TimeoutError:
            raise _OverError(f"it was not ready within {READY_S:g} s") from None
        assert self._group is not None
        self._group.create_task(self._tell_changes(beginning.log_level))
        self._group.create_task(self._watch_over())
        self._follower = self._events.follow_all() if after is None else self._events.follow(after)
        async for event in self._follower:
            self._write(Word.EVENT, event=event.document)
            await self._drain()

    async def _tell_changes(self, level: str) -> None:
        offer: Mapping[str, Any] | None = None
        while True:
            if self._level != level:
                level = self._level
                self._write(Word.LEVEL, level=level)
            elif self._offer is not offer:
                offer, announce = self._offer, self._announce
                self._announce = False
                self._write(Word.OFFER, offer=offer, announce=announce)
                await self._drain()
            else:
                await self._bell.wait()

    async def _watch_over(self) -> None:
        await self._watch.run()
        raise _OverError(f"it did not say how it does for {HANGING_LOOKS * LOOK_S:g} s")

    def _write(self, word: Word, **values: Any) -> None:
        self._writer.write(render_line(word, **values))

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(HANG_S):
                await self._writer.drain()
        except TimeoutError:
            raise _OverError(f"it read nothing for {HANG_S:g} s") from None
        except ConnectionError:
            raise _OverError(_ENDED) from None

    def _is_backed_up(self) -> bool:
        return self._writer.transport.get_write_buffer_size() > BACKLOG_LIMIT_BYTES

    # From the process.

    async def _listen(self) -> None:
        for number in count(1):
            try:
                line = await self._reader.readline()
                if not line.endswith(b"\n"):
                    raise _OverError(_ENDED)
                self._receive(*parse_line(line))
            except (ValueError, LookupError, TypeError, RecursionError) as error:
                # What it said may hold what guests and strangers wrote.
                raise _OverError(f"it said something that is no word of ours ({type(error).__name__})") from error
            if number % WORDS_AT_A_TIME == 0:
                await asyncio.sleep(0)

    def _receive(self, word: Word, values: Mapping[str, Any]) -> None:
        if self._ready.done() is (word is Word.READY):
            raise ValueError("ready comes first, and once")
        match word:
            case Word.READY:
                self._ready.set_result(_read_id(values["after"]))
            case Word.CALL:
                self._receive_call(values)
            case Word.SEEN:
                _hand_over(self._ears.seen, values["offer"])
            case Word.FORGOTTEN:
                _hand_over(self._ears.forgotten, values["hostname"])
            case Word.STATUS:
                self._watch.receive(msgspec.convert(values, BusStatus))
            case Word.DONE:
                self._questions.receive_done(values)
            case _:
                raise ValueError("a word of the daemon's")

    def _receive_call(self, values: Mapping[str, Any]) -> None:
        if self._calls < CALLS_LIMIT:
            assert self._group is not None
            self._calls += 1
            self._group.create_task(self._answer(values["id"], values))
        elif not self._is_backed_up():  # a caller that hears nothing gives up by himself
            problem = Problem(ProblemCode.TOO_MANY_CONNECTIONS, f"{CALLS_LIMIT} calls over the bus are under way")
            self._write(Word.ANSWER, id=values["id"], problem=describe_problem(problem))

    async def _answer(self, number: Any, values: Mapping[str, Any]) -> None:
        try:
            self._writer.write(await self._render_answer(number, values))
            await self._drain()
        finally:
            self._calls -= 1

    async def _render_answer(self, number: Any, values: Mapping[str, Any]) -> bytes:
        try:
            _check_deadline(values)
            result = await self._ears.call(values.get("operation"), values.get("arguments"), values.get("version"))
            line = render_line(Word.ANSWER, id=number, result=result)
            if len(line) <= LINE_LIMIT_BYTES:
                return line
            problem = Problem(ProblemCode.INTERNAL, "the answer is too large for the bus")
        except ProblemError as error:
            problem = error.problem
        except Exception:
            logger.exception("a call over the bus was not answered: a fault of ours")
            problem = Problem(ProblemCode.INTERNAL, "a fault of the daemon's own; its log tells more")
        return render_line(Word.ANSWER, id=number, problem=describe_problem(problem))


class _OverError(Exception):
    """The link is over; the text says why."""


_ENDED = "it ended"


def _hand_over(ear: Callable[[T], None], news: T) -> None:
    try:
        ear(news)
    except Exception:
        logger.exception("news that came over the bus were not taken: a fault of ours")


def _check_deadline(values: Mapping[str, Any]) -> None:
    """Raise ``ProblemError``: it would change something, and whoever called has given up."""
    deadline, name = values.get("deadline"), values.get("operation")
    row = OPERATIONS.get(name) if isinstance(name, str) else None
    if row is None or not row.changes or deadline is None:
        return
    late_s = time.monotonic() - float(deadline)
    if late_s > 0:
        told = f"{row.name}: the daemon came to it {late_s:.1f} s too late, and nothing was done"
        raise ProblemError(ProblemCode.TOO_SLOW, told)


def _read_id(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError("no event's id")
    return value
