"""``--host``: what is said when the bus cannot be reached from here. What goes over it stands in ``tests/bus``."""

import builtins
import importlib
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from sidecar.cli.bus_access import find_line
from sidecar.cli.main import main
from sidecar.errors import ConfigurationError

# oslo.messaging's own imports warn of each other, and a warning is an error in a test.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    importlib.import_module("sidecar.bus.line")

READER = '[bus]\nurl = "rabbit://reader:geheim@127.0.0.1:1/sidecar"\n'


def write(directory: Path, text: str) -> str:
    file = directory / "bus.toml"
    file.write_text(text)
    return str(file)


def test_a_file_with_nothing_else_is_enough(tmp_path: Path) -> None:
    assert find_line("beta", write(tmp_path, READER)).place == "beta (over the bus)"
    assert find_line("beta", write(tmp_path, READER.replace("url", "admin_url"))).place == "beta (over the bus)"


def test_the_variable_stands_in_for_the_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDECAR_BUS", write(tmp_path, READER))
    assert find_line("beta", None).place == "beta (over the bus)"
    with pytest.raises(ConfigurationError, match="/nonexistent"):
        find_line("beta", "/nonexistent")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "bus.url: expected"),
        ("[bus]\n", "bus.url: expected"),
        ("[bus]\nurl = 3\n", "bus.url"),
        ("[bus]\nurl = 'geheim'\n", "bus.url"),
        ("[bus]\nuri = 'x://'\n", "uri"),
        ("no toml", "not TOML"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str) -> None:
    file = write(tmp_path, text)
    assert main(["--host", "beta", "--bus", file, "list"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"sidecarctl: {file}: ")
    assert words in err
    assert "geheim" not in err


@pytest.mark.parametrize(
    ("text", "command", "key"),
    [
        (READER, ["renegotiate", "vm1"], "bus.admin_url"),
        (READER, ["fleet", "forget", "gamma"], "bus.admin_url"),
        (READER.replace("url", "admin_url"), ["list"], "bus.url"),
        (READER.replace("url", "admin_url"), ["doctor"], "bus.url"),
    ],
)
def test_the_url_that_is_needed_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, command: list[str], key: str
) -> None:
    assert main(["--host", "beta", "--bus", write(tmp_path, text), *command]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert f"{key}: expected" in err


def test_without_the_extra(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("oslo"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest, **more)

    for name in [name for name in sys.modules if name.startswith("sidecar.bus.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refuse)
    assert main(["--host", "beta", "--bus", write(tmp_path, READER), "list"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "needs libvirt-sidecar[bus]" in err
