"""One QEMU process's stay on this host: its phase, its channels, its record.

A stay begins when a domain is first seen under a new ``run`` token and ends with the process. Its arrival is counted
once: when the guest first runs here (a paused start: when it started), or never, when a migration is cancelled.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from types import MappingProxyType

from sidecar.engine.channel import Channel
from sidecar.engine.clocks import GuestClock, render_time
from sidecar.engine.ovirt_channel import OvirtChannel
from sidecar.engine.ports import Activity, DomainSnapshot
from sidecar.engine.qga_channel import QgaChannel
from sidecar.engine.qga_lines import DirectLine, LibvirtLine, Line
from sidecar.engine.record_log import RecordLog
from sidecar.engine.recorder import Recorder
from sidecar.engine.sending import choose_channel
from sidecar.engine.settings import Surroundings, Way
from sidecar.engine.tools import ToolsEntry
from sidecar.protocol.states import Reason
from sidecar.record.agreement import ARRIVALS_LIMIT, Agreement, ChannelRow, Origin
from sidecar.record.domain_xml import ChannelDevice

logger = logging.getLogger(__name__)


class Phase(Enum):
    """Where the guest is."""

    EXPECTED = "QEMU is here, its guest not yet: attached, first words queued, nothing counted or written"
    RUNNING = "the guest runs here"
    PAUSED = "the guest is here and stands"


class Turn(Enum):
    """What can happen to the guest's CPUs."""

    RUNS = "they run"
    STANDS = "they stand"
    HERE_PAUSED = "they stand, and the guest belongs here already: a paused start"


PHASES: Mapping[tuple[Phase, Turn], Phase] = MappingProxyType(
    {
        (Phase.EXPECTED, Turn.RUNS): Phase.RUNNING,
        (Phase.EXPECTED, Turn.HERE_PAUSED): Phase.PAUSED,
        (Phase.RUNNING, Turn.STANDS): Phase.PAUSED,
        (Phase.RUNNING, Turn.HERE_PAUSED): Phase.PAUSED,
        (Phase.PAUSED, Turn.RUNS): Phase.RUNNING,
    }
)
"""Every legal move; leaving EXPECTED is the arrival."""


