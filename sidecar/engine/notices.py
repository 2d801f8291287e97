"""What the outside tells the engine: small values, "look again" rather than facts."""

from dataclasses import dataclass
from enum import Enum
from uuid import UUID

from sidecar.record.agreement import Origin


@dataclass(frozen=True, slots=True)
class HookNotice:
    """A libvirt hook ran for a domain of this name; nobody vouches for it, so it only makes us look.

    ``operation`` is the hook's second argument, for instance ``started``.
    """

    domain: str
    operation: str


class Happening(Enum):
    """What a libvirt lifecycle event says, as far as it matters here."""

    STARTED = "a QEMU process runs; whether its guest does is another matter"
    RESUMED = "the guest's CPUs run"
    RESUMED_POSTCOPY = "the guest runs here, but its migration job goes on"
    SUSPENDED = "the guest's CPUs stand"
    CRASHED = "the guest panicked; QEMU may go on"
    STOPPED = "the QEMU process is gone"
    REDEFINED = "the persistent configuration was defined anew or undefined"


@dataclass(frozen=True, slots=True)
class LifecycleNotice:
    """A libvirt lifecycle event; ``origin`` where its detail tells how the domain came."""

    uuid: UUID
    name: str
    happening: Happening
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class PortNotice:
    """The guest's end of a channel opened or closed; ``alias`` is the device's name in the live XML."""

    uuid: UUID
    alias: str
    opened: bool


@dataclass(frozen=True, slots=True)
class AgentNotice:
    """Libvirt's own connection to the QEMU guest agent came up, or is gone."""

    uuid: UUID
    connected: bool


@dataclass(frozen=True, slots=True)
class RecordNotice:
    """Somebody, possibly we, wrote or removed the element of our namespace."""

    uuid: UUID


@dataclass(frozen=True, slots=True)
class LookNotice:
    """Look at the domain again; ``first_sight`` when it may have been running for long."""

    uuid: UUID
    first_sight: bool = False


DomainNotice = LifecycleNotice | PortNotice | AgentNotice | RecordNotice | LookNotice
