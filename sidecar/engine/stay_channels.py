"""The channels of one stay, as the live XML has them: made, replaced when they are others, and closed."""

import asyncio
from collections.abc import Callable, Iterator
from uuid import UUID

from sidecar.engine.channel import Channel
from sidecar.engine.clocks import GuestClock
from sidecar.engine.facts import Facts
from sidecar.engine.ovirt_channel import OvirtChannel
from sidecar.engine.qga_channel import QgaChannel
from sidecar.engine.qga_lines import DirectLine, LibvirtLine, Line
from sidecar.engine.settings import Surroundings, Way
from sidecar.engine.tools import ToolsEntry
from sidecar.protocol.states import Reason
from sidecar.record.agreement import Agreement, ChannelRow
from sidecar.record.domain_xml import ChannelDevice


class StayChannels:
    """See the module; iterating gives the channels that are there now. ``changed`` is called whenever a row may be."""

    def __init__(
        self,
        uuid: UUID,
        pid: int,
        label: str,
        surroundings: Surroundings,
        clock: GuestClock,
        recorded: Agreement | None,
        came_along: Agreement | None,
        tools: ToolsEntry,
        facts: Facts,
        changed: Callable[[], None],
    ) -> None:
        """``recorded`` is the record of the same QEMU process, if there is one; ``came_along`` another's."""
        self._uuid, self._pid, self._label, self._surroundings = uuid, pid, label, surroundings
        self._clock, self._tools, self._facts, self._changed = clock, tools, facts, changed
        # Each of these holds for the channel that is here now, not for one plugged later.
        self._earlier, self._elsewhere = _rows_by_name(recorded), _rows_by_name(came_along)
        self._channels: dict[str, Channel] = {}
        self._group: asyncio.TaskGroup | None = None

    def __iter__(self) -> Iterator[Channel]:
        return iter(self._channels.values())

    @property
    def rows(self) -> tuple[ChannelRow, ...]:
        """Every channel's element in the record, as it should be now."""
        return tuple(channel.row for channel in self)

    @property
    def settled(self) -> bool:
        """Whether all rows are what is known now."""
        return all(channel.settled for channel in self)

    def start(self, group: asyncio.TaskGroup) -> None:
        """Channels that come from now on work in tasks of this group."""
        self._group = group

    def close(self) -> None:
        """The stay is over."""
        for channel in self:
            channel.close()

    def replace(self, devices: tuple[ChannelDevice, ...]) -> None:
        """The live XML has these now; one that is the same as before goes on."""
        for name, channel in list(self._channels.items()):
            way = self._surroundings.settings.find_way(name)
            if channel.way is not way or not any(_same_socket(channel.device, device) for device in devices):
                del self._channels[name]
                channel.close()
        for device in devices:
            if device.name in self._channels:
                self._channels[device.name].port_seen(device.opened)
            else:
                self._add(device)
        self._choose_ovirt()

    def _add(self, device: ChannelDevice) -> None:
        recorded, hint = self._earlier.pop(device.name, None), self._elsewhere.pop(device.name, None)
        channel = self._channels[device.name] = self._make(device, recorded, hint)
        assert self._group is not None
        channel.start(self._group)

    def _make(self, device: ChannelDevice, recorded: ChannelRow | None, hint: ChannelRow | None) -> Channel:
        surroundings, clock, tools, facts = self._surroundings, self._clock, self._tools, self._facts
        label = f"{self._label}: {device.name}"
        line: Line
        match surroundings.settings.find_way(device.name):
            case Way.OVIRT:
                changed = self._choose_ovirt
                rows = recorded, hint
                return OvirtChannel(device, self._pid, label, surroundings, clock, *rows, tools, facts, changed)
            case Way.LIBVIRT:
                line = LibvirtLine(surroundings.hypervisor, self._uuid)
            case Way.DIRECT:
                busy = recorded is not None and recorded.reason == Reason.SOCKET_BUSY
                line = DirectLine(device, self._pid, label, surroundings.dialer, was_anothers=busy)
        return QgaChannel(device, line, label, surroundings, clock, recorded, tools, facts, self._changed)

    def _choose_ovirt(self) -> None:
        """An oVirt agent speaks on one of the domain's oVirt channels, and the others stand by."""
        channels = [channel for channel in self if isinstance(channel, OvirtChannel)]
        speaking = any(channel.heard for channel in channels)
        for channel in channels:
            if speaking and not channel.heard and not channel.port_open:
                channel.stand_by()
            elif not speaking:
                channel.wake()
        self._changed()


def _rows_by_name(record: Agreement | None) -> dict[str, ChannelRow]:
    return {} if record is None else {row.name: row for row in record.channels}


def _same_socket(one: ChannelDevice, other: ChannelDevice) -> bool:
    return (one.name, one.alias, one.path) == (other.name, other.alias, other.path)
