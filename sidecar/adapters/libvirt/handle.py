"""One connection with its event registrations, closed when nobody uses it any more.

The binding's ``close()`` closes nothing while events are registered, and once they are not, it frees the connection
under any call that is still on its way in another thread. So: deregister, wait for the last call, close.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import libvirt
import libvirt_qemu

logger = logging.getLogger(__name__)

# A libvirtd that hangs is given up by keepalive well before that; a connection that is still in use then is left open.
CLOSE_WAIT_S = 120.0


class Handle:
    """A libvirt connection; ``register…`` on the opener's thread, ``used`` on any, ``close`` on one of its own."""

    def __init__(self, connection: libvirt.virConnect) -> None:
        self.connection: Any = connection
        self._registrations: list[Callable[[], object]] = []
        self._calls = 0
        self._returned = threading.Condition()

    def register_close(self, callback: Callable[..., None], number: int) -> None:
        """Have ``callback(connection, reason, number)`` called when the connection breaks."""
        self.connection.registerCloseCallback(callback, number)
        self._registrations.append(self.connection.unregisterCloseCallback)

    def register_event(self, event: int, callback: Callable[..., None], number: int) -> None:
        """Have ``callback`` called for this event of every domain, ``number`` as its last argument."""
        registration = self.connection.domainEventRegisterAny(None, event, callback, number)
        self._registrations.append(partial(self.connection.domainEventDeregisterAny, registration))

    def register_monitor(self, event: str, callback: Callable[..., None], number: int) -> None:
        """Likewise for an event of QEMU's monitor."""
        every_domain: Any = None  # which the binding's annotation forbids, and its C code wants
        registration = libvirt_qemu.qemuMonitorEventRegister(self.connection, every_domain, event, callback, number)
        self._registrations.append(partial(libvirt_qemu.qemuMonitorEventDeregister, self.connection, registration))

    @contextlib.contextmanager
    def used(self) -> Iterator[Any]:
        """The connection, for one call."""
        with self._returned:
            self._calls += 1
        try:
            yield self.connection
        finally:
            with self._returned:
                self._calls -= 1
                self._returned.notify_all()

    def close(self) -> None:
        """Deregister everything and close; blocks for as long as libvirt does, and for calls that are on their way."""
        for deregister in self._registrations:
            with contextlib.suppress(libvirt.libvirtError):
                deregister()
        with self._returned:
            free = self._returned.wait_for(lambda: not self._calls, CLOSE_WAIT_S)
        if free:
            with contextlib.suppress(libvirt.libvirtError):
                self.connection.close()
        else:
            logger.warning("a call to libvirt does not return; its connection is left open")
