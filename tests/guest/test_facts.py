"""What is told of the guest when: at a rate, when it is news, and in which order users come and go."""

import json
import select
from collections.abc import Mapping
from typing import Any

import pytest

from sidecar.errors import ReportError
from sidecar.guest.configuration import Rates
from sidecar.guest.facts import LOCK, MEMORY_FRESH_S, Facts
from sidecar.guest.reports import Reports
from sidecar.protocol.ovirt_agent import REFRESH_SET, AgentSession
from tests.fakes.ovirt_agent import FACTS

PATIENCE_S = 10.0
NEVER = Rates(5, 0, 0, 0, 0, 0)


class FakeReports:
    """A guest as a test wants it: ``facts`` may be changed, what is missing cannot be looked up."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = dict(FACTS)
        self.locked: bool | None = None
        self.asked: list[str] = []

    def collect(self, name: str) -> dict[str, object]:
        self.asked.append(name)
        if name not in self.facts:
            raise ReportError(f"{name}: gone")
        return dict(self.facts[name])

    def session_locked(self) -> bool | None:
        self.asked.append(LOCK)
        return self.locked


class Guest:
    """Facts at a session that a host has brought to version 4."""

    def __init__(self, rates: Rates = NEVER) -> None:
        self.reports = FakeReports()
        self.session = AgentSession(heartbeat_s=5.0, now=0.0)
        self.session.host_came(0.0)
        self.session.receive_data(b'{"__name__": "api-version", "apiVersion": 4}\n', 0.0)
        reports: Any = self.reports
        self.facts = Facts(self.session, reports, rates, 0.0)

    def look(self, *names: str) -> list[str]:
        """Have these looked up; what is said of them."""
        self.facts._collector.want(names)
        return self.settle()

    def settle(self) -> list[str]:
        """All that is said once everything that was asked for is told."""
        mark = f"mark {len(self.reports.facts)}"  # which no message tells
        self.reports.facts[mark] = {}
        self.facts._collector.want([mark])
        while mark not in self.session._facts:
            assert select.select([self.facts.fd], [], [], PATIENCE_S)[0]
            self.facts.tell_found()
        return [message["__name__"] for message in self.said()]

    def said(self) -> list[Mapping[str, Any]]:
        data = b"".join(iter(self.session.data_to_send, b""))
        return [json.loads(line) for line in data.splitlines()]


@pytest.fixture
def guest() -> Guest:
    guest = Guest()
    guest.settle()
    guest.reports.asked.clear()
    return guest


def test_the_start_tells_everything() -> None:
    guest = Guest()
    assert guest.settle() == ["session-startup", *REFRESH_SET, "number-of-cpus"]


def test_what_is_looked_at_by_its_rate_is_told_each_time(guest: Guest) -> None:
    assert guest.look("disks-usage", "host-name") == ["disks-usage", "host-name"]
    guest.facts.look_at_cpus()
    assert guest.settle() == ["number-of-cpus"]
    assert guest.look("disks-usage") == ["disks-usage"]


def test_who_is_there_is_told_when_it_is_news(guest: Guest) -> None:
    assert guest.look("active-user") == []
    guest.reports.facts["active-user"] = {"name": "ada"}
    assert "active-user" in guest.look("active-user")
    assert guest.look("active-user") == []


def test_a_refresh_hears_of_news_alone(guest: Guest) -> None:
    guest.reports.facts["fqdn"] = {"fqdn": "new.example.org"}
    guest.facts.look_for_news(3.0)
    assert guest.facts.deadline == 3.0
    guest.facts.look_at_due(3.0)
    assert guest.settle() == ["fqdn"]
    assert guest.reports.asked[: len(REFRESH_SET)] == list(REFRESH_SET)


def test_a_host_that_asks_on_and_on_makes_us_look_now_and_then(guest: Guest) -> None:
    looks = []
    for tenth in range(300):
        now = tenth / 10
        guest.facts.look_for_news(now)
        before = len(guest.reports.asked)
        guest.facts.look_at_due(now)
        guest.settle()
        if "fqdn" in guest.reports.asked[before:]:
            looks.append(now)
    assert looks == [0.0, 5.0, 10.0, 15.0, 20.0, 25.0]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("None", "ada", ["active-user", "session-logon"]),
        ("ada", "None", ["session-logoff", "active-user"]),
        ("ada", "bob", ["session-logoff", "active-user", "session-logon"]),
        ("ada", "ada", []),
    ],
)
def test_users_come_and_go(before: str, after: str, told: list[str], guest: Guest) -> None:
    guest.reports.facts["active-user"] = {"name": before}
    guest.look("active-user")
    guest.reports.facts["active-user"] = {"name": after}
    assert guest.look("active-user") == told


def test_the_lock_is_looked_at_while_somebody_is_there(guest: Guest) -> None:
    guest.look("active-user")
    assert LOCK not in guest.reports.asked
    guest.reports.facts["active-user"] = {"name": "ada"}
    guest.look("active-user")
    told = []
    for guest.reports.locked in (None, False, False, True, True, None, False):
        told.append(guest.look("active-user") + guest.settle())  # it is asked for once the user was found
    assert [one for one in told if one] == [["session-lock"], ["session-unlock"]]


def test_memory_is_looked_at_once_a_second(guest: Guest, caplog: pytest.LogCaptureFixture) -> None:
    def beat(now: float) -> object:
        guest.facts.look_at_memory(now)
        guest.session.tick(guest.session.deadline)
        return guest.said()[0]["free-ram"]

    assert beat(100.0) == "128"
    guest.reports.facts["heartbeat"] = {**FACTS["heartbeat"], "free-ram": "64"}
    assert beat(100.0 + MEMORY_FRESH_S - 0.01) == "128"
    assert beat(100.0 + MEMORY_FRESH_S) == "64"
    del guest.reports.facts["heartbeat"]
    assert [beat(200.0), beat(300.0)] == ["64", "64"]
    assert caplog.messages == ["cannot be told: heartbeat: gone"]


def test_a_heart_beats_though_nobody_knows_the_memory() -> None:
    guest = Guest()
    guest.said()
    del guest.reports.facts["heartbeat"]
    guest.facts.look_at_memory(0.0)
    guest.session.tick(0.0)
    assert guest.said()[0] == {"__name__": "heartbeat", "free-ram": "0", "memory-stat": {}, "apiVersion": 0}


def test_each_rate_has_its_things() -> None:
    for rate, told in {
        "active_user_seconds": [],
        "number_of_cpus_seconds": ["number-of-cpus"],
        "applications_seconds": [
            "applications",
            "containers",
            "host-name",
            "os-version",
            "network-interfaces",
            "fqdn",
            "guest-tools",
        ],
        "disks_usage_seconds": ["disks-usage"],
        "memory_stats_seconds": ["memory-stats"],
    }.items():
        guest = Guest(Rates(**{**dict.fromkeys(Rates.__dataclass_fields__, 0), rate: 7}))
        assert guest.facts.deadline == 0.0
        guest.facts.look_at_due(0.0)
        guest.settle()
        assert guest.facts.deadline == 7.0
        guest.facts.look_at_due(6.0)
        assert guest.settle() == []
        guest.facts.look_at_due(7.0)
        assert guest.settle() == told


def test_reports_have_what_is_asked_of_them() -> None:
    assert {"collect", "session_locked"} <= set(dir(Reports))
