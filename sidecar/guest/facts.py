"""What there is to tell of the guest: looked up, kept with the session, and told when it is due or news."""

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sidecar.errors import ReportError
from sidecar.guest.collector import Collector, Finding
from sidecar.guest.configuration import Rates
from sidecar.guest.reports import Reports
from sidecar.guest.reports.sessions import NOBODY
from sidecar.guest.schedule import Schedule
from sidecar.protocol.ovirt_agent import REFRESH_SET, AgentSession

logger = logging.getLogger(__name__)

# Two heartbeats so close together need not look at the memory twice.
MEMORY_FRESH_S = 1.0

# A host that asks on and on is told what is known, and what is new so often: looking may be work for a CPU.
NEWS_EVERY_S = 5.0

# Whether the user at the console has locked it; looked up only while there is one.
LOCK = "session-locked"

# What is looked at at each rate; what has no rate is told at the start and when a host asks.
_RATES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "active_user_seconds": ("active-user",),
        "number_of_cpus_seconds": ("number-of-cpus",),
        "applications_seconds": (
            "applications",
            "containers",
            "host-name",
            "os-version",
            "network-interfaces",
            "fqdn",
            "guest-tools",
        ),
        "disks_usage_seconds": ("disks-usage",),
        "memory_stats_seconds": (),  # the heartbeat's, on their own
    }
)

# Told when it changes, not each time that somebody looked.
_TOLD_WHEN_NEW = frozenset({"active-user"})


class Facts:
    """All that is known of the guest; ``fd`` becomes readable when ``tell_found`` has something to tell."""

    def __init__(self, session: AgentSession, reports: Reports, rates: Rates, now: float) -> None:
        """Start to look up everything at once."""
        self._session, self._reports = session, reports
        self._collector = Collector(self._look_up)
        self._schedule = Schedule({name: getattr(rates, name) for name in _RATES}, now)
        self._news_at, self._news_looked_at = float("inf"), float("-inf")
        self._memory_at = float("-inf")
        self._memory: dict[str, object] = {"free-ram": "0", "memory-stat": {}}
        self._complaint = ""
        self._user: str | None = None
        self._locked: bool | None = None
        self._collector.want((*REFRESH_SET, "number-of-cpus"))

    @property
    def fd(self) -> int:
        """For the loop's epoll."""
        return self._collector.fd

    @property
    def deadline(self) -> float:
        """When ``look_at_due`` has something to do, as long as a host is there: monotonic seconds."""
        return min(self._schedule.deadline, self._news_at)

    def look_at_due(self, now: float) -> None:
        """Look at what is due by its rate, or because a host asked."""
        if now >= self._news_at:
            self._news_at, self._news_looked_at = float("inf"), now
            self._collector.want(REFRESH_SET, only_news=True)
        for rate in self._schedule.take_due(now):
            self._collector.want(_RATES[rate])
            if rate == "memory_stats_seconds":
                self.look_at_memory(now)
                self._session.keep("memory-stats", {"memory": self._memory["memory-stat"]})
                self._session.report("memory-stats")

    def look_for_news(self, now: float) -> None:
        """Look at everything soon; what is as it was need not be told again."""
        self._news_at = min(self._news_at, max(now, self._news_looked_at + NEWS_EVERY_S))

    def look_at_cpus(self) -> None:
        """Look at how many CPUs there are now, and tell it."""
        self._collector.want(("number-of-cpus",))

    def look_at_memory(self, now: float) -> None:
        """Have the next heartbeat tell how things are now; done at once, it takes no time."""
        if now < self._memory_at + MEMORY_FRESH_S:
            return
        self._memory_at = now
        try:
            self._memory = self._reports.collect("heartbeat")
        except ReportError as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                logger.warning("cannot be told: %s", error)
        self._session.keep("heartbeat", self._memory)

    def tell_found(self) -> None:
        """Take what was found since the last time."""
        for finding in self._collector.take():
            self._tell(finding)

    def _look_up(self, name: str) -> object:
        """For the collector's thread."""
        return self._reports.session_locked() if name == LOCK else self._reports.collect(name)

    def _tell(self, finding: Finding) -> None:
        if finding.name == LOCK:
            self._tell_lock(bool(finding.value))
            return
        assert isinstance(finding.value, dict)
        news = self._session.keep(finding.name, finding.value)
        if finding.name == "active-user" and self._tell_user(finding.value):
            return
        if news or not (finding.only_news or finding.name in _TOLD_WHEN_NEW):
            self._session.report(finding.name)

    def _tell_user(self, arguments: Mapping[str, Any]) -> bool:
        """Whether a user came or went, which is told in the order that hosts know from original agents."""
        before, self._user = self._user, str(arguments["name"])
        if self._user != NOBODY:
            self._collector.want((LOCK,))
        if before in (None, self._user):
            return False
        if before != NOBODY:
            self._session.send("session-logoff")
        self._session.send("active-user", arguments)
        if self._user != NOBODY:
            self._session.send("session-logon")
        return True

    def _tell_lock(self, locked: bool) -> None:
        before, self._locked = self._locked, locked
        if before is not None and before is not locked:
            self._session.send("session-lock" if locked else "session-unlock")
