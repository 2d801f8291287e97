"""The fleet's parts, wired: when there is a process for the bus, and who hears what comes from it."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from sidecar.adapters.bus_link import Beginning, BusEars
from sidecar.api.link import BusStatus
from sidecar.api.versions import API_VERSION
from sidecar.config import Configuration, parse_configuration
from sidecar.engine.doctor import Examination
from sidecar.membership import Membership
from tests.bindings.fake_operations import HOST, FakeOperations
from tests.engine.lone_bridge import OFFER
from tests.engine.lone_host import LoneHost

URL = "rabbit://beta:secret@broker/"
LESS = {**asdict(OFFER), "hostname": "alpha", "host_uuid": "5c0f0000-0000-4000-8000-00000000000a"}
LESS["dialects"] = {
    "ovirt": {"maximum": 2, "cap": "max", "supported": 2},
    "qga": {"maximum": "10.0", "cap": "max", "supported": "10.0"},
}


class FakeProcess:
    """What a `BusProcess` is told."""

    def __init__(self, *_: object) -> None:
        self.pid = 4711
        self.beginnings: list[Beginning | None] = []
        self.announced: list[Mapping[str, Any]] = []
        self.silent: list[Mapping[str, Any]] = []
        self.connected = False
        self.ears: BusEars | None = None

    @property
    def configured(self) -> bool:
        return self.beginning is not None

    def begin(self, beginning: Beginning | None) -> None:
        self.beginnings.append(beginning)

    def announce(self, offer: Mapping[str, Any], *, silently: bool = False) -> None:
        (self.silent if silently else self.announced).append(offer)

    async def run(self, ears: BusEars) -> None:
        self.ears = ears
        await asyncio.Event().wait()

    @property
    def beginning(self) -> Beginning | None:
        return self.beginnings[-1] if self.beginnings else None


class Rig:
    """`membership` is what is tested; `applied` counts the times that caps were to be taken."""

    def __init__(self, configuration: Configuration, monkeypatch: pytest.MonkeyPatch) -> None:
        self.process = FakeProcess()
        monkeypatch.setattr("sidecar.membership.BusProcess", lambda *_: self.process)
        self.surroundings = LoneHost().surroundings
        self.applied = 0
        self.operations = FakeOperations()
        self.membership = Membership(configuration, self.surroundings, lambda: OFFER, self._apply)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[BusEars]:
        running = asyncio.create_task(self.membership.run(self.operations.bridge()))
        while self.process.ears is None:  # noqa: ASYNC110 # nobody tells us
            await asyncio.sleep(0)
        try:
            yield self.process.ears
        finally:
            running.cancel()
            await asyncio.wait([running])
        assert running.cancelled()

    def _apply(self) -> None:
        self.applied += 1


def configure(directory: Path, *, url: str | None = URL, more: str = "") -> Configuration:
    bus = "" if url is None else f"url = '{url}'\n"
    return parse_configuration(f"[bus]\n{bus}directory = '{directory}/bus'\n{more}".encode(), "FILE")


async def test_without_a_bus_there_is_no_process_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(configure(tmp_path, url=None, more="[upgrade_levels]\novirt = 'auto'\n"), monkeypatch)
    async with rig.running():
        rig.membership.announce(OFFER)
    assert set(rig.process.beginnings) == {None}
    assert os.listdir(tmp_path) == []
    assert rig.membership.fleet.caps.ovirt == 4
    assert rig.membership.examine() == Examination()


async def test_there_is_one_as_soon_as_the_host_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(configure(tmp_path, more="[log]\nlevel = 'debug'\n"), monkeypatch)
    async with rig.running():
        assert rig.process.beginning is None
        rig.membership.announce(OFFER)
        assert rig.process.announced == [asdict(OFFER)]
        beginning = rig.process.beginning
        assert beginning is not None
        assert (beginning.hostname, beginning.version, beginning.log_level) == ("beta", str(API_VERSION), "debug")
        assert json.loads(json.dumps(beginning.section)) == {
            "url": URL,
            "admin": False,
            "admin_url": None,
            "directory": f"{tmp_path}/bus",
            "outbox_events": 100_000,
            "notification_topics": ["notifications"],
            "oslo_messaging_rabbit": {},
        }


async def test_another_configuration_or_name_is_another_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(configure(tmp_path), monkeypatch)
    async with rig.running():
        rig.membership.announce(OFFER)
        first = rig.process.beginning
        rig.membership.reconfigure(configure(tmp_path, more="[ovirt]\nabsent_seconds = 7\n"))
        rig.membership.announce(OFFER)
        assert rig.process.beginning == first
        assert rig.process.announced == [asdict(OFFER)]
        rig.membership.reconfigure(configure(tmp_path, url="rabbit://other/"))
        second = rig.process.beginning
        assert second is not None
        assert second.section["url"] == "rabbit://other/"
        rig.membership.announce(replace(OFFER, hostname="gamma"))
        assert rig.process.beginning == replace(second, hostname="gamma")
        rig.membership.reconfigure(configure(tmp_path, url=None))
        assert rig.process.beginning is None
        rig.membership.reconfigure(configure(tmp_path))
        assert rig.process.beginning == replace(first, hostname="gamma") if first else False


async def test_what_the_fleet_caps_a_host_to_is_for_who_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(configure(tmp_path), monkeypatch)
    capped = {**OFFER.dialects, "ovirt": replace(OFFER.dialects["ovirt"], maximum=1)}
    async with rig.running():
        for view in (OFFER, OFFER, replace(OFFER, dialects=capped), replace(OFFER, dialects=capped)):
            rig.membership.announce(view)
        assert rig.process.announced == [asdict(OFFER)]
        assert rig.process.silent == [asdict(replace(OFFER, dialects=capped))]
        rig.membership.announce(replace(OFFER, dialects=capped, daemon="9"))
        assert len(rig.process.announced) == 2


async def test_the_directory_is_the_one_of_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(configure(tmp_path), monkeypatch)
    async with rig.running():
        rig.membership.announce(OFFER)
        first = rig.process.beginning
        rig.membership.reconfigure(configure(tmp_path))
        assert caplog.text == ""
        rig.membership.reconfigure(configure(tmp_path / "other"))
        assert rig.process.beginning == first
        (line,) = [record.getMessage() for record in caplog.records if record.name == "sidecar.membership"]
        assert "bus.directory: " in line
        assert "needs a restart" in line
        rig.membership.reconfigure(configure(tmp_path / "other", url="rabbit://other/"))
        assert rig.process.beginning is not None
        assert rig.process.beginning.section["directory"] == f"{tmp_path}/bus"


async def test_another_level_of_the_log_is_told_and_no_other_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(configure(tmp_path), monkeypatch)
    async with rig.running():
        rig.membership.announce(OFFER)
        first = rig.process.beginning
        rig.membership.reconfigure(configure(tmp_path, more="[log]\nlevel = 'debug'\n"))
        assert rig.process.beginning == first
        assert rig.process.beginning is not None
        assert rig.process.beginning.log_level == "debug"


async def test_what_comes_from_the_bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(configure(tmp_path, more="[upgrade_levels]\novirt = 'auto'\n"), monkeypatch)
    fleet = rig.membership.fleet
    async with rig.running() as ears:
        rig.membership.announce(OFFER)
        ears.status(BusStatus(connected=True))
        ears.seen(LESS)
        assert (fleet.caps.ovirt, rig.applied) == (2, 1)
        ears.forgotten("alpha")
        assert list(fleet.known.hosts) == []
        document = await ears.call("host", {}, "1.0")
        assert document == {**asdict(HOST), "dialects": document["dialects"]}
    assert [name for name, _ in rig.operations.calls] == ["host"]


async def test_who_was_known_counts_after_a_restart_while_there_is_a_bus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auto = "[upgrade_levels]\novirt = 'auto'\n"
    rig = Rig(configure(tmp_path, more=auto), monkeypatch)
    async with rig.running() as ears:
        rig.membership.announce(OFFER)
        ears.seen(LESS)
    assert Rig(configure(tmp_path, more=auto), monkeypatch).membership.fleet.caps.ovirt == 2
    lone = Rig(configure(tmp_path, url=None, more=auto), monkeypatch)
    assert lone.membership.fleet.caps.ovirt == 4
    lone.membership.reconfigure(configure(tmp_path, more=auto))
    assert lone.membership.fleet.caps.ovirt == 2


async def test_other_levels_are_the_fleets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(configure(tmp_path), monkeypatch)
    async with rig.running() as ears:
        ears.seen(LESS)
        assert rig.membership.fleet.caps.ovirt == 4
        rig.membership.reconfigure(configure(tmp_path, more="[upgrade_levels]\novirt = 'auto'\n"))
        assert rig.membership.fleet.caps.ovirt == 2


async def test_the_doctor_is_told_of_the_bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(configure(tmp_path), monkeypatch)
    assert [finding.code for finding in rig.membership.examine().findings] == ["bus-disconnected"]
    rig.surroundings.tally.bus_connected = True
    assert rig.membership.examine().findings == ()
