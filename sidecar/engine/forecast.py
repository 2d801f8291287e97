"""What becomes of a guest's agreements on another host, before it moves there: ``preflight`` and its kin.

A message is lost when it may be sent now, on the version that is agreed, and the version that the other host would
agree on does not have it. What is not agreed here cannot be lost.

Source: docs/api.md, "Preflight".
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sidecar.api.views import ChannelForecastView, LostMessageView
from sidecar.engine.channel import Channel
from sidecar.engine.ports import DomainSnapshot
from sidecar.protocol.ovirt_messages import GUEST_TO_HOST, HOST_TO_GUEST, NEGOTIATION_MESSAGES, Direction
from sidecar.protocol.qga_commands import NEGOTIATION_COMMANDS, QGA_COMMANDS
from sidecar.protocol.qga_versions import common_release, read_release
from sidecar.protocol.releases import Release
from sidecar.protocol.states import Dialect, Reason, State
from sidecar.protocol.versions import common_version
from sidecar.record.agreement import ChannelRow
from sidecar.record.policy import Offer, judge


@dataclass(frozen=True, slots=True)
class Forecast:
    """What becomes of one guest: what refuses it by its policy, in the hook's words, or of each of its channels."""

    refusal: str | None
    channels: tuple[ChannelForecastView, ...]

    @property
    def nothing_lost(self) -> bool:
        """Whether the other host takes it, and keeps what is agreed."""
        return self.refusal is None and not any(channel.lost for channel in self.channels)


def forecast_move(snapshot: DomainSnapshot, channels: Iterable[Channel], offer: Offer) -> Forecast:
    """What becomes of the guest on a host with this offer; ``snapshot`` is for its policy."""
    policy, tools = snapshot.policy, snapshot.shows_tools
    refusal = None if policy is None else judge(policy, snapshot.name, has_tools=tools, offer=offer)
    return Forecast(refusal, forecast_channels(channels, offer))


def forecast_channels(channels: Iterable[Channel], offer: Offer) -> tuple[ChannelForecastView, ...]:
    """What becomes of each channel on a host with this offer."""
    return tuple(_forecast(channel, offer) for channel in channels)


def _forecast(channel: Channel, offer: Offer) -> ChannelForecastView:
    row = channel.row
    if channel.dialect is Dialect.OVIRT:
        there, lost = _forecast_ovirt(channel, row, offer.ovirt)
    else:
        there, lost = _forecast_qga(channel, row, offer.qga)
    agreed = row.version if row.state == State.AGREED else "0"
    return ChannelForecastView(row.name, row.dialect, row.state, agreed, there, lost)


def _forecast_ovirt(channel: Channel, row: ChannelRow, maximum: int) -> tuple[str, tuple[LostMessageView, ...]]:
    agreed = int(row.version)
    # An agent whose version was inferred has offered nothing here: it is what we agreed on, at least.
    there = common_version(int(row.guest or row.version), maximum)
    lost = [
        LostMessageView(message.name, message.direction.value, str(message.since), message.name in channel.used)
        for table in (HOST_TO_GUEST, GUEST_TO_HOST)
        for message in table.values()
        if there < message.since <= agreed and message.name not in NEGOTIATION_MESSAGES
    ]
    return str(there), tuple(lost)


def _forecast_qga(channel: Channel, row: ChannelRow, maximum: Release) -> tuple[str, tuple[LostMessageView, ...]]:
    agreed = Release.parse(row.version)
    if not agreed:
        # What the agent is called is known only while it is agreed with, or while this host's cap forbids to.
        guest = (read_release(row.guest or "") or Release(0, 0)) if row.reason == Reason.HOST_CAPPED else Release(0, 0)
        return str(common_release(guest, maximum)), ()
    # An agent that numbers itself in another way was placed: it is what we agreed on, at least.
    guest = (read_release(row.guest or "") if row.reason != Reason.INFERRED else None) or agreed
    there = common_release(guest, maximum)
    lost = [
        LostMessageView(command.name, Direction.HOST_TO_GUEST.value, str(command.since), command.name in channel.used)
        for command in QGA_COMMANDS.values()
        if there < command.since <= agreed and _is_offered(channel, command.name)
    ]
    return str(there), tuple(lost)


def _is_offered(channel: Channel, command: str) -> bool:
    """Whether the agent has the command, as far as is known: frozen it has it back when thawed.

    While it is asked anew nothing may be sent, and what was agreed still stands on record.
    """
    if command in NEGOTIATION_COMMANDS:
        return False
    refusal = channel.refuse(command)
    unknown = channel.row.reason == Reason.GUEST_FROZEN or not channel.settled
    return refusal is None or unknown