class Stay:
    """See the module. ``run`` owns the tasks; the other methods are told by the ``Domain``, on the loop's thread."""

    def __init__(self, snapshot: DomainSnapshot, surroundings: Surroundings) -> None:
        """Read what came along; nothing is dialled or written before ``run``."""
        self.run_token = snapshot.run
        self._surroundings = surroundings
        self._uuid, self._pid = snapshot.uuid, snapshot.pid
        self._label = ascii(snapshot.name)
        self._phase = Phase.EXPECTED
        self._clock = GuestClock(asyncio.get_running_loop().time)
        self._record_present = snapshot.record_present
        self._count = snapshot.record.arrivals if snapshot.record else 0
        if snapshot.record_present and snapshot.record is None:
            logger.warning("%s: the record that came along is broken; its count starts anew", self._label)
        self._origin: Origin | None = None
        self._channels: dict[str, Channel] = {}
        self._group: asyncio.TaskGroup | None = None
        # The arrival is counted already when the record that came along is of this host and this QEMU process.
        own = self._own_record(snapshot.record)
        self._arrival = own
        # Each of these holds for the channel that is here now, not for one plugged later.
        self._earlier = {} if own is None else {row.name: row for row in own.channels}
        log = RecordLog(self._label, own)
        self._recorder = Recorder(surroundings.hypervisor, snapshot.uuid, self._label, own, log.note)
        came_along = None if snapshot.record is None else snapshot.record.tools
        self._tools = ToolsEntry(came_along, surroundings, self._clock, self._publish)

    def _own_record(self, record: Agreement | None) -> Agreement | None:
        ours = (self._surroundings.identity.uuid, self.run_token)
        return record if record is not None and (record.host_uuid, record.run) == ours else None

    async def run(self, snapshot: DomainSnapshot, came: Origin | None) -> None:
        """Attach to the channels and keep the record, until cancelled; closes every connection on the way out."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                group.create_task(self._recorder.run())
                self.look(snapshot, came)
                await asyncio.Event().wait()  # until we are cancelled, or one of the tasks fails
            finally:
                self._tools.close()
                for channel in self._channels.values():
                    channel.close()

    @property
    def expected(self) -> bool:
        """Whether the guest has not arrived yet."""
        return self._phase is Phase.EXPECTED

    @property
    def unrecorded(self) -> bool:
        """Whether nothing of this stay stands in the XML yet."""
        return self._recorder.recorded is None

    @property
    def origin(self) -> Origin | None:
        """How the domain came, as far as anybody told."""
        return self._origin

    # What the domain tells.

    def look(self, snapshot: DomainSnapshot, came: Origin | None) -> None:
        """Take a fresh look at the same QEMU process; ``came``: how it came, when the notice behind the look tells."""
        self._origin = came or self._origin or snapshot.origin
        self._replace_channels(snapshot.channels)
        if snapshot.activity is Activity.RUNNING:
            self.turn(Turn.RUNS)
        elif snapshot.activity is Activity.PAUSED:
            # A guest that was restored or migrated in, and left paused, arrives when it resumes.
            here = self._arrival is not None or self._origin in (Origin.START, Origin.ATTACH)
            self.turn(Turn.HERE_PAUSED if here else Turn.STANDS)
        self._recorder.look_again()

    def turn(self, turn: Turn, told: Origin | None = None, *, job_over: bool = False) -> None:
        """The guest's CPUs started or stopped.

        Args:
            turn: Which.
            told: How the domain came, as far as libvirt's event tells.
            job_over: The event also means that no job holds the domain (but for its last milliseconds).
        """
        phase = PHASES.get((self._phase, turn))
        if phase is not None:
            arriving = self._phase is Phase.EXPECTED
            self._phase = phase
            self._set_clock()
            if arriving:
                self._arrive(self._origin or told or Origin.ATTACH)
            self._publish(at_once=job_over)
        self._recorder.look_again(at_once=job_over and self._phase is not Phase.EXPECTED)

    def _set_clock(self) -> None:
        if self._phase is Phase.RUNNING:
            self._clock.start()
        else:
            self._clock.stop()
        self._tools.clock_changed()
        for channel in self._channels.values():
            channel.clock_changed()

    def port_changed(self, alias: str, opened: bool) -> None:
        """QEMU reports the guest's end of the channel with this device alias."""
        for channel in self._channels.values():
            if channel.device.alias == alias:
                channel.port_changed(opened)

    def agent_changed(self, connected: bool) -> None:
        """Libvirt reports its connection to the QEMU guest agent."""
        for channel in self._channels.values():
            channel.agent_changed(connected)

    def record_touched(self) -> None:
        """Somebody wrote or removed our element, or defined the configuration anew."""
        self._recorder.record_touched()

    def settings_changed(self) -> None:
        """The configuration was read again."""
        for channel in self._channels.values():
            channel.settings_changed()
        self._publish()  # another version of the tools may be current

    def connection_renewed(self) -> None:
        """Libvirt was away; a look follows."""
        self.reports_lost()
        self._recorder.connection_renewed()

    def reports_lost(self) -> None:
        """What libvirt told of the channels' ends did not all reach us; a look follows."""
        for channel in self._channels.values():
            channel.reports_lost()

    # What others ask for.

    def choose_channel(self, message: str, channel: str | None) -> Channel:
        """See ``engine.sending``."""
        return choose_channel(self._channels.values(), message, channel)

    # The arrival.

    def _arrive(self, origin: Origin) -> None:
        if self._arrival is not None:
            return  # counted already, by us or by the daemon before us
        if origin is Origin.START:
            self._tools.start_afresh()
        identity = self._surroundings.identity
        self._arrival = Agreement(
            host=identity.hostname,
            host_uuid=identity.uuid,
            run=self.run_token,
            arrival=origin,
            arrivals=min(self._count + 1, ARRIVALS_LIMIT - 1),
            arrived=render_time(self._surroundings.wall_clock()),
            channels=(),
        )
        logger.info("%s: arrived (%s), arrival %d", self._label, origin, self._arrival.arrivals)

    def _publish(self, *, at_once: bool = False) -> None:
        if self._arrival is None or self._phase is Phase.EXPECTED:
            return
        if not self._channels and not self._record_present:
            return
        self._record_present = True  # from now on a channel that is unplugged must vanish from it, even the last one
        rows = tuple(channel.row for channel in self._channels.values())
        self._recorder.want(replace(self._arrival, channels=rows, tools=self._tools.row), at_once=at_once)

    # The channels.

    def _replace_channels(self, devices: tuple[ChannelDevice, ...]) -> None:
        for name, channel in list(self._channels.items()):
            way = self._surroundings.settings.find_way(name)
            if channel.way is not way or not any(_same_socket(channel.device, device) for device in devices):
                del self._channels[name]
                channel.close()
        for device in devices:
            if device.name in self._channels:
                self._channels[device.name].port_seen(device.opened)
            else:
                self._add_channel(device)
        self._channels_changed()

    def _add_channel(self, device: ChannelDevice) -> None:
        recorded = self._earlier.pop(device.name, None)
        channel = self._channels[device.name] = self._make_channel(device, recorded)
        assert self._group is not None
        channel.start(self._group)

    def _make_channel(self, device: ChannelDevice, recorded: ChannelRow | None) -> Channel:
        surroundings, clock, tools, label = (
            self._surroundings,
            self._clock,
            self._tools,
            f"{self._label}: {device.name}",
        )
        line: Line
        match surroundings.settings.find_way(device.name):
            case Way.OVIRT:
                changed = self._channels_changed
                return OvirtChannel(device, self._pid, label, surroundings, clock, recorded, tools, changed)
            case Way.LIBVIRT:
                line = LibvirtLine(surroundings.hypervisor, self._uuid)
            case Way.DIRECT:
                busy = recorded is not None and recorded.reason == Reason.SOCKET_BUSY
                line = DirectLine(device, self._pid, label, surroundings.dialer, was_anothers=busy)
        return QgaChannel(device, line, label, surroundings, clock, recorded, tools, self._publish)

    def _channels_changed(self) -> None:
        """An oVirt agent speaks on one of the domain's oVirt channels, and the others stand by."""
        channels = [channel for channel in self._channels.values() if isinstance(channel, OvirtChannel)]
        speaking = any(channel.heard for channel in channels)
        for channel in channels:
            if speaking and not channel.heard and not channel.port_open:
                channel.stand_by()
            elif not speaking:
                channel.wake()
        self._publish()


def _same_socket(one: ChannelDevice, other: ChannelDevice) -> bool:
    return (one.name, one.alias, one.path) == (other.name, other.alias, other.path)
