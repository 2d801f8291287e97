"""What the engine is told by the configuration, and the surroundings that every domain shares."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sidecar.engine.clocks import utc_now
from sidecar.engine.ports import Dialer, HostIdentity, Hypervisor
from sidecar.protocol.qga_commands import QGA_MAXIMUM
from sidecar.protocol.releases import Release


@dataclass(frozen=True, slots=True)
class Settings:
    """The configuration as the engine needs it; seconds of guest time.

    A channel that is neither in ``qga_channels`` (through libvirt) nor in ``qga_direct_channels`` speaks the oVirt
    dialect.
    """

    ovirt_maximum: int
    responsive_s: float
    absent_s: float
    qga_maximum: Release = QGA_MAXIMUM
    qga_absent_s: float = 120.0
    qga_channels: frozenset[str] = frozenset()
    qga_direct_channels: frozenset[str] = frozenset()


@dataclass(slots=True)
class Surroundings:
    """The outside, as the one place that builds it (``daemon``) hands it in.

    ``identity`` is known from the first connection to libvirt on; no domain exists before that. ``settings`` is
    replaced when the configuration is read again.
    """

    hypervisor: Hypervisor
    dialer: Dialer
    settings: Settings
    identity: HostIdentity
    wall_clock: Callable[[], datetime] = utc_now
