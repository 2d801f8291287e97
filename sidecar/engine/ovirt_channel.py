"""A channel that speaks the oVirt dialect: its connection, its session, its deadlines, and messages sent for others."""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping

from sidecar.engine.attachment import Attachment
from sidecar.engine.clocks import GuestClock
from sidecar.engine.entry import Entry, GuestTimer, read_view
from sidecar.engine.facts import Facts
from sidecar.engine.ovirt_sending import OvirtMessages
from sidecar.engine.ovirt_tools import OvirtTools
from sidecar.engine.ports import ByteConnection
from sidecar.engine.settings import Surroundings, Way
from sidecar.engine.tally import BadInputMeter
from sidecar.engine.tools import ToolsEntry
from sidecar.errors import MessageNotAllowedError, NoAnswerError, NotSentError, Refusal
from sidecar.protocol.bad_input import BadInput
from sidecar.protocol.ovirt_host import HostSession
from sidecar.protocol.ovirt_reader import Completion, Event
from sidecar.protocol.ovirt_states import Stage, Step
from sidecar.protocol.states import ChannelView, Dialect, Fault, Port, Reason, State
from sidecar.record.agreement import ChannelRow
from sidecar.record.domain_xml import ChannelDevice

logger = logging.getLogger(__name__)

# QEMU reads what a connected host wrote within milliseconds of the guest's opening its end. What it has not read by
# then, it will not read while another client is connected.
BUSY_AFTER_S = 3.0

_INFINITY = float("inf")


