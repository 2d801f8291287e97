import asyncio
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sidecar.adapters.roster_file import RosterFile


async def save(file: RosterFile, document: Mapping[str, Any]) -> None:
    await file.save(lambda: document)


def test_nothing_was_saved(tmp_path: Path) -> None:
    assert RosterFile(tmp_path / "none").load() is None
    assert not (tmp_path / "none").exists()


async def test_is_for_root_alone_and_replaced_as_a_whole(tmp_path: Path) -> None:
    directory = tmp_path / "lib" / "sidecar"
    file = RosterFile(directory)
    umask = os.umask(0)
    try:
        await save(file, {"hosts": [1]})
        before = (directory / "fleet.json").stat().st_ino
        await save(file, {"hosts": [2]})
    finally:
        os.umask(umask)
    assert file.load() == {"hosts": [2]}
    assert (directory / "fleet.json").stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "fleet.json").stat().st_ino != before
    assert [entry.name for entry in directory.iterdir()] == ["fleet.json"]


async def test_what_a_crash_left_behind_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / ".fleet.json.new").write_text("{")
    (tmp_path / ".fleet.json.new").chmod(0o644)
    file = RosterFile(tmp_path)
    await save(file, {})
    assert file.load() == {}
    assert (tmp_path / "fleet.json").stat().st_mode & 0o777 == 0o600


async def test_failure_leaves_what_was_there(tmp_path: Path) -> None:
    file = RosterFile(tmp_path)
    await save(file, {"hosts": []})
    (tmp_path / ".fleet.json.new").mkdir()
    with pytest.raises(OSError, match="directory"):
        await save(file, {"hosts": [1]})
    assert file.load() == {"hosts": []}
    (tmp_path / ".fleet.json.new").rmdir()
    await save(file, {"hosts": [2]})
    assert file.load() == {"hosts": [2]}


@pytest.mark.parametrize("text", ["", "{", "\ufffd", "[" * 100_000])
def test_what_is_no_json(text: str, tmp_path: Path) -> None:
    (tmp_path / "fleet.json").write_text(text)
    with pytest.raises(ValueError, match=r"."):
        RosterFile(tmp_path).load()


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "fleet.json").write_bytes(b'"\xff"')
    with pytest.raises(ValueError, match=r"."):
        RosterFile(tmp_path).load()


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    with (tmp_path / "fleet.json").open("wb") as stream:
        stream.truncate(64 * 1024 * 1024)
    with pytest.raises(ValueError, match="over 33554432 bytes"):
        RosterFile(tmp_path).load()


def test_a_place_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "fleet.json").mkdir()
    with pytest.raises(IsADirectoryError):
        RosterFile(tmp_path).load()


async def test_whoever_is_cancelled_is_overtaken_by_nobody(tmp_path: Path) -> None:
    file, begun, free = RosterFile(tmp_path), threading.Event(), threading.Event()

    def render() -> Mapping[str, Any]:
        begun.set()
        assert free.wait(10)
        return {"number": 1}

    first = asyncio.create_task(file.save(render))
    assert await asyncio.to_thread(begun.wait, 10)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await save(file, {"number": 2})
    free.set()
    await asyncio.get_running_loop().shutdown_default_executor()  # the thread that was left behind has had its turn
    assert json.loads((tmp_path / "fleet.json").read_text()) == {"number": 2}


async def test_a_fault_in_what_is_rendered_writes_nothing(tmp_path: Path) -> None:
    file = RosterFile(tmp_path)

    def render() -> Mapping[str, Any]:
        raise RuntimeError("a fault of ours")

    with pytest.raises(RuntimeError, match="a fault of ours"):
        await file.save(render)
    assert file.load() is None
