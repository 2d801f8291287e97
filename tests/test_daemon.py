import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar import __version__
from sidecar.api.versions import API_VERSION
from sidecar.api.views import DialectOffer
from sidecar.config import Configuration, parse_configuration
from sidecar.daemon import describe_offer, lock_instance, main, read_settings
from sidecar.engine.ports import HostIdentity
from sidecar.protocol.tools import Source, ToolsVersion

SIDECARD = Path(sys.executable).with_name("sidecard")


def write(directory: Path, text: str) -> Path:
    file = directory / "sidecar.toml"
    file.write_text(text)
    return file


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"sidecard {__version__}\n"


def test_check_config_accepts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check-config", "--config", str(write(tmp_path, "[upgrade_levels]\novirt = 2\n"))]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[ovirt]\nchanels = []\n", "ovirt.chanels: unknown key"),
        ("[upgrade_levels]\novirt = 'mitaka'\n", "upgrade_levels.ovirt: expected a version from 0 to 4"),
        ("[ovirt]\nabsent_seconds = 'soon'\n", "ovirt.absent_seconds: expected `float`"),
        ("nonsense", "not TOML"),
    ],
)
@pytest.mark.parametrize("check", [["--check-config"], []])
def test_bad_configuration_is_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str, check: list[str]
) -> None:
    file = write(tmp_path, text)
    assert main([*check, "--config", str(file)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"sidecard: {file}: ")
    assert words in err
    assert err.count("\n") == 1


def test_missing_file_is_an_error_only_when_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check-config", "--config", str(tmp_path / "none.toml")]) == 2
    assert "no such file" in capsys.readouterr().err


def test_settings_of_the_guests_tools() -> None:
    text = b"[tools]\nread_guest_file = true\ncurrent = {guest-tools = '1.4.0-12'}\n"
    settings = read_settings(parse_configuration(text, "FILE"))
    assert settings.read_guest_file
    assert settings.tools_current == {Source.GUEST_TOOLS: ToolsVersion(1, 4, 0, 12)}
    default = read_settings(Configuration())
    assert (default.read_guest_file, default.tools_current) == (False, {})


def test_settings_and_offer_follow_the_cap() -> None:
    text = b"[upgrade_levels]\novirt = 'ovirt-3.6'\nqga = 'debian-12'\n[ovirt]\nabsent_seconds = 7\n"
    configuration = parse_configuration(text, "FILE")
    settings = read_settings(configuration)
    assert (settings.ovirt_maximum, settings.responsive_s, settings.absent_s) == (2, 120, 7)
    offer = describe_offer(configuration, HostIdentity("beta", "5c0f"))
    assert (offer.hostname, offer.host_uuid, offer.bridge) == ("beta", "5c0f", str(API_VERSION))
    assert offer.dialects == {"ovirt": DialectOffer(2, "ovirt-3.6"), "qga": DialectOffer("7.2", "debian-12")}
    assert (str(settings.qga_maximum), settings.qga_absent_s) == ("7.2", 120)
    assert settings.qga_channels == {"org.qemu.guest_agent.0"}
    assert not settings.qga_direct_channels


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stops_cleanly_without_libvirt(tmp_path: Path, number: signal.Signals) -> None:
    socket = tmp_path / "no-libvirt"
    uri = f"qemu+unix:///system?socket={socket}"
    text = f"[libvirt]\nuri = '{uri}'\n[paths]\nspool = '{tmp_path}/spool'\nstate = '{tmp_path}'\n"
    command = [str(SIDECARD), "--config", str(write(tmp_path, text))]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "NOTIFY_SOCKET": ""}
    ) as daemon:
        assert daemon.stderr is not None
        lines = []
        for line in daemon.stderr:
            lines.append(line)
            if "cannot connect to libvirt" in line:
                daemon.send_signal(number)
        assert daemon.wait(10) == 0
    assert any("oVirt API up to 4" in line for line in lines)
    assert not any("Traceback" in line for line in lines)
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700


def test_a_second_daemon_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, f"[paths]\nspool = '{tmp_path}/spool'\nstate = '{tmp_path}'\n")
    lock = lock_instance(tmp_path)
    try:
        assert main(["--config", str(file)]) == 1
    finally:
        os.close(lock)
    assert capsys.readouterr().err.splitlines()[-1].endswith("sidecard.lock: another sidecard runs already")
    os.close(lock_instance(tmp_path))
