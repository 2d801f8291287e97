"""What the engine is told by the configuration, and the surroundings that every domain shares."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sidecar.engine.clocks import utc_now
from sidecar.engine.ports import Dialer, HostIdentity, Hypervisor


@dataclass(frozen=True, slots=True)
class Settings:
    """The configuration as the engine needs it; seconds of guest time."""

    ovirt_maximum: int
    responsive_s: float
    absent_s: float


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
