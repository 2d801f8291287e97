"""Looks at libvirt's domains for a program that comes once and goes: blocking calls, no events, nothing kept."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from uuid import UUID

import libvirt

from sidecar.adapters.libvirt import agent_calls, calls
from sidecar.engine.ports import DomainSnapshot


class Visitor:
    """Each call has a connection of its own, and may be made in any thread.

    libvirt bounds what a call takes, but for one that hangs: whoever calls has to be able to leave the thread behind.
    What a call raises is what ``engine.ports.Hypervisor`` says, and ``HypervisorDownError`` where there is no libvirt.
    """

    def __init__(self, uri: str, channel_names: tuple[str, ...]) -> None:
        libvirt.registerErrorHandler(_ignore, None)  # which prints on stderr otherwise
        self._uri, self._channel_names = uri, channel_names

    def list_domains(self) -> list[tuple[UUID, str]]:
        """See ``Hypervisor``."""
        with self._connected() as connection:
            return calls.list_domains(connection)

    def inspect_domain(self, uuid: UUID) -> DomainSnapshot | None:
        """See ``Hypervisor``."""
        with self._connected() as connection:
            return calls.inspect_domain(connection, uuid, self._channel_names)

    def call_agent(self, uuid: UUID, request: str, answer_s: float) -> str:
        """See ``Hypervisor``; a call that waits for another client's is ended by libvirt alone."""
        with self._connected() as connection:
            return agent_calls.call_agent(connection, uuid, request, answer_s, lambda: True)

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        with calls.translated(None):
            opened = libvirt.open(self._uri)
        with closing(opened) as connection, calls.translated(connection):
            yield connection


def _ignore(_context: object, _error: object) -> None:
    """What went wrong is in the exception, too."""
