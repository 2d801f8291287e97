import json
from pathlib import Path

import pytest

from sidecar.adapters.offer_file import write_offer


def test_is_readable_by_all_and_replaced_as_a_whole(tmp_path: Path) -> None:
    directory = tmp_path / "run" / "sidecar"
    write_offer(directory, {"hostname": "alpha"})
    before = (directory / "host.json").stat().st_ino
    write_offer(directory, {"hostname": "beta"})
    file = directory / "host.json"
    assert json.loads(file.read_text()) == {"hostname": "beta"}
    assert file.stat().st_mode & 0o777 == 0o644
    assert file.stat().st_ino != before
    assert [entry.name for entry in directory.iterdir()] == ["host.json"]


def test_failure_leaves_what_was_there(tmp_path: Path) -> None:
    write_offer(tmp_path, {"hostname": "alpha"})
    (tmp_path / ".host.json.new").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_offer(tmp_path, {"hostname": "beta"})
    assert json.loads((tmp_path / "host.json").read_text()) == {"hostname": "alpha"}
