"""What libvirt's events and states are in the engine's words.

Source: libvirt's ``virDomainEventType``, ``virDomainState`` and their details; QEMU's event ``VSERPORT_CHANGE``.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType
from uuid import UUID

import libvirt

from sidecar.engine.notices import Happening, LifecycleNotice, PortNotice
from sidecar.engine.ports import Activity
from sidecar.record.agreement import Origin

HAPPENINGS: Mapping[int, Happening] = MappingProxyType(
    {
        libvirt.VIR_DOMAIN_EVENT_STARTED: Happening.STARTED,
        libvirt.VIR_DOMAIN_EVENT_RESUMED: Happening.RESUMED,
        libvirt.VIR_DOMAIN_EVENT_SUSPENDED: Happening.SUSPENDED,
        libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED: Happening.SUSPENDED,
        libvirt.VIR_DOMAIN_EVENT_STOPPED: Happening.STOPPED,
        libvirt.VIR_DOMAIN_EVENT_CRASHED: Happening.CRASHED,
        libvirt.VIR_DOMAIN_EVENT_DEFINED: Happening.REDEFINED,
        libvirt.VIR_DOMAIN_EVENT_UNDEFINED: Happening.REDEFINED,
    }
)
"""Every lifecycle event that tells us something."""

STARTED_ORIGINS: Mapping[int, Origin] = MappingProxyType(
    {
        libvirt.VIR_DOMAIN_EVENT_STARTED_BOOTED: Origin.START,
        libvirt.VIR_DOMAIN_EVENT_STARTED_MIGRATED: Origin.MIGRATION,
        libvirt.VIR_DOMAIN_EVENT_STARTED_RESTORED: Origin.RESTORE,
        libvirt.VIR_DOMAIN_EVENT_STARTED_FROM_SNAPSHOT: Origin.SNAPSHOT,
    }
)
"""Origin by detail of STARTED."""

RUNNING_ORIGINS: Mapping[int, Origin] = MappingProxyType(
    {
        libvirt.VIR_DOMAIN_RUNNING_BOOTED: Origin.START,
        libvirt.VIR_DOMAIN_RUNNING_MIGRATED: Origin.MIGRATION,
        libvirt.VIR_DOMAIN_RUNNING_POSTCOPY: Origin.MIGRATION,
        libvirt.VIR_DOMAIN_RUNNING_RESTORED: Origin.RESTORE,
        libvirt.VIR_DOMAIN_RUNNING_FROM_SNAPSHOT: Origin.SNAPSHOT,
    }
)
"""Origin by the reason why a domain is running."""

_NOT_HERE_YET = (libvirt.VIR_DOMAIN_PAUSED_MIGRATION, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP)


def read_lifecycle(uuid: UUID, name: str, event: int, detail: int) -> LifecycleNotice | None:
    """A lifecycle event as a notice; ``None`` when it says nothing to us."""
    happening, origin = HAPPENINGS.get(event), None
    if happening is None:
        return None
    if happening is Happening.STARTED:
        origin = STARTED_ORIGINS.get(detail)
    elif happening is Happening.RESUMED:
        happening, origin = _read_resumed(detail)
    return LifecycleNotice(uuid, name, happening, origin)


def _read_resumed(detail: int) -> tuple[Happening, Origin | None]:
    if detail == libvirt.VIR_DOMAIN_EVENT_RESUMED_POSTCOPY:
        return Happening.RESUMED_POSTCOPY, Origin.MIGRATION
    # FROM_SNAPSHOT is said of a restored guest, too, so it tells nothing.
    migrated = detail == libvirt.VIR_DOMAIN_EVENT_RESUMED_MIGRATED
    return Happening.RESUMED, Origin.MIGRATION if migrated else None


def read_port(uuid: UUID, details: str) -> PortNotice:
    """QEMU's ``VSERPORT_CHANGE`` as a notice; ``details`` is its JSON.

    Raises:
        ValueError: The details are not what QEMU says.
    """
    try:
        port = json.loads(details)
        return PortNotice(uuid, str(port["id"]), bool(port["open"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{details[:200]!a}: {type(error).__name__}: {error}") from error


def judge_state(state: int, reason: int) -> tuple[Activity, Origin | None]:
    """What an active domain is doing, and how it came as far as its state still tells."""
    if state in (libvirt.VIR_DOMAIN_PMSUSPENDED, libvirt.VIR_DOMAIN_CRASHED):  # panicked, and QEMU went on
        return Activity.PAUSED, None
    if state != libvirt.VIR_DOMAIN_PAUSED:
        return Activity.RUNNING, RUNNING_ORIGINS.get(reason) if state == libvirt.VIR_DOMAIN_RUNNING else None
    if reason in _NOT_HERE_YET:
        return Activity.INCOMING, None
    return Activity.PAUSED, Origin.SNAPSHOT if reason == libvirt.VIR_DOMAIN_PAUSED_FROM_SNAPSHOT else None
