"""``sidecarctl`` as its users meet it: a process, its exit code, one line on stderr."""

import subprocess
import sys
from pathlib import Path

import pytest

from sidecar import __version__


def run(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "sidecar.cli.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"sidecarctl {__version__}\n", "")


@pytest.mark.parametrize(
    "arguments", [(), ("hooks",), ("nothing",), ("hooks", "burn"), ("hooks", "install", "--json"), ("--vers",)]
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "sidecarctl" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_names_every_action() -> None:
    done = run("hooks", "--help")
    assert done.returncode == 0
    assert all(word in done.stdout for word in ("install", "remove", "status"))


def test_the_life_of_a_hook(tmp_path: Path) -> None:
    spool, configuration = tmp_path / "spool", tmp_path / "sidecar.toml"
    configuration.write_text(f'[paths]\nspool = "{spool}"\n')
    options = ("--hooks-dir", tmp_path / "hooks", "--config", configuration)
    assert run("hooks", "status", *options).returncode == 1
    assert run("hooks", "install", *options).returncode == 0
    assert run("hooks", "status", *options).returncode == 0
    hook = tmp_path / "hooks" / "qemu.d" / "50-sidecar"
    spool.mkdir(0o700)
    subprocess.run([hook, "vm1", "started", "begin", "-"], check=True)
    assert len(list(spool.iterdir())) == 1
    assert run("hooks", "remove", *options).returncode == 0
    assert not hook.exists()
    assert run("hooks", "remove", *options).returncode == 0


def expect_one_line(done: "subprocess.CompletedProcess[str]", code: int) -> str:
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("sidecarctl: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize("action", ["install", "remove"])
def test_another_programs_file_is_refused(tmp_path: Path, action: str) -> None:
    hook = tmp_path / "qemu.d" / "50-sidecar"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\nexit 0\n")
    line = expect_one_line(run("hooks", action, "--hooks-dir", tmp_path), 1)
    assert str(hook) in line
    assert hook.read_text() == "#!/bin/sh\nexit 0\n"


@pytest.mark.parametrize(
    "text", ["[paths]\nspool = 3\n", "[paths]\nspoool = '/x'\n", "not toml", "[paths]\nspool = '/'\n"]
)
def test_a_wrong_configuration(tmp_path: Path, text: str) -> None:
    configuration = tmp_path / "sidecar.toml"
    configuration.write_text(text)
    expect_one_line(run("hooks", "install", "--hooks-dir", tmp_path, "--config", configuration), 2)
    assert list(tmp_path.iterdir()) == [configuration]


def test_a_missing_configuration_that_was_named(tmp_path: Path) -> None:
    line = expect_one_line(run("hooks", "status", "--config", tmp_path / "evil\nname"), 2)
    assert "evil\\nname" in line


def test_an_error_of_the_system_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    line = expect_one_line(run("hooks", "install", "--hooks-dir", tmp_path / "file" / "hooks"), 1)
    assert "file" in line


def test_a_reader_that_has_gone_is_no_traceback(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "sidecar.cli.main", "hooks", "status", "--json", "--hooks-dir", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 1


def test_starts_without_the_heavy_imports() -> None:
    script = "import sys, sidecar.cli.main; import sidecar.cli.arguments as a; a.build_parser(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy = {"asyncio", "libvirt", "msgspec", "asyncinotify", "qemu", "tenacity", "logging", "shutil"}
    assert not heavy & set(done.stdout.split())


@pytest.mark.parametrize("arguments", [("list",), ("fleet",), ("preflight", "vm1", "--host", "beta"), ("doctor",)])
def test_without_a_host_nothing_of_the_bus_is_imported(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    script = "import sys, sidecar.cli.main as m; code = m.main(sys.argv[1:]); print(code, *sys.modules)"
    command = [sys.executable, "-c", script, "--socket", str(tmp_path / "none"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    code, *modules = done.stdout.split()
    assert code == "3"
    assert not [name for name in modules if name.startswith(("sidecar.bus", "oslo", "kombu", "eventlet", "threading"))]


def test_with_a_host_eventlet_is_not_imported(tmp_path: Path) -> None:
    file = tmp_path / "bus.toml"
    file.write_text('[bus]\nurl = "fake://"\n')
    script = (
        "import sys, sidecar.cli.main as m; code = m.main(sys.argv[1:]); import oslo_messaging;"
        "print(code, *(name for name, module in sys.modules.items() if module is not None))"
    )
    command = [sys.executable, "-c", script, "--host", "beta", "--bus", str(file), "renegotiate", "vm1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    code, *modules = done.stdout.split()
    assert (code, done.stderr.count("\n")) == ("2", 1)
    assert "sidecar.bus.line" in modules
    assert not [name for name in modules if name.startswith(("eventlet", "greenlet"))]


@pytest.mark.parametrize(("given", "collects"), [("", False), ("['hooks', 'status', '--hooks-dir', '/none']", True)])
def test_only_a_process_of_its_own_collects_no_garbage(given: str, collects: bool) -> None:
    script = f"import gc, sidecar.cli.main as m; m.main({given}); print(gc.isenabled(), gc.get_freeze_count())"
    command = [sys.executable, "-c", script, "hooks", "status", "--hooks-dir", "/none"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"{collects} 0"
