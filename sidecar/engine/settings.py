"""What the engine is told by the configuration, and the surroundings that every domain shares."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from sidecar.engine.clocks import utc_now
from sidecar.engine.event_log import EventLog
from sidecar.engine.ports import Dialer, HostIdentity, Hypervisor
from sidecar.engine.tally import Tally
from sidecar.protocol.qga_commands import QGA_MAXIMUM
from sidecar.protocol.releases import Release
from sidecar.protocol.states import Dialect
from sidecar.protocol.tools import Source, ToolsVersion
from sidecar.protocol.versions import OVIRT_MAXIMUM


class Way(Enum):
    """How a channel is spoken to."""

    OVIRT = "in the oVirt dialect, over its socket"
    LIBVIRT = "in the QGA dialect, through libvirt"
    DIRECT = "in the QGA dialect, over its socket"


@dataclass(frozen=True, slots=True)
class Settings:
    """The configuration as the engine needs it; seconds of guest time.

    ``tools_current`` is the version of the guest's tools that counts as current, by who tells it; ``read_guest_file``
    whether a file in the guest may be looked for through its QEMU guest agent.
    """

    ovirt_maximum: int
    responsive_s: float
    absent_s: float
    qga_maximum: Release = QGA_MAXIMUM
    qga_absent_s: float = 120.0
    qga_channels: frozenset[str] = frozenset()
    qga_direct_channels: frozenset[str] = frozenset()
    tools_current: Mapping[Source, ToolsVersion] = field(default_factory=dict)
    read_guest_file: bool = False

    def find_way(self, channel: str) -> Way:
        """How the channel of this name is spoken to; what is not named as a QGA channel speaks oVirt's dialect."""
        if channel in self.qga_channels:
            return Way.LIBVIRT
        return Way.DIRECT if channel in self.qga_direct_channels else Way.OVIRT


@dataclass(frozen=True, slots=True)
class FleetLevels:
    """What the configuration caps this host to, by dialect, and in which ones the cap is the fleet's (``"auto"``)."""

    ovirt: int = OVIRT_MAXIMUM
    qga: Release = QGA_MAXIMUM
    auto: frozenset[Dialect] = frozenset()


@dataclass(frozen=True, slots=True)
class Caps:
    """What the fleet caps this host to: the code's maximum where the cap is not the fleet's."""

    ovirt: int = OVIRT_MAXIMUM
    qga: Release = QGA_MAXIMUM


@dataclass(slots=True)
class Surroundings:
    """The outside, as the one place that builds it (``daemon``) hands it in.

    ``identity`` is known from the first connection to libvirt on; no domain exists before that. ``settings`` is
    replaced when the configuration is read again. Whatever happens is told to ``events`` and counted in ``tally``.
    """

    hypervisor: Hypervisor
    dialer: Dialer
    settings: Settings
    identity: HostIdentity
    wall_clock: Callable[[], datetime] = utc_now
    tally: Tally = field(default_factory=Tally)
    events: EventLog = field(init=False)

    def __post_init__(self) -> None:
        self.events = EventLog(self.wall_clock)
