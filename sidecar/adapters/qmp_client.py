"""``qemu.qmp``'s client for a peer that cannot be trusted: a QEMU guest agent in somebody's guest.

The library is made for QEMU, which can be believed. ``Client`` keeps its streams, tasks and orderly end, and replaces
whatever a guest could use to end, fill or occupy it. It uses the library's inner names, so that is pinned.

Source: docs/protocol.md, "The QGA dialect"; a test for each rule is in tests/adapters/test_qmp_channel.py.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import msgspec
from qemu.qmp import Message, QMPClient, Runstate

from sidecar.adapters.channel_socket import LeakyBucket, count_unread
from sidecar.protocol.framing import LineSplitter
from sidecar.protocol.qga_wire import DECODE_ERRORS

logger = logging.getLogger(__name__)

# No honest reply that this project asks for is a tenth of it, and so much memory a guest can take with one line.
REPLY_LIMIT_BYTES = 1024 * 1024

# What a guest says is read in pieces of this size, one in a turn of the event loop,
READ_BYTES = 16 * 1024
# the library's stream keeps twice this (and one read of asyncio's, 256 KiB) before it stops reading the socket,
STREAM_BYTES = 64 * 1024
# and of what is read so many lines are looked at in a turn: some tenths of a millisecond.
TURN_LINES = 256

# The largest reply fits several times, as fast as it comes; after that, reading costs some hundredths of a core.
FLOOD_BURST_BYTES = 4 * 1024 * 1024
FLOOD_RATE_BYTES_S = 256 * 1024
# A line costs about as much as reading so many bytes more does, however short it is.
LINE_COST_BYTES = 64

LOGGED_BYTES = 64

_T = TypeVar("_T")
_SENTINEL = b"\xff"

# The library logs what a guest sent, as it is, and at ERROR too.
logging.getLogger("qemu.qmp").propagate = False


class Loss(Enum):
    """Why an answer will not come."""

    ENDED = "the connection ended, or the agent has gone"
    TOO_LONG = f"a line of over {REPLY_LIMIT_BYTES} bytes came"


class Envelope(msgspec.Struct):
    """A message, read through to its end but not built, which is twenty times cheaper."""

    result: msgspec.Raw | msgspec.UnsetType = msgspec.field(name="return", default=msgspec.UNSET)
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    event: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET

    @property
    def is_reply(self) -> bool:
        """Whether it could be the answer to something."""
        return self.event is msgspec.UNSET and (self.result is not msgspec.UNSET or self.error is not msgspec.UNSET)


@dataclass(slots=True, eq=False)
class Expectation:
    """The one message that is waited for; a line that is too long ends the wait when it may have been it."""

    is_answer: Callable[[Envelope], bool]
    ends_with_long_line: bool
    outcome: asyncio.Future[str | Loss]


class Client(QMPClient):
    """The library's client, for a peer that cannot be trusted.

    Attributes:
        over: Set when the connection has ended and no task of it is left.
        dropped_lines: How many lines were no message at all.
    """

    def __init__(self, label: str) -> None:
        super().__init__(readbuflen=STREAM_BYTES)
        self.await_greeting = self.negotiate = False
        self.over = asyncio.Event()
        self.dropped_lines = 0
        self._label = label
        self._expected: Expectation | None = None
        self._splitter = LineSplitter(REPLY_LIMIT_BYTES)
        self._lines: deque[bytes | None] = deque()
        self._turn_lines = 0
        self._loop = asyncio.get_running_loop()
        self._bucket, self._overflow_s = LeakyBucket(FLOOD_BURST_BYTES, FLOOD_RATE_BYTES_S), 0.0

    async def ask(self, data: bytes, is_answer: Callable[[Envelope], bool], *, command: bool) -> str | Loss:
        """Send, and wait for the message that is the answer; all others are dropped, now and after."""
        expected = Expectation(is_answer, command, self._loop.create_future())
        self._expected = expected
        try:
            self._outgoing.put_nowait(Message(data, eager=False))
            return await expected.outcome
        finally:
            self._expected = None

    @property
    def backlog_bytes(self) -> int:
        """What not even the kernel has room for."""
        return 0 if self._writer is None else self._writer.transport.get_write_buffer_size()

    def unread_bytes(self) -> int:
        """What the peer has not read."""
        return 0 if self._writer is None else count_unread(self._writer.transport)

    def lose_peer(self) -> None:
        """What is waited for will not come; the connection stands."""
        self._settle(Loss.ENDED)

    def abort(self) -> None:
        """End the connection; nothing is waited for, least of all a peer that does not read."""
        if self.runstate is Runstate.RUNNING:
            self._schedule_disconnect()
        if self._writer is not None:
            self._writer.transport.abort()

    # --- what the library calls: receiving

    async def _do_recv(self) -> Message:
        """The next message that is waited for."""
        while True:
            line = await self._next_line()
            message = None if line is None else open_envelope(line)
            if line is None or message is None:
                self._drop(line)
            elif self._expected is not None and self._expected.is_answer(message):
                return Message(line, eager=False)

    async def _on_message(self, msg: Message) -> None:
        self._settle(bytes(msg).decode())

    async def _next_line(self) -> bytes | None:
        """The next line without its LF, ``None`` for one that was too long.

        Raises:
            EOFError: The peer has ended the connection.
            OSError: It has broken.
        """
        while not self._lines:
            # The loop turns at least once: so that buffered data cannot keep it, and because a peer that hung up at
            # once must not end the library's reader before ``connect`` is through.
            await asyncio.sleep(self._overflow_s)
            assert self._reader is not None
            data = await self._reader.read(READ_BYTES)
            if not data:
                raise EOFError
            # A sentinel ends a line, too, however long that is already, and shows that it is void.
            self._lines.extend(self._splitter.receive_data(data.replace(_SENTINEL, _SENTINEL + b"\n")))
            cost_bytes = len(data) + len(self._lines) * LINE_COST_BYTES
            self._overflow_s = self._bucket.pour(cost_bytes, self._loop.time())
        self._turn_lines = (self._turn_lines + 1) % TURN_LINES
        if not self._turn_lines:
            await asyncio.sleep(0)
        return self._lines.popleft()

    def _drop(self, line: bytes | None) -> None:
        if line == _SENTINEL:
            return
        if not self.dropped_lines:
            shown = Loss.TOO_LONG.value if line is None else ascii(line[:LOGGED_BYTES])
            logger.warning("%s: dropped what is no message, as all such from now on: %s", ascii(self._label), shown)
        self.dropped_lines += 1
        if line is None and self._expected is not None and self._expected.ends_with_long_line:
            self._settle(Loss.TOO_LONG)

    def _settle(self, outcome: str | Loss) -> None:
        expected, self._expected = self._expected, None
        if expected is not None and not expected.outcome.done():
            expected.outcome.set_result(outcome)

    def _cb_inbound(self, msg: Message) -> Message:
        return msg  # the library would print it, even when nobody logs

    _cb_outbound = _cb_inbound

    # --- what the library calls: beginning and end

    async def _establish_session(self) -> None:
        await super()._establish_session()
        assert self._bh_tasks is not None
        # Nobody else takes the exception with which the library's tasks end.
        self._bh_tasks.add_done_callback(lambda ended: None if ended.cancelled() else ended.exception())

    async def _bh_disconnect(self) -> None:
        """The library's flushes first, and can fail; this one drops what was not sent, and waits for no peer."""
        try:
            if self._writer is not None:
                self._writer.transport.abort()
            with contextlib.suppress(Exception):
                await super()._bh_disconnect()
        finally:
            self._settle(Loss.ENDED)
            self.over.set()


_ENVELOPE = msgspec.json.Decoder(Envelope)


def open_envelope(line: bytes) -> Envelope | None:
    """The message in a line; ``None`` when the line is no JSON object; a sentinel at its end, too, makes it void."""
    try:
        line.decode()  # what is read past is not checked for it
        return _ENVELOPE.decode(line)
    except DECODE_ERRORS:
        return None


def read_member(decoder: msgspec.json.Decoder[_T], raw: msgspec.Raw | msgspec.UnsetType) -> _T | None:
    """A member of the envelope; ``None`` when it is not there, or is no such thing."""
    try:
        return None if isinstance(raw, msgspec.UnsetType) else decoder.decode(raw)
    except DECODE_ERRORS:
        return None
