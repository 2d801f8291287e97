import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.libvirt_hooks.installed_hook import (
    ENVIRONMENT,
    HELPER,
    LIMIT_S,
    SHELLS,
    Run,
    Syslog,
    write_hook,
    write_program,
)

OFFER = {"dialects": {"ovirt": {"maximum": 2}, "qga": {"maximum": "10.0"}}}


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that other users can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name).resolve()


@pytest.fixture
def spool(place: Path) -> Path:
    directory = place / "spool"
    directory.mkdir(0o700)
    return directory


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> list[str]:
    """Each shell that may be /bin/sh on a libvirt host."""
    program, *options = request.param
    found = shutil.which(program)
    assert found is not None
    return [found, *options]


@pytest.fixture
def hook(shell: list[str], spool: Path) -> list[str]:
    """The hook, run by that shell."""
    return [*shell, str(write_hook(spool))]


@pytest.fixture
def syslog(place: Path, shell: list[str]) -> Syslog:
    (place / "bin").mkdir()
    write_program(place / "bin" / "logger", f'[ $# = 6 ] || exit 1\nprintf "%s\\n" "$*" >>{place}/syslog')
    return Syslog(place / "syslog", is_heard="busybox" not in shell[0])


@pytest.fixture
def run(shell: list[str], place: Path, spool: Path, syslog: Syslog) -> Run:
    """Runs the hook as libvirt does, with this XML, helper, name."""
    (place / "host.json").write_text(json.dumps(OFFER))

    def run(xml: bytes | None, helper: str = HELPER, name: str = "vm1", **settings: object) -> object:
        hook = write_hook(spool, helper)
        # The machine's own logger must not hear of this.
        hook.write_text(hook.read_text().replace("PATH=/usr/bin:/bin\n", f"PATH={place}/bin:/usr/bin:/bin\n"))
        command = [*shell, str(hook), name, "migrate", "begin", "-"]
        options: dict[str, object] = {"env": ENVIRONMENT, "input": xml, "timeout": LIMIT_S, **settings}
        prefix = options.pop("prefix", [])
        assert isinstance(prefix, list)
        return subprocess.run([*prefix, *command], capture_output=True, check=False, **options)  # type: ignore[call-overload]

    return run  # type: ignore[return-value]


@pytest.fixture
def helper(place: Path) -> Callable[[str], str]:
    """A helper of the test's own."""

    def write(text: str) -> str:
        (place / "helper.py").write_text(text)
        return str(place / "helper.py")

    return write
