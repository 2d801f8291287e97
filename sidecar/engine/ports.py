"""What the engine needs of the outside, as Protocols; ``adapters`` implement them, ``tests/fakes`` imitate them."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol
from uuid import UUID

from sidecar.record.agreement import Agreement, Origin
from sidecar.record.domain_xml import ChannelDevice
from sidecar.record.policy import Policy


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
    ``record_present``); ``policy`` the operator's, ``policy_problem`` what is wrong in one that is none, in one
    printable line; ``shows_tools`` what a policy may ask for.
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
    policy: Policy | None = None
    policy_problem: str | None = None
    shows_tools: bool = False


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

    async def call_agent(
        self, uuid: UUID, request: str, answer_s: float, wait_s: float, *, wanted: Callable[[], bool], suspect: bool
    ) -> str:
        """Send one command to the QEMU guest agent whose channel libvirt holds; returns the agent's reply as it came.

        One call at a time a domain, in a pool of its own. libvirt cannot take a command back: one whose caller's time
        is over may still run, and the domain's next call waits until libvirt has returned from it.

        Args:
            uuid: The domain.
            request: The command as JSON.
            answer_s: How long the agent may take for its reply once the command was sent, in whole seconds rounded up.
            wait_s: How long the caller waits in all.
            wanted: Asked in another thread right before the command goes out: whether it still should.
            suspect: The agent is known to hang: calls to such agents share a few workers of their own.

        Raises:
            CommandFailedError: The agent answered with an error.
            AgentDisconnectedError: The agent is not connected, the domain is paused, or it is not wanted any more.
            AgentPoisonedError: See there.
            AgentBusyError: Earlier calls did not end within ``wait_s``.
            JobHeldError: Another client's agent job did not end in libvirt's own time (30 s); nothing was sent.
            AgentLeftError: The agent went away before it answered.
            NoAnswerError: No answer in time.
            BadReplyError: An answer that libvirt could not pass on, of over 4 MiB for instance.
            DomainGoneError: The domain runs no more; nothing was sent.
            HypervisorDownError: The connection is down; nothing was sent.
            OutcomeUnknownError: Libvirt failed with the command under way.
        """


class Connection(Protocol):
    """One connection to a guest-agent channel."""

    def unread_bytes(self) -> int:
        """How many of our bytes the peer has not read yet."""

    def close(self) -> None:
        """Close at once; ``wait_closed`` returns then."""

    async def wait_closed(self) -> None:
        """Returns when the connection is over, whoever ended it."""


class ByteConnection(Connection, Protocol):
    """A connection that carries bytes as they are."""

    def send(self, data: bytes) -> bool:
        """Queue bytes; the queue is bounded, and a connection whose peer does not read is closed.

        Returns:
            Whether they were queued: false, the connection is over, and none of them will arrive whole.
        """


class QgaConnection(Connection, Protocol):
    """A connection to a QEMU guest agent on a socket of its own."""

    async def call(self, request: str, wait_s: float) -> str:
        """Send one command and return its reply as JSON; one call at a time.

        Whoever answers is synchronised with first when ``lose_agent`` was called, on a new connection, and after
        every call that was not answered. A command with an ``id`` (text) is answered by the reply with that ``id``, one
        without by the first reply without.

        Raises:
            AgentUnsynchronizedError: The synchronisation, which is part of ``wait_s``, did not succeed.
            AgentDisconnectedError: The connection is over; nothing was sent.
            AgentBusyError: An earlier call did not end within ``wait_s``; nothing was sent.
            AgentLeftError: The connection ended, or ``lose_agent`` was called, before it answered.
            NoAnswerError: No answer within ``wait_s``.
            UncorrelatedReplyError: The command has an ``id``, and a reply came that has none.
            BadReplyError: A reply of over 1 MiB.
        """

    def lose_agent(self) -> None:
        """Whoever answered is gone, and another may answer from now on: a call that waits ends."""


class Dialer(Protocol):
    """Connects to the unix sockets of channels."""

    async def dial(self, path: str, pid: int | None, receive_data: Callable[[bytes], None]) -> ByteConnection:
        """Connect to the channel at ``path``, which the process ``pid`` (if given) must serve.

        Raises:
            ChannelUnreachableError: Nothing answers there.
            ForeignSocketError: Another process answers.
        """

    async def dial_qga(self, path: str, pid: int | None) -> QgaConnection:
        """Likewise, to a QEMU guest agent; nothing is said to it yet."""

    async def is_in_use(self, path: str) -> bool:
        """Whether some client is connected to the channel's socket, as far as can be seen without connecting."""

    async def is_awaited(self, path: str) -> bool:
        """Whether a client waits in line for the channel's socket while another is served, as far as can be seen."""


class FleetBus(Protocol):
    """The other hosts of the fleet, over a message bus; for the loop's thread, and nothing here blocks it."""

    @property
    def configured(self) -> bool:
        """Whether there is to be a bus at all."""

    @property
    def connected(self) -> bool:
        """Whether the whole way over the broker and back works."""

    def announce(self, offer: Mapping[str, Any]) -> None:
        """Have every host know this host's offer (a ``HostView``'s document), as soon as there is a connection."""

    async def collect(self, expected: Collection[str], timeout_s: float) -> Sequence[Any]:
        """Every other host's ``summary``, as documents that nobody has looked at yet.

        Returns as soon as all ``expected`` (hostnames) have answered, or else after ``timeout_s``, with what came.

        Raises:
            BusDownError: There is no connection, or no bus is configured.
        """

    async def call(self, host: str, operation: str, arguments: Mapping[str, Any], timeout_s: float) -> Any:
        """The document that an operation of another host's results in; nobody has looked at it yet.

        Raises:
            BusDownError: There is no connection.
            HostSilentError: The host gave no answer within ``timeout_s``, or nobody of this name is on the bus.
            ProblemError: The other host's.
        """

    async def forget(self, hostname: str) -> None:
        """Tell every host, this one included, to count a host no more.

        Raises:
            BusDownError: There is no connection; nobody was told.
        """
