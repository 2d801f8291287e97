"""What a QEMU guest agent is asked of its guest, and when: only when somebody wants to know.

An agent says nothing by itself, and is left alone while it is healthy (docs/protocol.md). So what it told stays until
somebody asks for it; then it is asked anew, unless it was just now.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from sidecar.engine.clocks import GuestClock
from sidecar.engine.facts import Facts
from sidecar.errors import BadReplyError, CommandFailedError, MessageNotAllowedError, Refusal, SidecarError
from sidecar.protocol.fact_content import bound_value
from sidecar.protocol.states import Dialect

logger = logging.getLogger(__name__)

# How old may be what is told; whoever wants it every second costs the guest no more than this.
FRESH_S = 30.0

# How long the commands may take in all: whoever asked waits no longer, and takes what is known.
REFRESH_S = 2.0

# An agent answers within milliseconds; one that is given less than this would only be suspected for nothing.
LEAST_S = 0.25

FACT_COMMANDS = (
    "guest-get-host-name",
    "guest-get-osinfo",
    "guest-get-timezone",
    "guest-network-get-interfaces",
    "guest-get-users",
    "guest-get-vcpus",
    "guest-get-fsinfo",
)
"""What is asked, in this order: the file systems last, since a mount that hangs keeps an agent from answering."""


class Send(Protocol):
    """Sends a command as for any caller: see ``QgaCommands.send``."""

    async def __call__(self, message: str, arguments: Mapping[str, object], timeout_s: float) -> object:
        """The agent may take ``timeout_s``, and the caller waits no longer."""


class QgaFacts:
    """See the module; one channel's, between ``start`` and ``close``."""

    def __init__(
        self,
        facts: Facts,
        channel: str,
        label: str,
        clock: GuestClock,
        refuse: Callable[[str], Refusal | None],
        send: Send,
    ) -> None:
        """``refuse`` and ``send`` are the channel's."""
        self._facts, self._channel, self._label, self._clock = facts, channel, label, clock
        self._refuse, self._send = refuse, send
        self._group: asyncio.TaskGroup | None = None
        self._asking: asyncio.Task[None] | None = None
        self._asked_at = float("-inf")

    def start(self, group: asyncio.TaskGroup) -> None:
        """From now on asking is possible, in tasks of this group."""
        self._group = group

    def close(self) -> None:
        """The channel is over: nothing of ours goes on."""
        self._group = None
        if self._asking is not None:
            self._asking.cancel()

    async def refresh(self) -> None:
        """Ask the agent if it can be asked and was not just now; those who want to know at once share one asking.

        Returns when it has told, or after ``REFRESH_S``; raises nothing.
        """
        if self._asking is None and self._group is not None and self._due:
            self._asked_at = asyncio.get_running_loop().time()
            self._asking = self._group.create_task(self._ask())
            self._asking.add_done_callback(self._asked)
        if self._asking is not None:
            await asyncio.wait([self._asking], timeout=REFRESH_S)

    @property
    def _due(self) -> bool:
        """While the guest stands nobody answers; an agent that is not agreed or frozen refuses every command."""
        stale = asyncio.get_running_loop().time() > self._asked_at + FRESH_S
        return stale and self._clock.running and any(self._refuse(command) is None for command in FACT_COMMANDS)

    def _asked(self, _task: asyncio.Task[None]) -> None:
        self._asking = None

    async def _ask(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + REFRESH_S
        for command in FACT_COMMANDS:
            left_s = end - loop.time()
            if left_s < LEAST_S or not self._clock.running:
                return
            if not await self._ask_for(command, left_s):
                return

    async def _ask_for(self, command: str, timeout_s: float) -> bool:
        """Whether another command has a chance; whatever goes wrong, what is known stays.

        A command that the agent does not have is refused right here, and not sent.
        """
        try:
            value = await self._send(command, {}, timeout_s)
        except SidecarError as error:
            logger.debug("%s: %s: %s", self._label, command, error)
            return isinstance(error, CommandFailedError | BadReplyError | MessageNotAllowedError)
        content = bound_value(value)
        if content is None:
            logger.debug("%s: %s: the answer is too large", self._label, command)
        else:
            self._facts.note(command, self._channel, Dialect.QGA, content)
        return True
