"""A QEMU guest agent on a unix socket of its own, spoken to with ``qemu.qmp``: in step, and one command at a time.

Source: docs/protocol.md, "The QGA dialect"; a test for each rule is in tests/adapters/test_qmp_channel.py.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator

import msgspec
from qemu.qmp import ConnectError, Runstate

from sidecar.adapters.channel_socket import open_channel
from sidecar.adapters.qmp_client import Client, Envelope, Loss, open_envelope, read_member
from sidecar.errors import (
    AgentBusyError,
    AgentDisconnectedError,
    AgentLeftError,
    AgentUnsynchronizedError,
    BadReplyError,
    ChannelUnreachableError,
    NoAnswerError,
    UncorrelatedReplyError,
)
from sidecar.protocol.qga_wire import NONCE_LIMIT

# An agent that knows ``id`` and was interrupted answers within this time of the interruption.
UNCORRELATED_S = 0.5

_DELIMITED, _PLAIN = "guest-sync-delimited", "guest-sync"


class _Correlation:
    """Finds the reply to one command; one without any ``id`` ends the wait soon, for the right one follows at once."""

    def __init__(self, command_id: str | None) -> None:
        self._command_id = command_id
        self.limit = asyncio.timeout(None)
        self.broken = False

    def is_answer(self, message: Envelope) -> bool:
        """Whether this is the answer."""
        if _answers(message, self._command_id):
            return True
        if _answers(message, None) and not self.broken:
            self.broken = True
            soon = asyncio.get_running_loop().time() + UNCORRELATED_S
            self.limit.reschedule(min(soon, self.limit.when() or soon))
        return False


class QmpChannel:
    """One connection to a QEMU guest agent; see ``engine.ports.QgaConnection``."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._turn = asyncio.Lock()
        self._synchronised = False
        self._loop = asyncio.get_running_loop()

    @property
    def dropped_lines(self) -> int:
        """How many lines from the guest were no message: no JSON object, blank, or too long."""
        return self._client.dropped_lines

    async def call(self, request: str, wait_s: float) -> str:
        """Send one command, in step with the agent, and return its reply as it came: a return or an error.

        Only the reply with the command's ``id`` is its answer, or to a command without one, one without.

        Args:
            request: The command as JSON; its ``id``, if any, is text.
            wait_s: For how long, at most, all in all.

        Raises:
            AgentBusyError: Another call did not end in time; nothing was sent.
            AgentUnsynchronizedError: The agent did not take part in the synchronisation, or does not read; nothing of
                the command was sent.
            AgentDisconnectedError: The connection is over; likewise.
            AgentLeftError: The connection ended, or the agent is known to have gone; the next call synchronises first.
            NoAnswerError: No answer within ``wait_s``; likewise.
            UncorrelatedReplyError: A reply without any ``id`` came, and soon after it nothing better; likewise.
            BadReplyError: A line of over ``REPLY_LIMIT_BYTES`` came; likewise.
        """
        command_id = _REQUEST.decode(request).id
        began = self._loop.time()
        async with self._my_turn(began + wait_s):
            await self._synchronise(began + wait_s)
            correlation = _Correlation(command_id)
            try:
                async with asyncio.timeout_at(began + wait_s) as correlation.limit:
                    outcome = await self._client.ask(request.encode() + b"\n", correlation.is_answer, command=True)
            except TimeoutError:
                if correlation.broken:
                    raise UncorrelatedReplyError("a reply without the command's id") from None
                raise NoAnswerError(f"no answer within {wait_s:g} s") from None
            if outcome is Loss.ENDED:
                raise AgentLeftError(outcome.value)
            if isinstance(outcome, Loss):
                raise BadReplyError(outcome.value)
            return outcome

    @contextlib.asynccontextmanager
    async def _my_turn(self, deadline: float) -> AsyncIterator[None]:
        """One call at a time; after one that comes to no good end, nobody knows what the agent says next."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._turn.acquire()
        except TimeoutError:
            raise AgentBusyError("an earlier call to this agent did not end in time") from None
        try:
            yield
        except BaseException:  # a cancelled one, too
            self._synchronised = False
            raise
        finally:
            self._turn.release()

    async def _synchronise(self, deadline: float) -> None:
        """Go on only when the next thing that the agent says answers the next thing that it is told."""
        self._ensure_open()
        try:
            async with asyncio.timeout_at(deadline):
                while not self._synchronised:
                    self._synchronised = True  # unless it is forgotten meanwhile
                    if not await self._is_echoed(_DELIMITED):
                        await self._is_echoed(_PLAIN)
            self._ensure_open()
        except TimeoutError:
            raise AgentUnsynchronizedError("the agent was not in step in time") from None

    def _ensure_open(self) -> None:
        if self._client.runstate is not Runstate.RUNNING:
            raise AgentDisconnectedError("the connection to the agent is over")
        if self._client.backlog_bytes:
            raise AgentUnsynchronizedError("the agent does not read what it was sent before")

    async def _is_echoed(self, command: str) -> bool:
        """Whether the agent knows this synchronisation; all that comes before its answer is stale.

        Only of ``guest-sync-delimited`` a refusal counts: agents of 0.15 and 1.0 have ``guest-sync`` alone.
        """
        nonce = 1 + secrets.randbelow(NONCE_LIMIT - 1)
        sync = b'\xff{"execute": "%s", "arguments": {"id": %d}}\n' % (command.encode(), nonce)
        may_refuse = command == _DELIMITED
        outcome = await self._client.ask(
            sync, lambda message: _echoes(message, nonce) or (may_refuse and _refuses(message)), command=False
        )
        if isinstance(outcome, Loss):
            raise AgentDisconnectedError(outcome.value)
        echo = open_envelope(outcome.encode())
        return echo is not None and _echoes(echo, nonce)

    def lose_agent(self) -> None:
        """Whoever answered is gone: a call that waits for it ends, and the next one synchronises first."""
        self._synchronised = False
        self._client.lose_peer()

    def unread_bytes(self) -> int:
        """How many of our bytes the peer has not read."""
        return self._client.unread_bytes()

    def close(self) -> None:
        """Close at once; what was not sent is dropped, and a call that waits ends."""
        self._client.abort()

    async def wait_closed(self) -> None:
        """Returns when the connection is over, whoever ended it, and nothing of it is left."""
        await self._client.over.wait()


async def dial_qga(path: str, pid: int | None) -> QmpChannel:
    """Connect to the agent at ``path``, which ``pid`` (if given) must serve; nothing is said yet.

    Raises:
        ChannelUnreachableError: No socket there, nobody listens, or too many wait already.
        ForeignSocketError: The process that listens is not ``pid``; closed, nothing was sent.
    """
    connection = open_channel(path, pid)
    client = Client(path)
    with contextlib.ExitStack() as undo:
        undo.callback(connection.close)
        try:
            await client.connect(connection)
        except ConnectError as error:
            raise ChannelUnreachableError(f"{path!a}: {error}") from error
        undo.pop_all()
    return QmpChannel(client)


class _Request(msgspec.Struct):
    id: str | None = None


class _Error(msgspec.Struct):
    desc: str = ""


_REQUEST = msgspec.json.Decoder(_Request)
_ERROR, _NUMBER, _TEXT = msgspec.json.Decoder(_Error), msgspec.json.Decoder(int), msgspec.json.Decoder(str)


def _answers(message: Envelope, command_id: str | None) -> bool:
    has_id = not isinstance(message.id, msgspec.UnsetType)
    return message.is_reply and has_id == (command_id is not None) and read_member(_TEXT, message.id) == command_id


def _echoes(message: Envelope, nonce: int) -> bool:
    return _answers(message, None) and read_member(_NUMBER, message.result) == nonce


def _refuses(message: Envelope) -> bool:
    """Whether an agent says that it has no ``guest-sync-delimited``; the words are the same in all its releases."""
    error = read_member(_ERROR, message.error)
    return error is not None and _DELIMITED in error.desc
