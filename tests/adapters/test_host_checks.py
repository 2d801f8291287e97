"""What the doctor finds with a host's files: each fault is made, found, mended by its own advice, and gone."""

import fcntl
import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sidecar.adapters import hook_setup, host_checks
from sidecar.adapters.host_checks import (
    HookPlaces,
    check_all,
    check_daemon,
    check_hook,
    check_sockets,
    is_daemon_running,
    report_libvirt,
)
from sidecar.api.views import FindingView
from sidecar.config import ApiSection
from sidecar.engine.doctor import Examination

pytestmark = pytest.mark.thorough

SIDECARCTL = (sys.executable, "-m", "sidecar.cli.main")


@pytest.fixture
def places(tmp_path: Path) -> HookPlaces:
    """A host whose hook is installed, and whose libvirt does not run."""
    (tmp_path / "run").mkdir()
    (tmp_path / "spool").mkdir(0o700)
    configuration = tmp_path / "it is.toml"
    configuration.write_text(f'[paths]\nspool = "{tmp_path}/spool"\nstate = "{tmp_path}/state"\n')
    made = HookPlaces(tmp_path / "my hooks", configuration, tmp_path / "state", tmp_path / "run")
    follow("sidecarctl hooks install --hooks-dir {} --config {}".format(*map(shlex.quote, hook_words(made))))
    return made


def hook_words(places: HookPlaces) -> tuple[str, str]:
    return str(places.hooks_directory), str(places.configuration)


