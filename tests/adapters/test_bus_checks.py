"""What the doctor says of the bus, and of its password; each advice mends what it is for."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from sidecar.adapters import bus_checks
from sidecar.adapters.bus_checks import check_passwords, report_bus
from sidecar.engine.tally import Tally
from sidecar.errors import ConfigurationError

SECRET = "rabbit://beta:hunter2@broker:5671/sidecar"


def write(directory: Path, text: str, mode: int = 0o644) -> Path:
    file = directory / "it is.toml"
    file.write_text(text)
    file.chmod(mode)
    return file


def test_a_bus_that_does_well() -> None:
    examination = report_bus(Tally(bus_connected=True, bus_waiting=3, bus_notified=7))
    assert (examination.checked, examination.findings) == (("message bus",), ())


def test_a_bus_that_is_away() -> None:
    (finding,) = report_bus(Tally(bus_waiting=3)).findings
    assert (finding.code, finding.domain, finding.channel) == ("bus-disconnected", None, None)
    assert "3 events wait" in finding.problem


def test_events_that_were_lost() -> None:
    (finding,) = report_bus(Tally(bus_connected=True, bus_dropped=12)).findings
    assert finding.code == "bus-dropped"
    assert finding.problem.startswith("12 events ")
    assert "outbox_events" in finding.problem


@pytest.mark.parametrize(
    ("key", "url"),
    [
        ("url", SECRET),
        ("url", "rabbit://a:1@one:5672,b:hunter2@two:5672/x"),
        ("url", "rabbit://one:5672,b:hunter2@two:5672/x"),
        ("url", "rabbit://:hunter2@one"),
        ("admin_url", SECRET),
    ],
)
def test_a_password_that_everybody_can_read(tmp_path: Path, key: str, url: str) -> None:
    other = "" if key == "url" else 'url = "rabbit://reader@broker/"\n'
    file = write(tmp_path, f'[bus]\n{other}{key} = "{url}"\n')
    finding = check_passwords(file)
    assert finding is not None
    assert finding.code == "config-readable"
    assert str(file) in finding.problem
    assert "hunter2" not in finding.problem + finding.advice
    (command,) = re.findall(r"`([^`]+)`", finding.advice)
    assert shlex.split(command)[-1] == str(file)
    subprocess.run(["sh", "-ec", command], check=True)
    assert check_passwords(file) is None


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("", 0o644),
        (f'[bus]\nurl = "{SECRET}"\n', 0o640),
        (f'[bus]\nurl = "{SECRET}"\n', 0o600),
        ('[bus]\nurl = "rabbit://broker:5671/sidecar"\n', 0o644),
        ('[bus]\nurl = "rabbit://one:5671,two:5671/"\n', 0o644),
        ('[bus]\nurl = "rabbit://beta@broker:5671/"\n', 0o644),
    ],
)
def test_nothing_to_hide_or_hidden(tmp_path: Path, text: str, mode: int) -> None:
    assert check_passwords(write(tmp_path, text, mode)) is None


def test_no_file_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.config.DEFAULT_PATH", tmp_path / "none")
    monkeypatch.setattr(bus_checks, "DEFAULT_PATH", tmp_path / "none")
    assert check_passwords(None) is None


def test_a_wrong_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        check_passwords(write(tmp_path, "nonsense"))
