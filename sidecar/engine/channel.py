"""What a ``Stay`` and a sender see of a guest-agent channel, whatever its dialect."""

import asyncio
from collections.abc import Collection, Mapping
from typing import Protocol

from sidecar.engine.settings import Way
from sidecar.errors import Refusal
from sidecar.protocol.states import Dialect
from sidecar.record.agreement import ChannelRow
from sidecar.record.domain_xml import ChannelDevice


class Channel(Protocol):
    """A channel of the live XML while one QEMU process serves it.

    From ``start`` to ``close`` it looks after itself; what it cannot see is told to it. Whenever its ``row`` may have
    changed it calls the ``changed`` that it was made with.
    """

    device: ChannelDevice
    dialect: Dialect
    way: Way

    @property
    def row(self) -> ChannelRow:
        """The channel's element in the record, as it should be now."""

    @property
    def agreements(self) -> int:
        """How often a version was agreed anew on this channel, by the live view."""

    def arrived(self) -> None:
        """The guest has arrived: no state of this channel is older."""

    def port_changed(self, opened: bool) -> None:
        """QEMU reports the guest's end."""

    def agent_changed(self, connected: bool) -> None:
        """Libvirt reports its own connection to the QEMU guest agent."""

    def port_seen(self, opened: bool | None) -> None:
        """The live XML shows the guest's end so; ``None``: it does not tell."""

    def reports_lost(self) -> None:
        """Reports of the guest's end were lost; ``port_seen`` follows."""

    def clock_changed(self) -> None:
        """The guest's clock started or stopped."""

    def settings_changed(self) -> None:
        """The surroundings' settings were replaced."""

    def start(self, group: asyncio.TaskGroup) -> None:
        """Go to work, in tasks of this group."""

    def close(self) -> None:
        """Unplugged, or the stay is over: no timer or task of ours goes on, and no socket stays open."""

    @property
    def settled(self) -> bool:
        """Whether the row is what is known now, and no state that may pass is being waited out."""

    @property
    def used(self) -> Collection[str]:
        """The messages, of either direction, that went over it since the stay began; names of the tables."""

    def renegotiate(self) -> None:
        """Forget what was agreed and ask the agent anew."""

    async def refresh(self) -> None:
        """Ask the guest of itself, where its agent tells nothing by itself; takes 2 s at most, and raises nothing."""

    def refuse(self, message: str) -> Refusal | None:
        """Why this message may not be sent now; ``None``: it may."""

    async def send(self, message: str, arguments: Mapping[str, object], timeout_s: float) -> object:
        """Send a message; returns its answer, ``None`` where there is none.

        Raises:
            MessageNotAllowedError: It may not be sent; nothing was.
            AgentError: See its kinds for whether it ran.
            HypervisorError: Likewise.
        """
