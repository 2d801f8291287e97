import json
from pathlib import Path

import pytest

from sidecar import __version__
from sidecar.guest.reports import guest_tools
from sidecar.guest.reports.guest_tools import GuestTools
from tests.guest.reports.guest_tree import plant

LOCK = "etc/pv-drivers-not-upgradable"


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("version", "numbers"),
    [("1.4.0-12", [1, 4, 0, 12]), ("1.4", [1, 4, 0, 0]), ("1.4.2", [1, 4, 2, 0]), ("1.4-12", [1, 4, 0, 12])],
)
def test_version_that_was_configured(version: str, numbers: list[int], tmp_path: Path) -> None:
    told = GuestTools(version, tmp_path, Clock(1000.9)).report()
    assert [told[key] for key in ("major", "minor", "micro", "build")] == numbers
    assert told == told | {"installed": True, "notUpgradable": False, "updated": 1000}
    assert len(told) == 7


@pytest.mark.parametrize(
    ("version", "numbers"),
    [("0.1.0", [0, 1, 0, 0]), ("2.3.dev4+g123", [2, 3, 0, 0]), ("2.3.4rc1", [2, 3, 4, 0])],
)
def test_our_own_version(version: str, numbers: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_tools, "__version__", version)
    told = GuestTools(None, tmp_path).report()
    assert [told[key] for key in ("major", "minor", "micro", "build")] == numbers


def test_the_version_of_this_very_agent(tmp_path: Path) -> None:
    told = GuestTools(None, tmp_path).report()
    assert __version__.startswith(f"{told['major']}.{told['minor']}")


@pytest.mark.parametrize("version", ["", "1", "x", "1.2.3.4", "1.4.0-12 ", "1.99999999999", "-1.2", "1.٣"])
def test_version_that_is_none(version: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"version|number"):
        GuestTools(version, tmp_path).report()


def test_updated_grows_with_every_change_and_never_else(tmp_path: Path) -> None:
    clock = Clock(1000)
    tools = GuestTools("1.4", tmp_path, clock)
    told = [tools.report()["updated"]]

    def note(*, locked: bool) -> None:
        plant(tmp_path, {LOCK: ""}) if locked else (tmp_path / LOCK).unlink()
        assert tools.report()["notUpgradable"] is locked
        told.append(tools.report()["updated"])

    clock.now = 2000
    assert tools.report()["updated"] == 1000
    note(locked=True)
    note(locked=False)  # within the same second
    clock.now = 500  # the clock went back
    note(locked=True)
    clock.now = 3000.5
    note(locked=False)
    assert told == [1000, 2000, 2001, 2002, 3000]


def test_lock_may_be_any_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / LOCK).mkdir(parents=True)
    assert GuestTools("1.4", tmp_path).report()["notUpgradable"] is True


@pytest.mark.parametrize("now", [0.0, -5.0])
def test_guest_without_a_clock(now: float, tmp_path: Path) -> None:
    updated = GuestTools("1.4", tmp_path, Clock(now)).report()["updated"]
    assert isinstance(updated, int)
    assert updated > 0


def test_values_are_integers_and_booleans_on_the_wire(tmp_path: Path) -> None:
    line = json.dumps(GuestTools("1.4.0-12", tmp_path, Clock(7.5)).report())
    assert line == (
        '{"major": 1, "minor": 4, "micro": 0, "build": 12, "installed": true, "notUpgradable": false, "updated": 7}'
    )
