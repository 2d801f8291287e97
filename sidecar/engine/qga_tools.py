"""What a QGA channel tells of the guest's tools: the agent's version, and whether a file forbids to upgrade them.

The file is looked for once an agent, where the configuration allows it, and only in a guest that nobody better has told
of. Whatever comes of it, the channel's state is what the agent itself answers to ``guest-info``.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from sidecar.engine.clocks import GuestClock
from sidecar.engine.entry import GuestTimer
from sidecar.engine.qga_agent import ANSWER_S, ASK_WAIT_S
from sidecar.engine.settings import Surroundings
from sidecar.engine.tools import ToolsEntry
from sidecar.errors import AgentError, CommandFailedError, NotSentError, OutcomeUnknownError, Refusal, SidecarError
from sidecar.protocol.qga_wire import is_unsupported
from sidecar.protocol.states import ChannelView, Reason, State
from sidecar.protocol.tools import UPGRADE_LOCK, Source, Tristate, read_qga_version

logger = logging.getLogger(__name__)

# By then an agent of ours in the same guest has told by itself, and there is no need to look.
LOOK_AFTER_S = 10.0

# A look that did not take place (another client has the agent, the guest is frozen or stands) is repeated after this
# long; an agent that says of itself what is not so is not asked for ever.
LOOK_AGAIN_S = 60.0
LOOKS_LIMIT = 3

# The agent passes on what its C library says of ENOENT; in another language we do not know, and say so.
_NOT_THERE = "No such file or directory"

_OPEN, _CLOSE = "guest-file-open", "guest-file-close"
_INFINITY = float("inf")


class QgaTools:
    """See the module; ``follow`` is told whatever happens to the channel."""

    def __init__(
        self,
        tools: ToolsEntry,
        channel: str,
        label: str,
        surroundings: Surroundings,
        clock: GuestClock,
        refuse: Callable[[str], Refusal | None],
        send: Callable[[str, Mapping[str, object], float, float], Awaitable[object]],
    ) -> None:
        """``channel``: see ``FIRST_CHANNEL``; ``refuse`` and ``send`` are the channel's."""
        self._tools, self._channel, self._label = tools, channel, label
        self._surroundings, self._clock = surroundings, clock
        self._refuse, self._send = refuse, send
        self._timer = GuestTimer(clock, self._look)
        self._group: asyncio.TaskGroup | None = None
        self._task: asyncio.Task[None] | None = None
        self._agent = self._round = 0
        self._offer: str | None = None
        self._looks_left, self._look_at = LOOKS_LIMIT, _INFINITY
        self._lookable = False

    def start(self, group: asyncio.TaskGroup) -> None:
        """From now on looking is possible, in tasks of this group."""
        self._group = group

    def close(self) -> None:
        """The channel is over: nothing of ours goes on."""
        self._group = None
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def agent_left(self) -> None:
        """The agent's end of the channel was seen closing: whoever comes next is another."""
        self._agent += 1
        self._looks_left, self._look_at = LOOKS_LIMIT, _INFINITY

    def follow(self, view: ChannelView[str], number: int) -> None:
        """The channel is so now; ``number`` is the session's round.

        A round begins with each connection of ours or libvirt's, too. The agent is the same as long as it calls itself
        the same and was not seen leaving, and what was found out about its guest stands.
        """
        self._round = number
        agreed = view.state is State.AGREED
        if agreed:
            if view.guest != self._offer:
                self._offer = view.guest
                self.agent_left()
            if self._look_at == _INFINITY:
                self._look_at = self._clock.now() + LOOK_AFTER_S
            self._tools.tell(Source.QGA, read_qga_version(view.guest), self._channel)
        self._lookable = agreed and view.reason is not Reason.GUEST_FROZEN
        self._set_timer()

    def _set_timer(self) -> None:
        self._timer.set(self._look_at if self._may_look else _INFINITY)

    @property
    def _may_look(self) -> bool:
        """What hinders us now is followed by another ``follow``, or is over for this agent."""
        idle = self._group is not None and self._task is None
        return self._surroundings.settings.read_guest_file and idle and self._lookable and self._looks_left > 0

    def _look(self) -> None:
        if not self._may_look:
            return
        if self._tools.has_told(Source.GUEST_TOOLS):
            self._look_at = self._clock.now() + LOOK_AGAIN_S  # it may be withdrawn, and that is nothing we are told of
            self._set_timer()
            return
        self._looks_left -= 1
        if self._refuse(_OPEN) is not None or self._refuse(_CLOSE) is not None:
            self._looks_left = 0
            return
        assert self._group is not None
        self._task = self._group.create_task(self._find_lock(self._agent, self._round))

    async def _find_lock(self, agent: int, number: int) -> None:
        try:
            upgradable = await self._is_upgradable()
        finally:
            self._task = None
        if agent == self._agent:
            # An answer that was lost with our connection is none.
            if upgradable is None or (upgradable is Tristate.UNKNOWN and number != self._round):
                self._look_at = self._clock.now() + LOOK_AGAIN_S
            else:
                self._looks_left = 0
                self._tools.tell_upgradable(upgradable, self._channel)
        self._set_timer()

    async def _is_upgradable(self) -> Tristate | None:
        """``None``: nobody has looked."""
        try:
            handle = await self._send(_OPEN, {"path": UPGRADE_LOCK, "mode": "r"}, ANSWER_S, ASK_WAIT_S)
        except SidecarError as error:
            logger.debug("%s: looking for %s: %s", self._label, UPGRADE_LOCK, error)
            return _judge_failure(error)
        if type(handle) is not int:
            return Tristate.UNKNOWN
        await self._close(handle)
        return Tristate.FALSE

    async def _close(self, handle: int) -> None:
        # Another agent, with files of its own, is not agreed yet: it is asked when our command has ended.
        try:
            await self._send(_CLOSE, {"handle": handle}, ANSWER_S, ASK_WAIT_S)
        except SidecarError as error:
            logger.debug("%s: the agent keeps a file open: %s", self._label, error)


def _judge_failure(error: SidecarError) -> Tristate | None:
    """What a failed look tells; ``None``: it did not take place."""
    match error:
        case CommandFailedError() if is_unsupported(error):
            return None
        case CommandFailedError(description=description) if _NOT_THERE in description:
            return Tristate.TRUE
        case NotSentError():
            return None
        case AgentError() | OutcomeUnknownError():
            return Tristate.UNKNOWN
    return None