class OvirtChannel:
    """See ``engine.channel.Channel``; from ``start`` to ``close`` its socket is kept connected."""

    dialect, way = Dialect.OVIRT, Way.OVIRT

    def __init__(
        self,
        device: ChannelDevice,
        pid: int,
        label: str,
        surroundings: Surroundings,
        clock: GuestClock,
        recorded: ChannelRow | None,
        hint: ChannelRow | None,
        tools: ToolsEntry,
        facts: Facts,
        changed: Callable[[], None],
    ) -> None:
        """``recorded`` is this channel's row of this QEMU process's record, if any; ``hint`` is that of another's.

        ``tools`` is told of the guest's tools, and ``facts`` of all else that it tells of itself.
        """
        self.device = device
        self._clock, self._surroundings, self._label, self._changed = clock, surroundings, label, changed
        settings, dialer = surroundings.settings, surroundings.dialer
        self._tools, self._facts = OvirtTools(tools, settings.ovirt_maximum), facts
        earlier, elsewhere = read_view(recorded, self.dialect, int), read_view(hint, self.dialect, int)
        port = Port.from_xml(device.opened)
        stage = _resume_stage(earlier, port)
        self._session = HostSession(
            maximum=settings.ovirt_maximum,
            responsive_s=settings.responsive_s,
            absent_s=settings.absent_s,
            now=clock.now(),
            port=port,
            stage=stage,
            offer=earlier.guest if earlier and stage is not Stage.UNHEARD else None,
            hint=elsewhere.guest if elsewhere else None,
        )
        since = recorded.since if recorded else None
        self._entry = Entry(device.name, self.dialect, self._session.view, surroundings.wall_clock, earlier, since)
        self._attachment: Attachment[ByteConnection] = Attachment(
            device.path,
            label,
            dialer,
            lambda: dialer.dial(device.path, pid, self._receive),
            self._connected,
            self._disconnected,
            was_anothers=earlier is not None and earlier.reason is Reason.SOCKET_BUSY,
        )
        self._bad_input = BadInputMeter(surroundings.tally, self.dialect)
        self._sent: set[str] = set()
        self._spoke_here = self._sent_on_connection = False
        self._unread_since: float | None = None
        self._seen: tuple[object, ...] = ()  # what the stay goes by, as it was when it was told
        self._messages = OvirtMessages(self._write)
        self._timer = GuestTimer(clock, self._tick)
        self._task: asyncio.Task[None] | None = None
        self._update()

    # What the stay reads.

    @property
    def row(self) -> ChannelRow:
        """The channel's element in the record, as it should be now."""
        return self._entry.row

    @property
    def settled(self) -> bool:
        """See ``Channel``."""
        return self._entry.settled

    @property
    def used(self) -> Collection[str]:
        """See ``Channel``."""
        return {*self._sent, *self._session.received}

    @property
    def view(self) -> ChannelView[int]:
        """The live view; gated sending goes by this, never by the record."""
        return self._session.view

    @property
    def agreements(self) -> int:
        """See ``Channel``."""
        return self._session.agreements

    @property
    def heard(self) -> bool:
        """Whether the guest speaks here."""
        return self._session.heard

    @property
    def port_open(self) -> bool:
        """Whether the guest's end is known to be open."""
        return self._session.port_open

    # What the stay tells.

    def arrived(self) -> None:
        """See ``Channel``."""
        self._entry.begin()

    def port_changed(self, opened: bool) -> None:
        """QEMU reports the guest's end."""
        if opened:
            self._session.port_opened(self._clock.now())
            self._attachment.want()
            self._attachment.hurry()
        else:
            self._session.port_closed(self._clock.now())
            self._messages.give_up("the guest's end of the channel closed")
            self._drop_unread()
        self._update()

    def agent_changed(self, connected: bool) -> None:
        """Libvirt's own agent is on another channel."""

    def reports_lost(self) -> None:
        """Our own connection went on, and what the agent says on it."""

    def port_seen(self, opened: bool | None) -> None:
        """The live XML shows the guest's end so; ``None``: it does not tell."""
        if opened:
            self._attachment.want()
        if opened is not None:
            self._session.port_seen(opened, self._clock.now())
            if not self._session.port_open:
                self._drop_unread()
            self._update()

    def _drop_unread(self) -> None:
        """A message was for the one who has gone: whoever opens the guest's end next must not read it."""
        if self._sent_on_connection:
            self._attachment.drop_unread()

    def stand_by(self) -> None:
        """The guest speaks on the other oVirt channel: let go of this one."""
        if self._attachment.wanted:
            self._attachment.let_go()
            self._session.stand_by(self._clock.now())
            self._update()

    def wake(self) -> None:
        """The other oVirt channel fell silent: listen here, too."""
        self._attachment.want()

    def clock_changed(self) -> None:
        """The guest's clock started or stopped."""
        if self._clock.running:
            self._attachment.hurry()
        self._update()

    def settings_changed(self) -> None:
        """The surroundings' settings were replaced."""
        maximum = self._surroundings.settings.ovirt_maximum
        self._session.set_maximum(maximum, self._clock.now())
        self._tools.set_maximum(maximum)
        self._update()

    def renegotiate(self) -> None:
        """See ``Channel``."""
        self._session.renegotiate(self._clock.now())
        self._update()

    def start(self, group: asyncio.TaskGroup) -> None:
        """Keep the channel connected from now on, in a task of this group."""
        self._task = group.create_task(self._attachment.run())

    def close(self) -> None:
        """Unplugged, or the stay is over: no timer or task of ours goes on, and the socket is closed."""
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        self._attachment.close()
        self._messages.give_up("the channel is gone")

    async def refresh(self) -> None:
        """See ``Channel``; an agent of this dialect tells by itself."""

    # Sending for others.

    def refuse(self, message: str) -> Refusal | None:
        """See ``Channel``; by the live view, never by the record."""
        return self._session.refuse(message)

    async def send(self, message: str, arguments: Mapping[str, object], timeout_s: float) -> object:
        """See ``Channel`` and ``OvirtMessages.send``."""
        return await self._messages.send(message, arguments, timeout_s)

    def _write(self, message: str, arguments: Mapping[str, object]) -> None:
        if self._attachment.connection is None:
            refusal = self.refuse(message)
            if refusal is not None:
                raise MessageNotAllowedError(refusal)
            raise NotSentError("the channel is not connected")
        if not self._clock.running:
            raise NotSentError("the guest's CPUs stand")  # it would be read when they run again, whenever that is
        self._session.send(message, arguments)
        self._sent.add(message)
        self._sent_on_connection = True
        if not self._flush():
            raise NoAnswerError("the connection broke while it was being sent")
        self._update()

    # What the attachment tells.

    def _connected(self) -> None:
        self._spoke_here, self._sent_on_connection, self._unread_since = False, False, None
        self._session.connect(self._clock.now())
        self._update()

    def _disconnected(self, fault: Fault) -> None:
        self._unread_since = None
        self._session.disconnect(self._clock.now(), Step[fault.name])
        self._messages.give_up("the connection broke")
        self._update()

    def _receive(self, data: bytes) -> None:
        self._spoke_here = True
        for event in self._session.receive_data(data, self._clock.now()):
            self._take(event)
        for name, content in self._session.take_facts().items():
            self._facts.note(name, self.device.name, self.dialect, content)
        self._bad_input.follow(self._session.bad_input)
        self._update()

    def _take(self, event: Event) -> None:
        self._tools.receive(event, self._session.peer)
        match event:
            case Completion(reply_id=reply_id):
                self._messages.complete(reply_id)
            case BadInput(code=code, detail=detail):
                logger.warning("%s: bad input, further like it are only counted: %s: %s", self._label, code, detail)

    def _update(self) -> None:
        """After anything happened: write what the session has to say, settle, and set the next timer."""
        self._flush()
        self._entry.update(self._session.view, self._clock.now())
        self._timer.set(self._deadline)
        seen = self.row, self.settled, self.heard, self.port_open, self.agreements
        if seen != self._seen:  # mostly a heartbeat that says what the last one said
            self._seen = seen
            self._changed()

    def _flush(self) -> bool:
        """Write what the session has to say; false when not all of it will arrive."""
        data, connection = self._session.data_to_send(), self._attachment.connection
        queued = not data or (connection is not None and connection.send(data))
        if self._spoke_here or not self._session.port_open or connection is None or not connection.unread_bytes():
            self._unread_since = None
        elif self._unread_since is None:
            self._unread_since = self._clock.now()
        return queued

    @property
    def _deadline(self) -> float:
        busy = _INFINITY if self._unread_since is None else self._unread_since + BUSY_AFTER_S
        return min(self._session.deadline, self._entry.deadline, busy)

    def _tick(self) -> None:
        now = self._clock.now()
        self._session.tick(now)
        if self._unread_since is not None and now >= self._unread_since + BUSY_AFTER_S:
            self._check_unread()
        self._update()

    def _check_unread(self) -> None:
        self._unread_since = None
        connection = self._attachment.connection
        if connection is not None and connection.unread_bytes():
            self._attachment.give_way()


def _resume_stage(earlier: ChannelView[int] | None, port: Port) -> Stage:
    """Where a negotiation goes on after a restart of ours: an end that was lost or absent then, and is not open now."""
    if earlier is None or port is Port.HEARD:
        return Stage.UNHEARD
    return {State.LOST: Stage.CLOSED, State.ABSENT: Stage.NOT_OPENED}.get(earlier.state, Stage.UNHEARD)
