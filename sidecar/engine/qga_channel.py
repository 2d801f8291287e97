"""A channel that speaks the QGA dialect: asks the agent when its session wants to, and sends commands for others."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping

from sidecar.engine.clocks import GuestClock
from sidecar.engine.entry import Entry, GuestTimer, read_view
from sidecar.engine.facts import Facts
from sidecar.engine.qga_agent import ANSWER_S, QgaAgent
from sidecar.engine.qga_facts import QgaFacts
from sidecar.engine.qga_lines import Line
from sidecar.engine.qga_sending import QgaCommands
from sidecar.engine.qga_tools import QgaTools
from sidecar.engine.settings import Surroundings, Way
from sidecar.engine.tools import FIRST_CHANNEL, ToolsEntry
from sidecar.errors import (
    AgentDisconnectedError,
    AgentError,
    BadReplyError,
    CommandFailedError,
    HypervisorError,
    NoAnswerError,
    Refusal,
)
from sidecar.protocol.bad_input import BadInputCode
from sidecar.protocol.qga_host import QgaSession
from sidecar.protocol.qga_states import Step, judge_failure, resume_stage
from sidecar.protocol.releases import Release
from sidecar.protocol.states import ChannelView, Dialect, Fault, Port, State
from sidecar.record.agreement import ChannelRow
from sidecar.record.domain_xml import ChannelDevice

logger = logging.getLogger(__name__)

# Timers are not exact to the last of this.
_ALMOST = 0.9

_INFINITY = float("inf")


class QgaChannel:
    """See ``engine.channel.Channel``; the agent is asked when it may have changed, and left alone while healthy."""

    dialect = Dialect.QGA

    def __init__(
        self,
        device: ChannelDevice,
        line: Line,
        label: str,
        surroundings: Surroundings,
        clock: GuestClock,
        recorded: ChannelRow | None,
        tools: ToolsEntry,
        facts: Facts,
        changed: Callable[[], None],
    ) -> None:
        """``recorded`` is this channel's row of the same QEMU process's record, when there is one already.

        ``tools`` is told of the guest's tools, and ``facts`` of what else it is asked for.
        """
        self.device, self.way = device, line.way
        self._line, self._label, self._surroundings, self._clock = line, label, surroundings, clock
        self._changed = changed
        self._libvirt_reports = line.way is Way.LIBVIRT
        settings = surroundings.settings
        earlier = read_view(recorded, self.dialect, str)
        port = Port.from_xml(device.opened)
        stage = resume_stage(None if earlier is None else earlier.state, port)
        self._session = QgaSession(
            maximum=settings.qga_maximum,
            absent_s=settings.qga_absent_s,
            now=clock.now(),
            port=port,
            stage=stage,
            offer=earlier.guest if earlier else None,
            agreed=_agreed_release(earlier),
        )
        since = recorded.since if recorded else None
        self._entry = Entry(device.name, self.dialect, self._session.view, surroundings.wall_clock, earlier, since)
        self._agent = QgaAgent(self._call)
        self._commands = QgaCommands(self._agent, self._session, self._doubt, self._count_bad_reply)
        place = FIRST_CHANNEL if line.way is Way.LIBVIRT else device.name
        self._tools = QgaTools(tools, place, label, surroundings, clock, self.refuse, self._commands.send)
        self._facts = QgaFacts(facts, device.name, label, clock, self.refuse, self._commands.send)
        self._timer = GuestTimer(clock, self._update)
        self._group: asyncio.TaskGroup | None = None
        self._closed = True
        self._asking: asyncio.Task[None] | None = None
        self._complained = False
        self._used: set[str] = set()

    @property
    def row(self) -> ChannelRow:
        """See ``Channel``."""
        return self._entry.row

    @property
    def settled(self) -> bool:
        """See ``Channel``."""
        return self._entry.settled

    @property
    def used(self) -> Collection[str]:
        """See ``Channel``."""
        return self._used

    @property
    def view(self) -> ChannelView[str]:
        """The live view; sending goes by this, never by the record."""
        return self._session.view

    @property
    def agreements(self) -> int:
        """See ``Channel``."""
        return self._session.agreements

    # What the stay tells.

    def arrived(self) -> None:
        """See ``Channel``."""
        self._entry.begin()

    def port_changed(self, opened: bool) -> None:
        """See ``Channel``; libvirt reports its own agent's end by ``agent_changed``, when it can be spoken to."""
        if not self._libvirt_reports:
            self._end_changed(opened)

    def agent_changed(self, connected: bool) -> None:
        """See ``Channel``."""
        if self._libvirt_reports:
            self._end_changed(connected)

    def _end_changed(self, opened: bool) -> None:
        with self._agent_may_change(seen=True):
            if opened:
                self._session.port_opened(self._clock.now())
                self._line.hurry()
            else:
                self._session.port_closed(self._clock.now())
                self._commands.note_left()

    def port_seen(self, opened: bool | None) -> None:
        """See ``Channel``."""
        if opened is not None:
            with self._agent_may_change(seen=not opened):
                self._session.port_seen(opened, self._clock.now())

    @contextlib.contextmanager
    def _agent_may_change(self, *, seen: bool) -> Iterator[None]:
        """``seen``: when the agent changes, it is because it was seen leaving, and not because nobody looked."""
        agent = self._session.round
        yield
        if self._session.round != agent:
            self._line.lose_agent()
            if seen:
                self._tools.agent_left()
        if not self._session.port_open:
            self._line.drop_unread()
        self._update()

    def reports_lost(self) -> None:
        """See ``Channel``."""
        self._session.lose_track()

    def clock_changed(self) -> None:
        """See ``Channel``."""
        if self._clock.running:
            self._line.hurry()
        self._update()

    def settings_changed(self) -> None:
        """See ``Channel``."""
        self._session.set_maximum(self._surroundings.settings.qga_maximum, self._clock.now())
        self._update()

    def renegotiate(self) -> None:
        """See ``Channel``."""
        if self._line.ready:
            self._session.renegotiate(self._clock.now())
            self._update()

    def start(self, group: asyncio.TaskGroup) -> None:
        """See ``Channel``."""
        self._group, self._closed = group, False
        self._commands.open()
        self._tools.start(group)
        self._facts.start(group)
        self._line.start(group, self._connected, self._disconnected)
        self._update()

    def close(self) -> None:
        """See ``Channel``."""
        self._closed = True
        self._commands.close()
        self._timer.cancel()
        self._tools.close()
        self._facts.close()
        if self._asking is not None:
            self._asking.cancel()
        self._line.close()

    # What the line tells.

    def _connected(self) -> None:
        self._session.connect(self._clock.now())
        self._update()

    def _disconnected(self, fault: Fault) -> None:
        self._session.disconnect(self._clock.now(), Step[fault.name])
        self._update()

    # Asking.

    def _update(self) -> None:
        """After anything happened: settle, ask if it is time to, and set the next timer."""
        if self._closed:
            return
        now = self._clock.now()
        self._session.tick(now)
        self._entry.update(self._session.view, now)
        self._tools.follow(self._session.view, self._session.round)
        if self._may_ask and self._session.ask_due:
            self._ask()
        ask_at = self._session.ask_at if self._may_ask else _INFINITY
        self._timer.set(min(ask_at, self._session.deadline, self._entry.deadline))
        self._changed()

    @property
    def _may_ask(self) -> bool:
        """What hinders us now calls ``_update`` when it does so no more."""
        return not self._closed and self._asking is None and self._clock.running and self._line.ready

    def _ask(self) -> None:
        assert self._group is not None
        self._asking = self._group.create_task(self._negotiate(self._session.begin_round()))
        self._asking.add_done_callback(self._asked)

    def _asked(self, _task: asyncio.Task[None]) -> None:
        self._asking = None
        if not self._closed:
            self._update()

    async def _negotiate(self, number: int) -> None:
        begun = self._clock.now()

        def begin() -> None:
            nonlocal begun
            begun = self._clock.now()
            if self._closed or self._session.round != number:
                raise AgentDisconnectedError("another agent may be there now")

        try:
            report = await self._agent.ask(begin)
        except (AgentError, HypervisorError) as error:
            waited_s = self._clock.now() - begun  # the guest's: while it stood, it could not answer
            if waited_s >= _ALMOST * ANSWER_S and self._line.give_way_if_unread():
                return
            self._complain(error)
            in_time = waited_s < _ALMOST * ANSWER_S
            self._session.fail(number, judge_failure(error, answered_in_time=in_time), self._clock.now())
        else:
            self._session.receive_report(number, report, self._clock.now())

    def _complain(self, error: AgentError | HypervisorError) -> None:
        """Say once what an agent answered that is no answer; what else may fail shows in the record."""
        if not isinstance(error, BadReplyError):
            return
        self._count_bad_reply()
        if not self._complained:
            self._complained = True
            logger.warning("%s: bad input, further like it is only counted: %s", self._label, error)

    def _count_bad_reply(self) -> None:
        self._surroundings.tally.bad_input[self.dialect, BadInputCode.BAD_MESSAGE] += 1

    async def _call(self, request: str, answer_s: float, wait_s: float) -> str:
        agent = self._session.round

        def wanted() -> bool:
            return not self._closed and self._session.round == agent

        return await self._line.call(request, answer_s, wait_s, wanted=wanted, suspect=self._session.suspect)

    async def refresh(self) -> None:
        """See ``Channel`` and ``QgaFacts.refresh``."""
        await self._facts.refresh()

    # Sending for others.

    def refuse(self, message: str) -> Refusal | None:
        """See ``Channel``; by the live view, never by the record."""
        return self._session.refuse(message)

    async def send(self, message: str, arguments: Mapping[str, object], timeout_s: float) -> object:
        """See ``Channel`` and ``QgaCommands.send``."""
        try:
            result = await self._commands.send(message, arguments, timeout_s)
        except (CommandFailedError, NoAnswerError, BadReplyError):
            self._used.add(message)
            raise
        self._used.add(message)
        return result

    async def ask(self, question: str, answer_s: float, wait_s: float) -> object:
        """As ``send``, for our own curiosity: it does not count as used, and the caller waits for ``wait_s`` in all."""
        return await self._commands.send(question, {}, answer_s, wait_s)

    def _doubt(self, *, left: bool = False) -> None:
        """What we know of the agent may be wrong: it is asked, and what it answers, or not, counts."""
        self._session.doubt(self._clock.now(), left=left)
        self._update()


def _agreed_release(view: ChannelView[str] | None) -> Release | None:
    try:
        return Release.parse(view.version) if view is not None and view.state is State.AGREED else None
    except ValueError:
        return None
