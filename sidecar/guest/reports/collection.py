"""The one door to everything that there is to tell."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sidecar.errors import ReportError
from sidecar.guest.reports.containers import report_containers
from sidecar.guest.reports.disks import report_disks
from sidecar.guest.reports.guest_tools import GuestTools
from sidecar.guest.reports.host_names import report_fqdn, report_host_name
from sidecar.guest.reports.memory import MemoryReport
from sidecar.guest.reports.network import report_interfaces
from sidecar.guest.reports.operating_system import report_cpu_count, report_os_info, report_os_version
from sidecar.guest.reports.packages import DEFAULT_PATTERNS, report_packages
from sidecar.guest.reports.sessions import read_lock_hint, report_active_user
from sidecar.guest.reports.time_zone import report_timezone
from sidecar.protocol.guest_text import clean_line


@dataclass(frozen=True, slots=True)
class Sources:
    """What an administrator chooses.

    Attributes:
        ignored_nics: Interfaces that are not reported, by their names.
        ignored_filesystems: Types of file system that are not reported, such as ``squashfs``.
        applications: Shell patterns of the names of packages that are; ``("*",)`` for all of them.
        tools_version: The guest tools' version, MAJOR.MINOR[.MICRO][-BUILD]; ``None``: this agent's own.
    """

    ignored_nics: frozenset[str] = frozenset()
    ignored_filesystems: frozenset[str] = frozenset()
    applications: tuple[str, ...] = DEFAULT_PATTERNS
    tools_version: str | None = None


class Reports:
    """The arguments of each message that tells about the guest; one thread at a time."""

    def __init__(self, sources: Sources, root: Path = Path("/")) -> None:
        memory = MemoryReport(root)
        tools = GuestTools(sources.tools_version, root)
        self._collectors: Mapping[str, Callable[[], dict[str, object]]] = {
            "heartbeat": memory.report_heartbeat,
            "memory-stats": memory.report_memory,
            "host-name": lambda: report_host_name(root),
            "fqdn": lambda: report_fqdn(root),
            "os-version": report_os_version,
            "os-info": lambda: report_os_info(root),
            "number-of-cpus": lambda: report_cpu_count(root),
            "timezone": lambda: report_timezone(root),
            "network-interfaces": lambda: report_interfaces(sources.ignored_nics, root),
            "disks-usage": lambda: report_disks(sources.ignored_filesystems, root),
            "applications": lambda: report_packages(sources.applications, root),
            "active-user": lambda: report_active_user(root),
            "containers": lambda: report_containers(root),
            "guest-tools": tools.report,
        }

    def collect(self, name: str) -> dict[str, object]:
        """The arguments of the message ``name``; heartbeat's ``apiVersion`` is the session's to add.

        Raises:
            ReportError: They cannot be looked up, or nothing is reported by that name. Nothing else ever; the next call
                looks again.
        """
        collector = self._collectors.get(name)
        if collector is None:
            raise ReportError(f"{clean_line(name)}: nothing is reported by that name")
        try:
            return collector()
        except Exception as error:  # a guest can break its own system in ways that nobody lists
            raise ReportError(f"{name}: {clean_line(str(error) or type(error).__name__)}") from error

    def session_locked(self) -> bool | None:
        """Whether the session at the console is locked; ``None`` when nobody knows."""
        return read_lock_hint()
