"""Commands that others send to a QEMU guest agent: let through when their turn comes, and how each ended."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from sidecar.engine.qga_agent import QgaAgent
from sidecar.errors import (
    AgentBusyError,
    AgentDisconnectedError,
    AgentError,
    AgentLeftError,
    BadReplyError,
    CommandFailedError,
    MessageNotAllowedError,
    NoAnswerError,
    OutcomeUnknownError,
)
from sidecar.protocol.qga_commands import QGA_COMMANDS
from sidecar.protocol.qga_host import QgaSession
from sidecar.protocol.qga_wire import is_unsupported

# A command that answers only when it fails has failed by then, or it does not.
FAILURE_S = 5.0

# After these the agent has another list of commands enabled.
_RELISTING = {"guest-fsfreeze-freeze", "guest-fsfreeze-freeze-list", "guest-fsfreeze-thaw"}


class Doubt(Protocol):
    """What we know of the agent may be wrong, and it is asked."""

    def __call__(self, *, left: bool = False) -> None:
        """``left``: it went away, which is mostly reported in a moment."""


class QgaCommands:
    """Sends commands to one channel's agent; between ``open`` and ``close`` alone."""

    def __init__(self, agent: QgaAgent, session: QgaSession, doubt: Doubt, bad_reply: Callable[[], None]) -> None:
        """``bad_reply`` is called for each answer that is none."""
        self._agent, self._session, self._doubt, self._bad_reply = agent, session, doubt, bad_reply
        self._open = False
        self._left = asyncio.Event()

    def open(self) -> None:
        """The channel is there."""
        self._open = True

    def close(self) -> None:
        """The channel is gone: what waits for its turn is not sent."""
        self._open = False

    def note_left(self) -> None:
        """The guest's end closed: a command that says nothing when it succeeds has."""
        self._left.set()

    async def send(
        self, message: str, arguments: Mapping[str, object], timeout_s: float, wait_s: float | None = None
    ) -> object:
        """See ``Channel``: gives the result as JSON values, ``None`` for a command that succeeds without an answer.

        With ``wait_s`` the agent has ``timeout_s``, and the caller waits for so long in all, whoever else uses it.

        Such a command goes to an agent that has just answered another, and has succeeded when the agent goes away and
        no error came.

        Raises:
            MessageNotAllowedError: It may not be sent; nothing was.
            NotSentError: The agent cannot be asked now; nothing was sent.
            CommandFailedError: The agent answered with an error.
            NoAnswerError: Nobody knows whether it ran, or will run.
            BadReplyError: Likewise.
            JobHeldError: Another client holds the agent; nothing was sent.
            HypervisorError: See its kinds.
        """
        self._require_sendable(message)
        agent = self._session.round
        try:
            if not QGA_COMMANDS[message].answers:
                await self._send_silent(message, arguments, timeout_s)
                return None
            check = partial(self._require_sendable, message)
            result = await self._agent.execute(message, arguments, timeout_s, wait_s or timeout_s, check=check)
        except (AgentError, OutcomeUnknownError) as error:
            if isinstance(error, BadReplyError):
                self._bad_reply()
            if _hints_at_change(error) and self._session.round == agent:
                self._doubt(left=isinstance(error, AgentLeftError))
            raise
        if message in _RELISTING:
            self._doubt()
        return result

    async def _send_silent(self, message: str, arguments: Mapping[str, object], timeout_s: float) -> None:
        """The agent that was just asked goes, and said nothing against it: so it did what it was told."""
        end = asyncio.get_running_loop().time() + timeout_s
        answer_s = min(FAILURE_S, timeout_s)
        check = partial(self._begin_silent, message)
        try:
            await self._agent.execute(message, arguments, answer_s, timeout_s, check=check, ask_first=True)
        except AgentLeftError:
            return
        except NoAnswerError as error:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(end):
                    await self._left.wait()
            if not self._left.is_set():
                text = f"no error came, and the guest is as it was after {timeout_s:g} s"
                raise NoAnswerError(text) from error

    def _begin_silent(self, message: str) -> None:
        self._require_sendable(message)
        self._left.clear()

    def _require_sendable(self, message: str) -> None:
        """To be asked again when a command's turn comes: much may have happened while it waited for it."""
        if not self._open:
            raise AgentDisconnectedError("the channel is gone")
        refusal = self._session.refuse(message)
        if refusal is not None:
            raise MessageNotAllowedError(refusal)


def _hints_at_change(error: AgentError | OutcomeUnknownError) -> bool:
    """Whether a failed command lets us doubt what we know of its agent."""
    if isinstance(error, CommandFailedError):
        return is_unsupported(error)
    return not isinstance(error, AgentBusyError)
