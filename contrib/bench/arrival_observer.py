"""Who times arrivals: one observer outside of all arms, which sees what a user would.

It hears RESUMED on the destination, and at each write reads the record until it shows the agreement of that host.
"""

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any
from xml.etree import ElementTree

import libvirt

from tests.lab.domain_xml import RECORD_URI
from tests.lab.host import Host


class Observer:
    """Hears the events of one host's libvirtd.

    Attributes:
        resumed: When each domain arrived, by name, on this process's monotonic clock.
        agreed: When this host's agreement on the channel stood after that.
    """

    def __init__(self, host: Host, channel: str) -> None:
        self._host, self._channel = host.name, channel
        self.resumed: dict[str, float] = {}
        self.agreed: dict[str, float] = {}
        self._connection: Any = libvirt.open(host.uri)
        register = self._connection.domainEventRegisterAny
        self._registrations = [
            register(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_lifecycle, None),
            register(None, libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE, self._on_metadata, None),
        ]

    def forget(self) -> None:
        """Be ready for the next arrivals."""
        self.resumed.clear()
        self.agreed.clear()

    def took_ms(self, name: str) -> float:
        """From RESUMED to the agreement read."""
        return (self.agreed[name] - self.resumed[name]) * 1000

    def close(self) -> None:
        """Hear no more."""
        for registration in self._registrations:
            self._connection.domainEventDeregisterAny(registration)
        self._connection.close()

    def _on_lifecycle(self, _connection: Any, domain: Any, event: int, detail: int, _opaque: Any) -> None:
        arrived = (libvirt.VIR_DOMAIN_EVENT_RESUMED, libvirt.VIR_DOMAIN_EVENT_RESUMED_MIGRATED)
        if (event, detail) == arrived:
            self.agreed.pop(domain.name(), None)
            self.resumed[domain.name()] = monotonic()

    def _on_metadata(self, _connection: Any, domain: Any, _kind: int, _uri: str, _opaque: Any) -> None:
        name = domain.name()
        if name not in self.resumed or name in self.agreed:
            return
        with suppress(libvirt.libvirtError):
            text = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, RECORD_URI, libvirt.VIR_DOMAIN_AFFECT_LIVE)
            record = ElementTree.fromstring(text)
            states = {child.get("name"): child.get("state") for child in record if child.tag.endswith("channel")}
            if record.get("host") == self._host and states == {self._channel: "agreed"}:
                self.agreed[name] = monotonic()


@contextmanager
def observe(host: Host, channel: str) -> Iterator[Observer]:
    """An observer of this host."""
    serve_events()
    observer = Observer(host, channel)
    try:
        yield observer
    finally:
        observer.close()


@functools.cache
def serve_events() -> None:
    """Run libvirt's event loop; once in a process, however many benches there are, and before the first connection."""
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_run_events, daemon=True).start()


def _run_events() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()