def follow(command: str) -> None:
    """Type it, with this tree's own sidecarctl."""
    text = command.replace("sidecarctl", shlex.join(SIDECARCTL), 1) if command.startswith("sidecarctl") else command
    subprocess.run(["sh", "-ec", text], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def commands(finding: FindingView) -> list[str]:
    return re.findall(r"`([^`]+)`", finding.advice)


def one(examination: Examination, code: str) -> FindingView:
    assert [finding.code for finding in examination.findings] == [code]
    (finding,) = examination.findings
    assert (finding.domain, finding.channel) == (None, None)
    return finding


def hook_file(places: HookPlaces) -> Path:
    return places.hooks_directory / "qemu.d" / "50-sidecar"


def test_a_sound_hook(places: HookPlaces) -> None:
    examination = check_hook(places)
    assert examination.findings == ()
    assert str(hook_file(places)) in examination.checked[0]


def remove(places: HookPlaces) -> None:
    hook_file(places).unlink()


def make_foreign(places: HookPlaces) -> None:
    hook_file(places).write_text("#!/bin/sh\n")


def spoil(places: HookPlaces) -> None:
    hook_file(places).write_bytes(hook_file(places).read_bytes() + b"# older\n")


def forbid(places: HookPlaces) -> None:
    hook_file(places).chmod(0o644)


@pytest.mark.parametrize(
    ("harm", "code"),
    [(remove, "hook-missing"), (make_foreign, "hook-missing"), (spoil, "hook-outdated"), (forbid, "hook-outdated")],
)
def test_the_hooks_file(places: HookPlaces, harm: Callable[[HookPlaces], None], code: str) -> None:
    harm(places)
    finding = one(check_hook(places), code)
    assert str(hook_file(places)) in finding.problem
    for command in commands(finding):
        follow(command)
    assert check_hook(places).findings == ()


def test_the_usual_places_are_not_named_in_the_command(places: HookPlaces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_checks, "HOOKS_DIRECTORY", places.hooks_directory)
    remove(places)
    found = check_hook(replace(places, configuration=None)).findings
    assert commands(found[0]) == ["sidecarctl hooks install"]


def use_link(spool: Path) -> None:
    spool.rmdir()
    spool.symlink_to("elsewhere")


def use_file(spool: Path) -> None:
    spool.rmdir()
    spool.touch()


def open_to_all(spool: Path) -> None:
    spool.chmod(0o777)


@pytest.mark.parametrize("harm", [use_link, use_file, open_to_all])
def test_the_spool(places: HookPlaces, tmp_path: Path, harm: Callable[[Path], None]) -> None:
    harm(tmp_path / "spool")
    for command in commands(one(check_hook(places), "spool-unusable")):
        follow(command)
    assert check_hook(places).findings == ()


def test_a_spool_that_sidecard_will_make(places: HookPlaces, tmp_path: Path) -> None:
    (tmp_path / "spool").rmdir()
    assert check_hook(places).findings == ()


def test_the_helper(places: HookPlaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "admit.py").write_text("raise OSError('no such luck')")
    with monkeypatch.context() as patched:
        patched.setattr(hook_setup, "HELPER", tmp_path / "admit.py")
        found = check_hook(places).findings
        assert [finding.code for finding in found] == ["hook-outdated", "helper-broken"], "it names another helper"
        assert "no such luck" in found[1].problem
        assert commands(found[1]) == ["sidecarctl hooks install", "sidecarctl hooks status"]
    assert check_hook(places).findings == ()


def test_a_broken_configuration(places: HookPlaces) -> None:
    assert places.configuration is not None
    before = places.configuration.read_text()
    places.configuration.write_text("[paths]\nspol = 1\n")
    finding = one(check_hook(places), "configuration-broken")
    assert "paths.spol: unknown key" in finding.problem
    places.configuration.write_text(before)
    assert check_hook(places).findings == ()


def test_a_password_that_everybody_can_read(places: HookPlaces) -> None:
    assert places.configuration is not None
    with places.configuration.open("a") as file:
        file.write("[bus]\nurl = 'rabbit://beta:hunter2@broker/'\n")
    finding = one(check_hook(places), "config-readable")
    follow(commands(finding)[0])
    assert check_hook(places).findings == ()


@pytest.fixture
def libvirtd(places: HookPlaces, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of that name, with its pid file, that began after the hook was installed."""
    program = tmp_path / "libvirtd"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as process:
        (places.run / "libvirtd.pid").write_text(str(process.pid))
        yield process
        process.kill()


def test_libvirt_that_is_older_than_the_hook(places: HookPlaces, libvirtd: subprocess.Popen[bytes]) -> None:
    spoil(places)
    follow(commands(one(check_hook(places), "hook-outdated"))[0])
    finding = one(check_hook(places), "hook-not-loaded")
    assert commands(finding) == [f"kill -HUP {libvirtd.pid}", "systemctl reload libvirtd"]
    assert "Nothing shows" in finding.advice
    (places.state).mkdir()
    (places.state / "hook-seen").touch()
    assert check_hook(places).findings == ()


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiSection]:
    """Both sockets, served, as sidecard makes them."""
    made = ApiSection(str(tmp_path / "api.sock"), str(tmp_path / "api ro.sock"), "no such group")
    with socket.socket(socket.AF_UNIX) as full, socket.socket(socket.AF_UNIX) as readonly:
        for listener, path, mode in ((full, made.socket, 0o660), (readonly, made.readonly_socket, 0o666)):
            listener.bind(path)
            listener.listen(1)
            os.chmod(path, mode)
        yield made


class TestSockets:
    def test_sound(self, api: ApiSection) -> None:
        for _more_than_the_queue_holds in range(5):
            assert check_sockets(api).findings == ()

    @pytest.mark.parametrize("which", ["socket", "readonly_socket"])
    @pytest.mark.parametrize("mode", [0o600, 0o777])
    def test_of_another_mode(self, api: ApiSection, which: str, mode: int) -> None:
        path = getattr(api, which)
        os.chmod(path, mode)
        finding = one(check_sockets(api), "socket-wrong-mode")
        assert f"{path} has mode {mode:04o}" in finding.problem
        follow(commands(finding)[0])
        assert check_sockets(api).findings == ()

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files to other groups")
    def test_of_another_group(self, api: ApiSection) -> None:
        os.chown(api.socket, -1, 61234)
        finding = one(check_sockets(api), "socket-wrong-mode")
        assert "group 61234" in finding.problem
        follow(commands(finding)[0])
        assert check_sockets(api).findings == ()

    @pytest.mark.parametrize("instead", ["nothing", "file", "nobody"])
    def test_missing(self, api: ApiSection, instead: str) -> None:
        os.unlink(api.readonly_socket)
        if instead == "file":
            Path(api.readonly_socket).touch()
        with socket.socket(socket.AF_UNIX) as listener:
            if instead == "nobody":
                listener.bind(api.readonly_socket)
            finding = one(check_sockets(api), "socket-missing")
        assert api.readonly_socket in finding.problem
        assert commands(finding) == ["systemctl restart sidecard"]

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
    def test_that_we_may_not_use_is_not_missing(self) -> None:
        with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
            os.chmod(directory, 0o755)
            path = f"{directory}/api.sock"
            listener.bind(path)
            listener.listen()
            os.chmod(path, 0o600)
            os.seteuid(65534)
            try:
                examination = check_sockets(ApiSection(path, path, "no such group"))
            finally:
                os.seteuid(0)
        assert {finding.code for finding in examination.findings} == {"socket-wrong-mode"}

    def test_all_at_once(self, places: HookPlaces, api: ApiSection) -> None:
        remove(places)
        os.unlink(api.socket)
        examination = check_all(places, api)
        assert [finding.code for finding in examination.findings] == ["hook-missing", "socket-missing"]
        assert f"socket {api.socket}" in examination.checked


class TestDaemon:
    def test_that_never_ran(self, tmp_path: Path) -> None:
        finding = check_daemon(tmp_path)
        assert finding is not None
        assert (finding.code, commands(finding)[0]) == ("daemon-down", "systemctl start sidecard")

    def test_that_holds_its_lock_until_it_ends(self, tmp_path: Path) -> None:
        with (tmp_path / "sidecard.lock").open("w") as lock:
            assert not is_daemon_running(tmp_path)
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert is_daemon_running(tmp_path)
            assert check_daemon(tmp_path) is None
        assert not is_daemon_running(tmp_path)

    @pytest.mark.parametrize(
        ("line", "runs"),
        [
            ("1: FLOCK  ADVISORY  WRITE 62 00:19:{} 0 EOF", True),
            ("1: POSIX  ADVISORY  WRITE 62 00:19:{} 0 EOF", False),
            ("1: -> FLOCK  ADVISORY  WRITE 62 00:19:{} 0 EOF", False),
            ("1: FLOCK  ADVISORY  WRITE 62 00:19:1{} 0 EOF", False),
            ("nonsense", False),
        ],
    )
    def test_by_the_kernels_table(self, tmp_path: Path, line: str, runs: bool) -> None:
        (tmp_path / "sidecard.lock").touch()
        (tmp_path / "locks").write_text(line.format((tmp_path / "sidecard.lock").stat().st_ino) + "\n")
        assert is_daemon_running(tmp_path, tmp_path) is runs


def test_no_libvirt() -> None:
    finding = one(report_libvirt("qemu:///system", "refused"), "libvirt-unavailable")
    assert "qemu:///system" in finding.problem
    assert commands(finding)[0] == "systemctl start libvirtd"
