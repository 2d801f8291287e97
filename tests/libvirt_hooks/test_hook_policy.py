"""The real hook at ``migrate``: it refuses what its helper refuses, and whatever else a helper may do admits."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.adapters.hook_setup import HELPER_COMMAND
from sidecar.engine.notices import HookNotice
from tests.libvirt_hooks.installed_hook import (
    LIMIT_S,
    NEEDS_2,
    NEEDS_3,
    POLICY,
    Run,
    Syslog,
    domain,
    expect_admission,
    expect_fault,
    expect_refusal,
    read_notices,
    write_hook,
)

pytestmark = pytest.mark.thorough

NAMES = [
    "vm1",
    "--help",
    "-rf",
    "-",
    ".",
    "$(id)",
    "`id`",
    ";reboot",
    "a b",
    "a'b",
    'a"b',
    "a\nb",
    "\x1b[2J",
    "ä€😀",
    "%s%n",
]
# What the helper is granted, and a machine that is busy.
HANGING_S = (2, 6)


# --- the verdict


def test_a_policy_that_this_host_cannot_honour_refuses(run: Run, spool: Path, syslog: Syslog) -> None:
    done = run(domain(NEEDS_3))
    expect_refusal(done, "'vm1'", 'dialect="ovirt" min-version="3"', "this host offers ovirt up to 2")
    assert read_notices(spool) == [HookNotice("vm1", "migrate")]
    assert syslog.lines == []


@pytest.mark.parametrize("metadata", ["", NEEDS_2, POLICY % "", "<!-- urn:libvirt-sidecar:policy:1 -->"])
def test_what_it_can_honour_passes_without_a_word(run: Run, spool: Path, syslog: Syslog, metadata: str) -> None:
    expect_admission(run(domain(metadata)))
    assert read_notices(spool) == [HookNotice("vm1", "migrate")]
    assert syslog.lines == []


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_told_in_one_line(run: Run, name: str) -> None:
    line = expect_refusal(run(domain(NEEDS_3), name=name))
    assert f"domain '{name.encode('unicode_escape').decode()}' is refused" in line


@pytest.mark.parametrize("name", ["x" * 255, "\U0001f600" * 60, "\udcff\udc80"])
def test_a_long_or_broken_name_cuts_nothing_off(run: Run, name: str) -> None:
    line = expect_refusal(run(domain(NEEDS_3), name=name), "this host offers")
    assert line.startswith("libvirt-sidecar: domain '")


def test_a_broken_policy_refuses_nothing(run: Run, syslog: Syslog) -> None:
    expect_fault(run(domain(POLICY % "<policy:demand/>")), syslog, "BrokenPolicyError", "'demand'")


def test_without_a_spool_it_judges_all_the_same(run: Run, spool: Path) -> None:
    spool.rmdir()
    expect_refusal(run(domain(NEEDS_3)))


def test_without_an_offer_the_configuration_counts(run: Run, place: Path) -> None:
    (place / "host.json").unlink()
    expect_admission(run(domain(NEEDS_3)))
    (place / "sidecar.toml").write_text("[upgrade_levels]\novirt = 1\n")
    expect_refusal(run(domain(NEEDS_3)), "ovirt up to 1")


def test_letters_of_every_kind_reach_the_helper(run: Run) -> None:
    # Bytes 0x80 to 0xBF among them, some of which dash uses for marks of its own.
    text = "".join(map(chr, range(0x20, 0x250))).replace("<", "").replace("&", "") + "€😀\\\\n%s"
    expect_refusal(run(domain(NEEDS_3, f"<title>{text}</title>")))


@pytest.mark.parametrize("megabytes", [1, 3])
def test_a_large_xml(run: Run, megabytes: int) -> None:
    expect_refusal(run(domain(NEEDS_3, "<disk type='file'/>\n" * (megabytes * 50_000))))


def test_the_helper_sees_what_the_hook_was_told(run: Run, place: Path, helper: Callable[[str], str]) -> None:
    expect_admission(run(domain(NEEDS_3), helper(f"import sys\nopen('{place}/seen', 'w').write(repr(sys.argv[1:]))")))
    assert (place / "seen").read_text() == repr([f"{place}/host.json", f"{place}/sidecar.toml", "vm1"])


def test_the_hook_runs_its_helper_as_the_trial_does(spool: Path) -> None:
    assert f'timeout -s KILL 2 {" ".join(HELPER_COMMAND)} "$helper"' in write_hook(spool).read_text()


# --- when nothing is to be judged


def test_no_policy_starts_no_helper(run: Run, place: Path, helper: Callable[[str], str]) -> None:
    expect_admission(run(domain(""), helper(f"open('{place}/started', 'w')")))
    assert not (place / "started").exists()
    expect_admission(run(domain(NEEDS_2), helper(f"open('{place}/started', 'w')")))
    assert (place / "started").exists()


@pytest.mark.parametrize("operation", ["started", "restore", "release", "prepare"])
def test_at_other_steps_a_policy_is_not_even_read(shell: list[str], spool: Path, operation: str) -> None:
    done = subprocess.run(
        [*shell, str(write_hook(spool)), "vm1", operation, "begin", "-"],
        input=domain(NEEDS_3),
        capture_output=True,
        timeout=LIMIT_S,
        check=False,
    )
    expect_admission(done)


# --- what the helper may do


@pytest.mark.parametrize("code", [1, 2, 3, 9, 11, 100, 120, 124, 126, 127, 255])
def test_any_other_exit_code_admits(run: Run, syslog: Syslog, helper: Callable[[str], str], code: int) -> None:
    done = run(domain(NEEDS_3), helper(f"import sys\nprint('odd\\nthe cause')\nsys.exit({code})"))
    expect_fault(done, syslog, f"helper ended with {code}: the cause")


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGTERM, signal.SIGABRT])
def test_a_helper_that_is_killed_admits(run: Run, syslog: Syslog, helper: Callable[[str], str], number: int) -> None:
    done = run(domain(NEEDS_3), helper(f"import os\nos.kill(os.getpid(), {int(number)})"))
    expect_fault(done, syslog, f"helper ended with {128 + number}")


@pytest.mark.parametrize("name", ["vm1", "--help", "a b", "ä€😀", "$(id)"])
def test_the_log_names_the_domain(run: Run, syslog: Syslog, name: str) -> None:
    expect_fault(run(b"urn:libvirt-sidecar:policy:1", name=name), syslog, f"admitted: domain {name}: helper")


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "\t"])
def test_a_name_that_is_no_text_is_not_logged(run: Run, syslog: Syslog, name: str) -> None:
    expect_fault(run(b"urn:libvirt-sidecar:policy:1", name=name), syslog, "domain (its name is no text): helper")


def test_a_helper_that_raises_tells_the_cause(run: Run, syslog: Syslog, helper: Callable[[str], str]) -> None:
    expect_fault(run(domain(NEEDS_3), helper("import no_such_module")), syslog, "ended with 1: ModuleNotFoundError")


@pytest.mark.parametrize("trouble", ["missing", "directory", "empty path"])
def test_no_helper(run: Run, place: Path, syslog: Syslog, trouble: str) -> None:
    helper = {"missing": "/nowhere/admit.py", "directory": str(place), "empty path": ""}[trouble]
    expect_fault(run(domain(NEEDS_3), helper), syslog)


CHILD = "import subprocess\nsubprocess.run(['sleep', '30'])"


@pytest.mark.parametrize("text", ["import time\ntime.sleep(30)", CHILD])
def test_a_helper_that_hangs_admits(run: Run, syslog: Syslog, helper: Callable[[str], str], text: str) -> None:
    if text is CHILD and not syslog.is_heard:
        return  # busybox's own timeout ends one process, and ours starts no other
    begin = time.monotonic()
    expect_fault(run(domain(NEEDS_3), helper(text)), syslog, "no verdict within 2 s")
    assert HANGING_S[0] <= time.monotonic() - begin < HANGING_S[1]


@pytest.mark.parametrize("code", [10, 1])
def test_megabytes_become_one_line(run: Run, syslog: Syslog, helper: Callable[[str], str], code: int) -> None:
    text = f"import sys\nfor _ in range(100): print('x' * 100000, end='')\nsys.exit({code})"
    done = run(domain(NEEDS_3), helper(text))
    if code == 10:
        expect_refusal(done, "x" * 4000)
    else:
        expect_fault(done, syslog, "x" * 4000)


@pytest.mark.parametrize("said", ["\x1b[2J", "a\tb", "\x00", "a\rb", "\x7f"])
def test_what_is_no_text_is_not_passed_on(run: Run, helper: Callable[[str], str], said: str) -> None:
    done = run(domain(NEEDS_3), helper(f"import sys\nprint({said!r} if {said!r} != chr(0) else chr(7))\nsys.exit(10)"))
    expect_refusal(done, "the helper printed no text")


def test_a_refusal_without_a_word_is_one(run: Run, helper: Callable[[str], str]) -> None:
    assert run(domain(NEEDS_3), helper("import sys\nsys.exit(10)")).returncode == 1


def test_libvirts_stderr_is_not_the_helpers(run: Run, helper: Callable[[str], str], syslog: Syslog) -> None:
    text = "import contextlib, os\nwith contextlib.suppress(OSError):\n    os.write(3, b'noise')"
    expect_admission(run(domain(NEEDS_3), helper(text)))
    assert syslog.lines == []


def test_a_helper_that_reads_nothing(run: Run, helper: Callable[[str], str], syslog: Syslog) -> None:
    expect_admission(run(domain(NEEDS_3, "<disk/>" * 100_000), helper("")))
    assert syslog.lines == []
