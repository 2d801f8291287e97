"""What the engine needs of the outside, as Protocols; ``adapters`` implement them, ``tests/fakes`` imitate them."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol
from uuid import UUID

from sidecar.record.agreement import Agreement, Origin
from sidecar.record.domain_xml import ChannelDevice


class Activity(Enum):
    """What a domain is doing."""

    RUNNING = "its guest's CPUs run"
    PAUSED = "its guest stands, and is here"
    INCOMING = "QEMU waits for a guest that is migrating in"


@dataclass(frozen=True, slots=True)
class HostIdentity:
    """The libvirt host: its hostname, and the host UUID of its capabilities."""

    hostname: str
    uuid: str


@dataclass(frozen=True, slots=True)
class DomainSnapshot:
    """An active domain at one moment.

    ``run`` is the opaque token of its QEMU process, ``pid`` that process; ``origin`` is how it came as far as libvirt
    still knows; ``record`` the agreement in its live XML (``None`` when there is none or it is broken, see
    ``record_present``).
    """

    uuid: UUID
    name: str
    activity: Activity
    origin: Origin | None
    run: str
    pid: int
    channels: tuple[ChannelDevice, ...]
    record: Agreement | None
    record_present: bool


class Hypervisor(Protocol):
    """Libvirt. Every call raises ``HypervisorError`` or one of its kinds, and takes a bounded time."""

    async def list_domains(self) -> list[tuple[UUID, str]]:
        """UUID and name of every active domain."""

    async def find_domain(self, name: str) -> UUID | None:
        """The UUID of the domain of this name, active or not; ``None`` when there is none."""

    async def inspect_domain(self, uuid: UUID) -> DomainSnapshot | None:
        """The domain as it is now; ``None`` when it does not exist or is not active."""

    async def is_job_held(self, uuid: UUID) -> bool:
        """Whether a job is known to hold the domain, so that a write would only wait behind it."""

    async def write_record(self, uuid: UUID, agreement: Agreement) -> None:
        """Put the record into the live XML and, for a persistent domain, into its configuration; read both back.

        Returns only when libvirt has answered, however long another job made it wait (30 s in libvirt's own
        bound; a libvirt that hangs is ended by the connection's keepalive).

        Raises:
            DomainGoneError: The domain runs no more; nothing more to do.
            JobHeldError: A job held the domain for too long; nothing was written.
            HypervisorDownError: The connection is down; nothing was written.
            OutcomeUnknownError: The connection broke during the write.
            RecordChangedError: It was written, and somebody else has changed it already.
            HypervisorError: Anything else.
        """

    async def is_record_intact(self, uuid: UUID, agreement: Agreement) -> bool:
        """Whether live XML and configuration (where there is one) hold this record."""


class Connection(Protocol):
    """One connection to a guest-agent channel."""

    def send(self, data: bytes) -> None:
        """Queue bytes; the queue is bounded, and a connection whose peer does not read is closed."""

    def unread_bytes(self) -> int:
        """How many of our bytes the peer has not read yet."""

    def close(self) -> None:
        """Close at once; ``wait_closed`` returns then."""

    async def wait_closed(self) -> None:
        """Returns when the connection is over, whoever ended it."""


class Dialer(Protocol):
    """Connects to the unix sockets of channels."""

    async def dial(self, path: str, pid: int, receive_data: Callable[[bytes], None]) -> Connection:
        """Connect to the channel at ``path``, which the process ``pid`` must serve.

        Raises:
            ChannelUnreachableError: Nothing answers there.
            ForeignSocketError: Another process answers.
        """

    async def is_in_use(self, path: str) -> bool:
        """Whether some client is connected to the channel's socket, as far as can be seen without connecting."""

    async def is_awaited(self, path: str) -> bool:
        """Whether a client waits in line for the channel's socket while another is served, as far as can be seen."""
