"""The real hook at ``migrate``, on machines where something is missing, closed or used up: what fails admits."""

import os
import resource
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from sidecar.engine.notices import HookNotice
from tests.libvirt_hooks.installed_hook import (
    ENVIRONMENT,
    LIMIT_S,
    NEEDS_3,
    OTHER_UID,
    Run,
    Syslog,
    domain,
    expect_admission,
    expect_fault,
    expect_refusal,
    needs_root,
    read_notices,
    write_hook,
    write_program,
)

pytestmark = pytest.mark.thorough


@pytest.mark.parametrize("closed", ["<&-", "<&- >&-", "<&- 2>&-", "<&- >&- 2>&-"])
def test_no_stdin_admits(run: Run, syslog: Syslog, closed: str) -> None:
    done = run(None, prefix=["/bin/sh", "-c", f'exec "$@" {closed}', "sh"])
    expect_fault(done, syslog, "domain vm1: no XML came")


def test_no_xml_admits(run: Run, syslog: Syslog) -> None:
    expect_fault(run(b""), syslog, "domain vm1: no XML came")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_outputs_refuse_as_well(run: Run, closed: str) -> None:
    done = run(domain(NEEDS_3), prefix=["/bin/sh", "-c", f'exec "$@" {closed}', "sh"])
    assert (done.returncode, done.stdout) == (1, b"")
    assert bool(done.stderr) is ("2>" not in closed)


GARBAGE = bytes(range(256)) * 64


@pytest.mark.parametrize(
    "xml",
    [
        b"urn:libvirt-sidecar:policy:1",
        GARBAGE + domain(NEEDS_3) + GARBAGE,
        domain(NEEDS_3)[:-9],
        domain(NEEDS_3) * 2,
        b"<!DOCTYPE domain []>" + domain(NEEDS_3),
        domain(NEEDS_3, "x" * (4 * 1024 * 1024)),
        "ä".encode("latin-1") + domain(NEEDS_3),
    ],
    ids=["no-xml", "garbage", "cut", "twice", "doctype", "too-large", "not-utf-8"],
)
def test_bad_xml_admits(run: Run, syslog: Syslog, xml: bytes) -> None:
    expect_fault(run(xml), syslog, "helper ended with 1: ")


def test_garbage_without_a_policy_admits(run: Run, syslog: Syslog) -> None:
    expect_admission(run(GARBAGE * 64))
    assert syslog.lines == []


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"PATH": "", "IFS": "a/:", "CDPATH": "/etc", "TMPDIR": "/x", "PYTHONHOME": "/x", "PYTHONPATH": "/x"},
        {"LC_ALL": "C.UTF-8", "POSIXLY_CORRECT": "1", "ENV": "/nowhere", "BASH_ENV": "/nowhere", "PS4": "$(id)"},
        {"helper": "/x", "offer": "/x", "code": "0", "said": "x", "xml": "", "newline": "x", "PYTHONINSPECT": "1"},
    ],
)
def test_any_environment(run: Run, environment: dict[str, str]) -> None:
    expect_refusal(run(domain(NEEDS_3), env=environment), "'vm1'")


def test_sigpipe_ignored_by_whoever_started_us(run: Run, helper: Callable[[str], str]) -> None:
    expect_refusal(run(domain(NEEDS_3), restore_signals=False))
    expect_admission(run(domain(NEEDS_3, "<disk/>" * 100_000), helper(""), restore_signals=False))


def test_nobody_who_hears_the_refusal(run: Run, shell: list[str], spool: Path) -> None:
    run(b"")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer) as stderr:
        command = [*shell, str(spool.parent / "hook"), "vm1", "migrate", "begin", "-"]
        done = subprocess.run(command, input=domain(NEEDS_3), stderr=stderr, timeout=LIMIT_S, check=False)
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("script", "least_s"), [("exit 1", 0), ("kill -9 $$", 0), ("echo x; echo x >&2; echo x >&3", 0), ("sleep 30", 1)]
)
def test_a_logger_that_fails_admits(run: Run, place: Path, syslog: Syslog, script: str, least_s: int) -> None:
    write_program(place / "bin" / "logger", script)
    begin = time.monotonic()
    expect_admission(run(b"urn:libvirt-sidecar:policy:1"))
    if syslog.is_heard:
        assert least_s <= time.monotonic() - begin < least_s + 3


def test_wherever_the_shell_can_start_lack_of_descriptors_refuses_or_admits(
    run: Run, shell: list[str], place: Path
) -> None:
    write_program(place / "empty", "exit 0")
    codes = {}
    for count in range(3, 16):
        few = partial(limit, resource.RLIMIT_NOFILE, count)
        bare = subprocess.run([*shell, place / "empty"], capture_output=True, preexec_fn=few, check=False)
        if bare.returncode == 0:
            done = run(domain(NEEDS_3), preexec_fn=few)
            codes[count] = done.returncode
            assert done.stdout == b""
    assert 1 in codes.values()
    assert set(codes.values()) <= {0, 1}, codes


def limit(what: int, value: int) -> None:
    resource.setrlimit(what, (value, value))


@needs_root
def test_a_machine_that_cannot_fork_admits(shell: list[str], spool: Path) -> None:
    if "bash" in shell[0]:
        return  # it would only try again for 15 s first
    os.chown(spool, OTHER_UID, OTHER_UID)
    done = subprocess.run(
        [*shell, str(write_hook(spool)), "vm1", "migrate", "begin", "-"],
        input=domain(NEEDS_3),
        capture_output=True,
        env=ENVIRONMENT,
        user=OTHER_UID,
        group=OTHER_UID,
        extra_groups=[],
        preexec_fn=lambda: limit(resource.RLIMIT_NPROC, 1),
        timeout=LIMIT_S,
        check=False,
    )
    expect_admission(done)
    assert read_notices(spool) == [HookNotice("vm1", "migrate")]


MOUNTS = {
    "no cat": ("mount --bind /etc/hostname /usr/bin/cat", 0),
    "no timeout": ("mount --bind /etc/hostname /usr/bin/timeout", 0),
    "no tail": ("mount --bind /etc/hostname /usr/bin/tail", 0),
    "no python3": ("mount --bind /etc/hostname $(readlink -f /usr/bin/python3)", 0),
    "no /dev": ("mount -t tmpfs none /dev", 1),
    "no /proc": ("mount -t tmpfs none /proc", 1),
    "no /tmp to write to": ("mount -o bind,ro / /mnt && export TMPDIR=/mnt/tmp", 1),
}


@needs_root
@pytest.mark.parametrize("trouble", MOUNTS)
def test_a_broken_machine(run: Run, syslog: Syslog, trouble: str) -> None:
    mount, code = MOUNTS[trouble]
    if not syslog.is_heard and trouble in ("no cat", "no timeout", "no tail"):
        code = 1  # it has its own
    done = run(domain(NEEDS_3), prefix=["unshare", "-m", "/bin/sh", "-c", f'{mount} || exit 9\n"$@"', "sh"])
    assert (done.returncode, done.stdout) == (code, b"")
    assert bool(done.stderr) is bool(code)
