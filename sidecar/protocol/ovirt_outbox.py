"""What the host has to write to one oVirt channel: messages, and the one ``refresh`` that a peer is sent.

Source: docs/protocol.md.
"""

from collections.abc import Mapping

from sidecar.protocol.budget import RENEGOTIATION_LIMIT, RENEGOTIATION_WINDOW_S, Budget
from sidecar.protocol.ovirt_messages import HOST_TO_GUEST, render_message


class Outbox:
    """Bytes that wait to be written, and whether whoever reads them has been sent ``refresh``."""

    __slots__ = ("_connected", "_outgoing", "_refreshed", "_refreshes")

    def __init__(self) -> None:
        self._connected = self._refreshed = False
        self._refreshes = Budget(RENEGOTIATION_LIMIT, RENEGOTIATION_WINDOW_S)
        self._outgoing = bytearray()

    @property
    def connected(self) -> bool:
        """Whether our end is up."""
        return self._connected

    def connect(self) -> None:
        """Our end is up; what was not written on an earlier connection never will be."""
        self._connected = True
        self._outgoing.clear()

    def disconnect(self) -> None:
        """Our end is down."""
        self._connected = self._refreshed = False
        self._outgoing.clear()

    def lose_peer(self) -> None:
        """What we said may have gone to an agent that is gone."""
        self._refreshed = False

    def send(self, name: str, version: int, arguments: Mapping[str, object]) -> None:
        """Queue a message, as ``render_message`` renders it.

        Raises:
            MessageNotAllowedError: See ``render_message``; nothing was queued.
        """
        self._outgoing += render_message(HOST_TO_GUEST, name, version, arguments)

    def send_refresh(self, maximum: int, now: float) -> None:
        """Queue ``refresh`` of a host with this maximum; one that is capped to 0 names no version."""
        self._refreshed = True
        self._refreshes.note(now)
        self.send("refresh", 0, {"apiVersion": maximum} if maximum else {})

    def refresh_once(self, maximum: int, now: float) -> bool:
        """Queue ``refresh`` to a peer that was sent none; false when it has to wait for calmer times."""
        if not self._connected or self._refreshed:
            return True  # it waits unread in the port since before the guest opened it
        if now < self._refreshes.next_free():
            return False
        self.send_refresh(maximum, now)
        return True

    def take(self) -> bytes:
        """What has to be written now; each byte is given out once."""
        data = bytes(self._outgoing)
        self._outgoing.clear()
        return data
