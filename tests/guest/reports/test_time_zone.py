from pathlib import Path

import pytest

from sidecar.guest.reports.time_zone import report_timezone
from tests.guest.reports.guest_tree import plant

DATABASE = Path("/usr/share/zoneinfo")


def link(root: Path, target: str) -> None:
    """Like a guest's /etc/localtime, with the zones of this machine."""
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/localtime").symlink_to(target)


@pytest.mark.parametrize(
    ("zone", "minutes"),
    [
        ("Europe/Berlin", 60),  # no daylight saving in it, at any time of the year
        ("America/New_York", -300),
        ("Australia/Sydney", 600),  # summer is in January there
        ("Asia/Kolkata", 330),
        ("America/Argentina/Buenos_Aires", -180),
        ("Etc/UTC", 0),
    ],
)
@pytest.mark.parametrize("copy", ["", "posix/"])
def test_link_names_the_zone(zone: str, minutes: int, copy: str, tmp_path: Path) -> None:
    plant(tmp_path, {f"usr/share/zoneinfo/{copy}{zone}": (DATABASE / zone).read_bytes()})
    link(tmp_path, str(tmp_path / f"usr/share/zoneinfo/{copy}{zone}"))
    assert report_timezone(tmp_path) == {"zone": zone, "offset": minutes}


def test_link_counts_more_than_the_note(tmp_path: Path) -> None:
    plant(tmp_path, {"etc/timezone": "Europe/Paris\n"})
    link(tmp_path, str(DATABASE / "Asia/Tokyo"))
    assert report_timezone(tmp_path) == {"zone": "Asia/Tokyo", "offset": 540}


@pytest.mark.parametrize(("note", "zone"), [("Europe/Berlin\n", "Europe/Berlin"), (b"\xff\x00x\n", "\ufffd\ufffdx")])
def test_note_names_the_zone_of_a_copy(note: str | bytes, zone: str, tmp_path: Path) -> None:
    plant(tmp_path, {"etc/timezone": note, "etc/localtime": (DATABASE / "Europe/Berlin").read_bytes()})
    assert report_timezone(tmp_path) == {"zone": zone, "offset": 60}


@pytest.mark.parametrize("note", [None, "", "\n \n"])
def test_abbreviation_names_the_zone_otherwise(note: str | None, tmp_path: Path) -> None:
    plant(tmp_path, {"etc/localtime": (DATABASE / "Asia/Tokyo").read_bytes()})
    plant(tmp_path, {} if note is None else {"etc/timezone": note})
    assert report_timezone(tmp_path) == {"zone": "JST", "offset": 540}


def test_without_any_file_it_is_utc(tmp_path: Path) -> None:
    assert report_timezone(tmp_path) == {"zone": "UTC", "offset": 0}


def test_link_out_of_the_database_has_no_name(tmp_path: Path) -> None:
    plant(tmp_path, {"own": (DATABASE / "Asia/Tokyo").read_bytes()})
    link(tmp_path, "../own")
    assert report_timezone(tmp_path) == {"zone": "JST", "offset": 540}


@pytest.mark.parametrize("length", [0, 4, 43, 44, 60, 200])
def test_file_that_is_cut_short_is_an_error(length: int, tmp_path: Path) -> None:
    plant(tmp_path, {"etc/localtime": (DATABASE / "Europe/Berlin").read_bytes()[:length]})
    with pytest.raises(ValueError, match=r"."):
        report_timezone(tmp_path)


def test_garbage_is_an_error(tmp_path: Path) -> None:
    plant(tmp_path, {"etc/localtime": b"x" * 1000})
    with pytest.raises(ValueError, match="TZif"):
        report_timezone(tmp_path)
