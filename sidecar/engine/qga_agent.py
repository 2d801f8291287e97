"""One QEMU guest agent, as it is spoken to: one command at a time, and each answer its own command's.

Every command carries an ``id`` that nobody can guess; a reply without it is not the answer. Whether an agent knows
``id`` shows when it is asked for ``guest-info``: one that does not, of before QEMU 3.1, is given a number to say
back right before each command, and the reply after that is taken for the answer. Between the two another client of
libvirt's may have a command of its own answered: that guarantee is weaker (docs/protocol.md).
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol

import msgspec

from sidecar.errors import (
    AgentBusyError,
    AgentUnsynchronizedError,
    BadReplyError,
    CommandFailedError,
    NoAnswerError,
    UncorrelatedReplyError,
)
from sidecar.protocol.guest_text import VALUES_LIMIT, clean_value
from sidecar.protocol.qga_report import Report, read_report
from sidecar.protocol.qga_wire import NONCE_LIMIT, is_unsupported, parse_nonce, parse_reply, render_command

# How long an agent may take to say what it is. It has nothing to look up; libvirt's own default is the same.
ANSWER_S = 5.0

# How long we wait for that in all: libvirt synchronises first (5 s, and once more), or waits for another client's
# agent job (30 s) and then says so.
ASK_WAIT_S = 45.0

# A reply that is larger is decoded off the loop.
LARGE_REPLY_CHARACTERS = 64 * 1024


class Call(Protocol):
    """Sends one command to the agent, over libvirt or a socket of its own: see ``engine.ports``."""

    async def __call__(self, request: str, answer_s: float, wait_s: float) -> str:
        """The agent may take ``answer_s`` for its reply; the caller waits for ``wait_s`` in all."""


class QgaAgent:
    """See the module; every method raises what ``Call`` does."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._turn = asyncio.Lock()
        self._knows_id = True

    async def ask(self, begin: Callable[[], None]) -> Report:
        """What the agent is and may be asked; also finds out whether it knows ``id``.

        ``begin`` is called when nobody else's command is under way any more.

        Raises:
            CommandFailedError: The agent does not answer ``guest-info``; see ``is_unsupported``.
            BadReplyError: It answers something else.
        """
        async with self._my_turn(ASK_WAIT_S) as end:
            begin()
            knows_id, result = True, await self._ask_with_id(end)
            if result is None:
                knows_id, result = False, await self._converse("guest-info", None, ANSWER_S, end, with_id=False)
            report = read_report(result)
            self._knows_id = knows_id
        return report

    async def _ask_with_id(self, end: float) -> msgspec.Raw | None:
        """``None``: the agent knows no ``id``. A single odd line may be somebody's late word, so it is asked twice."""
        for _ in range(2):
            try:
                return await self._converse("guest-info", None, ANSWER_S, end, with_id=True)
            except UncorrelatedReplyError:
                continue
            except CommandFailedError as error:
                if is_unsupported(error):
                    raise
        return None

    async def execute(
        self,
        name: str,
        arguments: Mapping[str, object],
        answer_s: float,
        wait_s: float,
        *,
        check: Callable[[], None],
        ask_first: bool = False,
    ) -> object:
        """Send a command; returns its result as JSON values, every text in it cleaned.

        Args:
            name: The command.
            arguments: Its arguments.
            answer_s: How long the agent may take.
            wait_s: How long the caller waits in all.
            check: Called when the turn is the command's; what it raises ends it unsent.
            ask_first: Send it only to an agent that has answered another command just now.

        Raises:
            MessageNotAllowedError: The arguments are no JSON, or too large; nothing was sent.
            AgentBusyError: Earlier commands did not end within ``wait_s``; nothing was sent.
            AgentUnsynchronizedError: The agent did not take part in what goes before the command; nothing was sent.
            CommandFailedError: The agent answered with an error.
            BadReplyError: It answered something that cannot be taken for the answer, or is too much of it.
        """
        render_command(name, arguments, None)
        async with self._my_turn(wait_s) as end:
            check()
            if ask_first:
                with _before_the_command():
                    await self._converse("guest-info", None, ANSWER_S, end, with_id=self._knows_id)
            result = await self._converse(name, arguments, answer_s, end, with_id=self._knows_id)
        _require_moderate(result)
        if len(result) > LARGE_REPLY_CHARACTERS:
            return await asyncio.to_thread(_decode, result)
        return _decode(result)

    async def _converse(
        self, name: str, arguments: Mapping[str, object] | None, answer_s: float, end: float, *, with_id: bool
    ) -> msgspec.Raw:
        if with_id:
            return await self._exchange(name, arguments, secrets.token_hex(16), answer_s, end)
        nonce = secrets.randbelow(NONCE_LIMIT - 1) + 1
        with _before_the_command():
            echoed = parse_nonce(await self._exchange("guest-sync", {"id": nonce}, None, ANSWER_S, end))
        if echoed != nonce:
            raise AgentUnsynchronizedError("the agent did not give our number back")
        return await self._exchange(name, arguments, None, answer_s, end)

    async def _exchange(
        self, name: str, arguments: Mapping[str, object] | None, command_id: str | None, answer_s: float, end: float
    ) -> msgspec.Raw:
        request = render_command(name, arguments, command_id)
        wait_s = end - asyncio.get_running_loop().time()
        return parse_reply(await self._call(request, answer_s, wait_s), command_id)

    @asynccontextmanager
    async def _my_turn(self, wait_s: float) -> AsyncIterator[float]:
        """Yields the loop's time at which the caller's patience ends."""
        end = asyncio.get_running_loop().time() + wait_s
        try:
            async with asyncio.timeout_at(end):
                await self._turn.acquire()
        except TimeoutError as error:
            raise AgentBusyError(f"earlier commands did not end within {wait_s:g} s") from error
        try:
            yield end
        finally:
            self._turn.release()


@contextmanager
def _before_the_command() -> Iterator[None]:
    """What fails here fails before the caller's own command was sent."""
    try:
        yield
    except (NoAnswerError, BadReplyError, CommandFailedError) as error:
        raise AgentUnsynchronizedError(f"before the command was sent: {error}") from error


def _require_moderate(result: msgspec.Raw) -> None:
    """Small containers cost hundreds of bytes each once they are built: refuse to build too many."""
    raw = bytes(result)
    if sum(raw.count(sign) for sign in (b"[", b"{", b",")) > VALUES_LIMIT:
        raise BadReplyError(f"a result of more than {VALUES_LIMIT} values")


def _decode(result: msgspec.Raw) -> object:
    try:
        return clean_value(msgspec.json.decode(result))
    except (msgspec.DecodeError, UnicodeError, RecursionError, ValueError) as error:
        raise BadReplyError(f"a result that cannot be used: {type(error).__name__}") from error
