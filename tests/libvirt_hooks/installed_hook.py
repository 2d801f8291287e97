"""The hook as it is installed, in a place of the test's own, and everything that it may find there."""

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import sidecar.cli.admit
from sidecar.adapters.hook_file import HookPaths, render_hook
from sidecar.adapters.spool import parse_notice

# Somebody else, whom no process of this machine runs as.
OTHER_UID = 61234
# A hook that hangs holds the domain's lock for ever; ours takes a millisecond, or what its helper is granted.
LIMIT_S = 10
ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/bin:/bin", "HOME": "/"}
HELPER = str(Path(sidecar.cli.admit.__file__).resolve())

# Debian's /bin/sh, and those of others.
SHELLS = [
    pytest.param(shell, id=shell[0], marks=[] if shell[0] == "dash" else pytest.mark.thorough)
    for shell in (("dash",), ("busybox", "sh"), ("bash", "--posix"))
    if shutil.which(shell[0])
]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for other users and mounts")


def write_hook(spool: Path, helper: str = HELPER) -> Path:
    """The hook beside the spool; host's offer and configuration are looked for there, too."""
    place, hook = spool.parent, spool.parent / "hook"
    hook.write_bytes(render_hook(HookPaths(str(spool), helper, str(place / "host.json"), str(place / "sidecar.toml"))))
    hook.chmod(0o755)
    return hook


def read_notices(spool: Path) -> list[object]:
    return [parse_notice(file.read_bytes()) for file in sorted(spool.iterdir())]


# --- policies

POLICY = '<policy:policy xmlns:policy="urn:libvirt-sidecar:policy:1">%s</policy:policy>'
NEEDS_3 = POLICY % '<policy:require dialect="ovirt" min-version="3"/>'
NEEDS_2 = POLICY % '<policy:require dialect="ovirt" min-version="2"/>'

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


def domain(metadata: str, filling: str = "") -> bytes:
    return f"<domain type='kvm'><metadata>{metadata}</metadata><devices>{filling}</devices></domain>\n".encode()


@dataclass
class Syslog:
    """What a logger of the test's own was given; busybox brings programs of its own, its logger among them."""

    path: Path
    is_heard: bool

    @property
    def lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []


def write_program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def expect_refusal(done: "subprocess.CompletedProcess[bytes]", *words: str) -> str:
    assert (done.returncode, done.stdout) == (1, b"")
    (line,) = done.stderr.decode("ascii").splitlines()
    assert line.isprintable()
    assert len(line) <= 4200
    for word in ("libvirt-sidecar: ", *words):
        assert word in line
    return line


def expect_admission(done: "subprocess.CompletedProcess[bytes]") -> None:
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def expect_fault(done: "subprocess.CompletedProcess[bytes]", syslog: Syslog, *words: str) -> None:
    expect_admission(done)
    if not syslog.is_heard:
        return
    (line,) = syslog.lines
    assert line.startswith("-t libvirt-sidecar -p daemon.warning -- policy not judged, guest admitted: domain ")
    assert len(line) <= 4500
    for word in words:
        assert word in line
