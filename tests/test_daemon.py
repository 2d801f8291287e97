import asyncio
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from sidecar import __version__
from sidecar.api.versions import API_VERSION
from sidecar.api.views import DialectOffer
from sidecar.config import Configuration, parse_configuration
from sidecar.daemon import Daemon, describe_offer, lock_instance, main, read_settings
from sidecar.engine.ports import HostIdentity
from sidecar.engine.settings import Caps
from sidecar.protocol.releases import Release
from sidecar.protocol.tools import Source, ToolsVersion

BETA = HostIdentity("beta", "5c0f0000-0000-4000-8000-00000000000b")

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
    settings = read_settings(parse_configuration(text, "FILE"), Caps())
    assert settings.read_guest_file
    assert settings.tools_current == {Source.GUEST_TOOLS: ToolsVersion(1, 4, 0, 12)}
    default = read_settings(Configuration(), Caps())
    assert (default.read_guest_file, default.tools_current) == (False, {})


def test_settings_and_offer_follow_the_cap() -> None:
    text = b"[upgrade_levels]\novirt = 'ovirt-3.6'\nqga = 'debian-12'\n[ovirt]\nabsent_seconds = 7\n"
    configuration = parse_configuration(text, "FILE")
    settings = read_settings(configuration, Caps())
    assert (settings.ovirt_maximum, settings.responsive_s, settings.absent_s) == (2, 120, 7)
    offer = describe_offer(configuration, BETA, Caps())
    assert (offer.hostname, offer.host_uuid, offer.bridge) == ("beta", BETA.uuid, str(API_VERSION))
    assert offer.dialects == {
        "ovirt": DialectOffer(2, "ovirt-3.6", 2),
        "qga": DialectOffer("7.2", "debian-12", "7.2"),
    }
    assert (str(settings.qga_maximum), settings.qga_absent_s) == ("7.2", 120)
    assert settings.qga_channels == {"org.qemu.guest_agent.0"}
    assert not settings.qga_direct_channels


def test_settings_and_offer_follow_the_fleet() -> None:
    configuration = parse_configuration(b"[upgrade_levels]\novirt = 'auto'\nqga = '7.2'\n", "FILE")
    caps = Caps(3, Release.parse("8.0"))
    settings = read_settings(configuration, caps)
    assert (settings.ovirt_maximum, str(settings.qga_maximum)) == (3, "7.2")
    assert describe_offer(configuration, BETA, caps).dialects == {
        "ovirt": DialectOffer(3, "auto", 4),
        "qga": DialectOffer("7.2", "7.2", "7.2"),
    }


async def test_a_host_with_less_lowers_what_is_offered(tmp_path: Path) -> None:
    text = f"[upgrade_levels]\novirt = 'auto'\n[paths]\nstate = '{tmp_path}'\nspool = '{tmp_path}/spool'\n"
    text += f"[bus]\nurl = 'rabbit://nobody/'\ndirectory = '{tmp_path}/bus'\n"
    daemon = Daemon(parse_configuration(text.encode(), "FILE"), None)
    daemon._identity = BETA
    daemon._publish_offer()
    assert read_dialects(tmp_path)["ovirt"] == {"maximum": 4, "cap": "auto", "supported": 4}
    there = {**asdict(describe_offer(Configuration(), BETA, Caps())), "hostname": "alpha"}
    there["dialects"] = {**there["dialects"], "ovirt": {"maximum": 2, "cap": "max", "supported": 2}}
    daemon._membership.fleet.receive_offer(there)
    assert read_dialects(tmp_path)["ovirt"] == {"maximum": 2, "cap": "auto", "supported": 4}
    assert daemon._surroundings.settings.ovirt_maximum == 2
    assert b'sidecar_host_maximum_info{dialect="ovirt",version="2"} 1.0' in await asyncio.to_thread(
        daemon.metrics.render
    )
    assert b"sidecar_fleet_hosts 2.0" in await asyncio.to_thread(daemon.metrics.render)


def read_dialects(directory: Path) -> dict[str, object]:
    dialects: dict[str, object] = json.loads((directory / "host.json").read_text())["dialects"]
    return dialects


def test_the_daemon_imports_nothing_of_the_bus() -> None:
    """Without a bus, and with one: another process does."""
    text = "import sys, sidecar.daemon; print(*(name for name in sys.modules if name.startswith(PREFIXES)))"
    prefixes = ("sidecar.bus", "oslo", "kombu", "amqp", "eventlet", "greenlet")
    command = [sys.executable, "-c", text.replace("PREFIXES", repr(prefixes))]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "\n"


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
