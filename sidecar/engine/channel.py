"""One guest-agent channel of one running domain: its connection, its session, its deadlines, its row in the record."""

import asyncio
import logging
from collections.abc import Callable

from sidecar.engine.attachment import Attachment
from sidecar.engine.clocks import GuestClock, render_time
from sidecar.engine.settings import Surroundings
from sidecar.protocol.ovirt_host import HostSession, Port
from sidecar.protocol.ovirt_reader import BadInput
from sidecar.protocol.settling import Settling
from sidecar.protocol.states import ChannelView, Reason, Stage, State, Step
from sidecar.record.agreement import ChannelRow
from sidecar.record.domain_xml import ChannelDevice

logger = logging.getLogger(__name__)

# QEMU reads what a connected host wrote within milliseconds of the guest's opening its end. What it has not read by
# then, it will not read while another client is connected.
BUSY_AFTER_S = 3.0

# A timer fires this much late, and so never a hair too early for the deadline it was set for: it would be set again and
# again until the hair is over.
TIMER_SLACK_S = 0.001

_INFINITY = float("inf")


class Channel:
    """A channel of the live XML while one QEMU process serves it.

    From ``start`` to ``close`` it is kept connected; everything else is told to it by the ``Stay``. Whenever its
    ``row`` or its ``heard`` may have changed it calls ``changed``.
    """

    def __init__(
        self,
        device: ChannelDevice,
        pid: int,
        label: str,
        surroundings: Surroundings,
        clock: GuestClock,
        recorded: ChannelRow | None,
        changed: Callable[[], None],
    ) -> None:
        """``recorded`` is this channel's row of the same QEMU process's record, when there is one already."""
        self.device = device
        self._clock, self._surroundings = clock, surroundings
        self._label = label
        self._changed = changed
        settings = surroundings.settings
        earlier = _read_view(recorded)
        # What the XML says is known but not reported by an event: see Port.HEARD.
        port = {None: Port.UNKNOWN, True: Port.HEARD, False: Port.CLOSED}[device.opened]
        stage = _resume_stage(earlier, port)
        self._session = HostSession(
            maximum=settings.ovirt_maximum,
            responsive_s=settings.responsive_s,
            absent_s=settings.absent_s,
            now=clock.now(),
            port=port,
            stage=stage,
            offer=earlier.guest if earlier and stage is not Stage.UNHEARD else None,
        )
        self._settling = Settling(earlier or self._session.view)
        self._since = recorded.since if earlier and recorded else render_time(surroundings.wall_clock())
        self._attachment = Attachment(
            device.path,
            pid,
            label,
            surroundings.dialer,
            self._connected,
            self._disconnected,
            self._receive,
            was_anothers=earlier is not None and earlier.reason is Reason.SOCKET_BUSY,
        )
        self._spoke_here = False
        self._unread_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._update()

    # What the stay reads.

    @property
    def row(self) -> ChannelRow:
        """The channel's element in the record, as it should be now."""
        view = self._settling.settled
        return ChannelRow(
            name=self.device.name,
            dialect="ovirt",
            state=view.state,
            version=str(view.version),
            guest=None if view.guest is None else str(view.guest),
            host=str(view.host),
            since=self._since,
            reason=view.reason,
        )

    @property
    def view(self) -> ChannelView:
        """The live view; gated sending goes by this, never by the record."""
        return self._session.view

    @property
    def heard(self) -> bool:
        """Whether the guest speaks here."""
        return self._session.heard

    @property
    def port_open(self) -> bool:
        """Whether the guest's end is known to be open."""
        return self._session.port_open

    # What the stay tells.

    def port_changed(self, opened: bool) -> None:
        """QEMU reports the guest's end."""
        if opened:
            self._session.port_opened(self._clock.now())
            self._attachment.want()
        else:
            self._session.port_closed(self._clock.now())
        self._update()

    def port_seen(self, opened: bool | None) -> None:
        """The live XML shows the guest's end so; ``None``: it does not tell."""
        if opened:
            self._attachment.want()
        if opened is not None:
            self._session.port_seen(opened, self._clock.now())
            self._update()

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
        self._update()

    def settings_changed(self) -> None:
        """The surroundings' settings were replaced."""
        self._session.set_maximum(self._surroundings.settings.ovirt_maximum, self._clock.now())
        self._update()

    def start(self, group: asyncio.TaskGroup) -> None:
        """Keep the channel connected from now on, in a task of this group."""
        self._task = group.create_task(self._attachment.run())

    def close(self) -> None:
        """Unplugged, or the stay is over: no timer or task of ours goes on, and the socket is closed."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        self._attachment.close()

    # What the attachment tells.

    def _connected(self) -> None:
        self._spoke_here, self._unread_since = False, None
        self._session.connect(self._clock.now())
        self._update()

    def _disconnected(self, step: Step) -> None:
        self._unread_since = None
        self._session.disconnect(self._clock.now(), step)
        self._update()

    def _receive(self, data: bytes) -> None:
        self._spoke_here = True
        for event in self._session.receive_data(data, self._clock.now()):
            if isinstance(event, BadInput):
                logger.warning(
                    "%s: bad input, further like it are only counted: %s: %s",
                    self._label,
                    event.code,
                    event.detail,
                )
        self._update()

    def _update(self) -> None:
        """After anything happened: write what the session has to say, settle, and set the next timer."""
        self._flush()
        before = self._settling.settled
        self._settling.update(self._session.view, self._clock.now())
        after = self._settling.settled
        if (before.state, before.version) != (after.state, after.version):
            self._since = render_time(self._surroundings.wall_clock())
        self._set_timer()
        self._changed()

    def _flush(self) -> None:
        data = self._session.data_to_send()
        if data:
            self._attachment.send(data)
        if self._spoke_here or not self._session.port_open or not self._attachment.unread_bytes():
            self._unread_since = None
        elif self._unread_since is None:
            self._unread_since = self._clock.now()

    @property
    def _deadline(self) -> float:
        busy = _INFINITY if self._unread_since is None else self._unread_since + BUSY_AFTER_S
        return min(self._session.deadline, self._settling.deadline, busy)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._deadline
        if self._clock.running and deadline < _INFINITY:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self._clock.to_loop_time(deadline) + TIMER_SLACK_S, self._tick)

    def _tick(self) -> None:
        now = self._clock.now()
        self._session.tick(now)
        if self._unread_since is not None and now >= self._unread_since + BUSY_AFTER_S:
            self._check_unread()
        self._update()

    def _check_unread(self) -> None:
        self._unread_since = None
        if self._attachment.unread_bytes():
            self._attachment.give_way()


def _resume_stage(earlier: ChannelView | None, port: Port) -> Stage:
    """Where a negotiation goes on after a restart of ours: an end that was lost or absent then, and is not open now."""
    if earlier is None or port is Port.HEARD:
        return Stage.UNHEARD
    return {State.LOST: Stage.CLOSED, State.ABSENT: Stage.NOT_OPENED}.get(earlier.state, Stage.UNHEARD)


def _read_view(row: ChannelRow | None) -> ChannelView | None:
    """The settled view that a row of our own record stands for; ``None`` when it is not one that we write."""
    if row is None or row.dialect != "ovirt":
        return None
    try:
        return ChannelView(
            State(row.state),
            int(row.version),
            None if row.guest is None else int(row.guest),
            int(row.host),
            None if row.reason is None else Reason(row.reason),
        )
    except ValueError:
        return None
