"""How a QEMU guest agent is reached: through libvirt, or over a socket of its own.

libvirtd holds the socket of ``org.qemu.guest_agent.0``, which serves one client; it keeps the agent synchronised and
tells when its own connection to the agent comes and goes. Any other agent is dialled, like an oVirt channel.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol
from uuid import UUID

from sidecar.engine.attachment import Attachment
from sidecar.engine.ports import Dialer, Hypervisor, QgaConnection
from sidecar.engine.settings import Way
from sidecar.errors import AgentDisconnectedError
from sidecar.protocol.states import Fault
from sidecar.record.domain_xml import ChannelDevice


class Line(Protocol):
    """See the module; whose reports tell of the guest's end depends on the ``way``."""

    way: Way

    def start(
        self, group: asyncio.TaskGroup, connected: Callable[[], None], disconnected: Callable[[Fault], None]
    ) -> None:
        """Go to work, in a task of this group; a connection of ours is told of."""

    def close(self) -> None:
        """Nothing of ours goes on."""

    @property
    def ready(self) -> bool:
        """Whether anything can be said now, as far as our own end goes."""

    def hurry(self) -> None:
        """The guest runs: its socket ought to be there by now."""

    async def call(
        self, request: str, answer_s: float, wait_s: float, *, wanted: Callable[[], bool], suspect: bool
    ) -> str:
        """Send one command; see ``Hypervisor.call_agent`` and ``QgaConnection.call`` for what is raised."""

    def lose_agent(self) -> None:
        """Whoever answered is gone, and another may answer from now on."""

    def drop_unread(self) -> None:
        """The guest's end is closed: whoever opens it next must not read what was for the one who has gone."""

    def give_way_if_unread(self) -> bool:
        """Nothing was answered: if our bytes were not even read, another program has the channel, and we leave it."""


class LibvirtLine:
    """The agent whose channel libvirt holds."""

    way = Way.LIBVIRT
    ready = True

    def __init__(self, hypervisor: Hypervisor, uuid: UUID) -> None:
        self._hypervisor, self._uuid = hypervisor, uuid

    def start(
        self, group: asyncio.TaskGroup, connected: Callable[[], None], disconnected: Callable[[Fault], None]
    ) -> None:
        """There is no connection of our own."""

    def close(self) -> None:
        """There is no connection of our own."""

    def hurry(self) -> None:
        """There is no connection of our own."""

    async def call(
        self, request: str, answer_s: float, wait_s: float, *, wanted: Callable[[], bool], suspect: bool
    ) -> str:
        """See ``Line``."""
        return await self._hypervisor.call_agent(self._uuid, request, answer_s, wait_s, wanted=wanted, suspect=suspect)

    def lose_agent(self) -> None:
        """Libvirt ends its calls, and synchronises, by itself."""

    def drop_unread(self) -> None:
        """What libvirt wrote cannot be taken back."""

    def give_way_if_unread(self) -> bool:
        """Libvirt is the one that is read."""
        return False


class DirectLine:
    """An agent on a socket of its own, which is kept connected."""

    way = Way.DIRECT

    def __init__(self, device: ChannelDevice, pid: int, label: str, dialer: Dialer, *, was_anothers: bool) -> None:
        self._device, self._pid, self._label, self._dialer = device, pid, label, dialer
        self._was_anothers = was_anothers
        self._attachment: Attachment[QgaConnection] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(
        self, group: asyncio.TaskGroup, connected: Callable[[], None], disconnected: Callable[[Fault], None]
    ) -> None:
        """See ``Line``."""
        self._attachment = Attachment(
            self._device.path,
            self._label,
            self._dialer,
            lambda: self._dialer.dial_qga(self._device.path, self._pid),
            connected,
            disconnected,
            was_anothers=self._was_anothers,
        )
        self._task = group.create_task(self._attachment.run())

    def close(self) -> None:
        """See ``Line``."""
        if self._task is not None:
            self._task.cancel()
        if self._attachment is not None:
            self._attachment.close()

    @property
    def ready(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None

    def hurry(self) -> None:
        """See ``Line``."""
        if self._attachment is not None:
            self._attachment.hurry()

    async def call(
        self, request: str, answer_s: float, wait_s: float, *, wanted: Callable[[], bool], suspect: bool
    ) -> str:
        """See ``Line``; nothing is between the caller and the socket, so that what was wanted still is."""
        if self._connection is None:
            raise AgentDisconnectedError("the channel's socket is not connected")
        return await self._connection.call(request, min(answer_s, wait_s))

    def lose_agent(self) -> None:
        """See ``Line``."""
        if self._connection is not None:
            self._connection.lose_agent()

    def drop_unread(self) -> None:
        """See ``Line``."""
        if self._attachment is not None:
            self._attachment.drop_unread()

    def give_way_if_unread(self) -> bool:
        """See ``Line``."""
        if self._attachment is None or self._connection is None or not self._connection.unread_bytes():
            return False
        self._attachment.give_way()
        return True

    @property
    def _connection(self) -> QgaConnection | None:
        return None if self._attachment is None else self._attachment.connection
