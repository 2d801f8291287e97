"""What is written into the hook, read back by the shells that will read it."""

import shutil
import subprocess
from dataclasses import asdict, replace

import pytest

from sidecar.adapters.hook_file import HookPaths, render_hook

DEFAULTS = HookPaths("/run/sidecar/spool", "", "/run/sidecar/host.json", "/etc/sidecar/sidecar.toml")
PATHS = ["/run/sidecar/spool", "/a'b", "/a''$(id)`id`\"\\", "/-n", "/a b", "/ä😀", "", "\\1\\g<0>", "spool='/x'"]


@pytest.mark.parametrize("name", ["spool", "helper", "offer", "configuration"])
@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_quoted_for_the_shell(name: str, path: str) -> None:
    text = render_hook(replace(DEFAULTS, **{name: path})).decode()
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name}=")]
    for shell in filter(shutil.which, ("dash", "bash", "busybox")):
        command = [shell, *(["sh"] if shell == "busybox" else []), "-c", f'{line}; printf %s "${name}"']
        assert subprocess.run(command, capture_output=True, check=True).stdout == path.encode()


def test_the_packaged_hook_names_the_defaults() -> None:
    text = render_hook(DEFAULTS)
    for name, path in asdict(DEFAULTS).items():
        assert f"\n{name}='{path}'\n".encode() in text


def test_nothing_but_the_paths_differs() -> None:
    text = render_hook(HookPaths("/a", "/b", "/c", "/d"))
    for path in ("/run/sidecar", "/etc/sidecar"):
        assert path.encode() not in text
    lines = zip(text.splitlines(), render_hook(DEFAULTS).splitlines(), strict=True)
    assert sum(one != other for one, other in lines) == 4
