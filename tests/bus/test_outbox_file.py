"""The outbox's file: whose it is, and what becomes of one that is broken."""

import contextlib
import logging
import os
import sqlite3
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from sidecar.bus import outbox as outbox_module
from sidecar.bus.outbox_file import OutboxFile
from tests.bus.outbox_rig import drain, make_event, open_outbox


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "outbox.db"


def test_file_and_directory_are_ours_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        outbox = open_outbox(path)
        outbox.append(make_event(1))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes.pop("outbox.db") == 0o600
    assert set(modes.values()) <= {0o600}


def test_a_mode_that_was_opened_is_mended(path: Path) -> None:
    open_outbox(path).close()
    path.chmod(0o644)
    open_outbox(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_directory_that_exists_is_left_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    open_outbox(tmp_path / "outbox.db")
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_second_process_finds_it_taken(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "_FIRST_WAIT_S", 0.05)
    first = open_outbox(path)
    first.append(make_event(1))
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        OutboxFile(path)
    second = open_outbox(path)
    second.append(make_event(2))
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    first.close()
    assert drain(second) == [make_event(1), make_event(2)]
    assert not list(path.parent.glob("*broken*"))


def test_a_process_that_is_on_its_way_out_is_waited_for(path: Path) -> None:
    first = open_outbox(path)
    first.append(make_event(1))
    end = threading.Timer(0.2, first.close)
    end.start()
    assert open_outbox(path).last_id == "e-1"
    end.join()


def test_room_goes_back_to_the_file_system(path: Path) -> None:
    outbox = open_outbox(path, limit=10_000)
    for number in range(4000):
        outbox.append({**make_event(number), "filler": "x" * 500})
    outbox.close()
    full = path.stat().st_size
    again = open_outbox(path, limit=10_000)
    assert len(drain(again)) == 4000
    again.close()
    assert full > 2_000_000
    assert path.stat().st_size < 100_000


# A file that is broken.


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _overwrite(path: Path) -> None:
    path.write_bytes(b"no database at all\n" * 1000)


def _scribble(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)


def _replace(path: Path) -> None:
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE other (value)")


def _take_table(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("DROP TABLE events")


def _take_tally(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("DELETE FROM tally")


def _make_later(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 2")


@pytest.mark.parametrize(
    "spoil", [_truncate, _empty, _overwrite, _scribble, _replace, _take_table, _take_tally, _make_later]
)
def test_a_broken_file_is_set_aside_and_told(path: Path, spoil: Any, caplog: pytest.LogCaptureFixture) -> None:
    outbox = open_outbox(path)
    for number in range(50):
        outbox.append({**make_event(number), "secret": "x" * 500})
    outbox.close()
    spoil(path)
    size = path.stat().st_size
    again = open_outbox(path)
    aside = path.with_name("outbox.db.broken-1")
    assert aside.stat().st_size == size
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (again.last_id, again.waiting) == (None, 1)
    again.append(make_event(1))
    told, event = drain(again)
    assert event == make_event(1)
    assert (told["type"], told["what"], told["set_aside"]) == ("daemon", "outbox-broken", aside.name)
    assert told["time"] == "2026-11-21T07:31:38.440Z"
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "xxx" not in caplog.text
    again.close()
    assert open_outbox(path).last_id == "e-1"


@pytest.mark.parametrize("spoil", [_overwrite, _replace, _make_later])
def test_what_is_not_ours_is_not_changed(path: Path, spoil: Any) -> None:
    open_outbox(path).close()
    spoil(path)
    before = path.read_bytes()
    open_outbox(path)
    assert path.with_name("outbox.db.broken-1").read_bytes() == before


def test_so_many_are_set_aside_and_no_more(path: Path) -> None:
    for number in range(12):
        open_outbox(path).close()
        path.write_text(f"broken {number}")
    open_outbox(path).close()
    names = sorted(file.name for file in path.parent.iterdir())
    assert names == ["outbox.db", *(f"outbox.db.broken-{number}" for number in range(1, 10))]
    assert (path.parent / "outbox.db.broken-9").read_text() == "broken 11"
