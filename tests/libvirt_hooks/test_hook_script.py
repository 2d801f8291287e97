"""The real hook, run by every shell that may be /bin/sh on a libvirt host."""

import os
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.adapters.hook_file import HookPaths, render_hook
from sidecar.engine.notices import HookNotice
from tests.libvirt_hooks.installed_hook import (
    ENVIRONMENT,
    LIMIT_S,
    OTHER_UID,
    needs_root,
    read_notices,
    write_hook,
)

OPERATIONS = ["started", "reconnect", "stopped", "release", "migrate", "restore"]
OTHER_OPERATIONS = ["prepare", "start", "attach", "", "startedX", "--help", "-e", "*", "started\n"]
NAMES = [
    "vm1", "--help", "-rf", "-", ".", "$(id)", "`id`", ";reboot", "a b", "  ", "a'b", 'a"b', "a\\nb", "a\nb", "\n",
    "a\n", "%s%n", "\\0", "\\c", "*", "~", "ä€😀", "x" * 255, "libvirt-sidecar notice 1", "\x1b[2J",
]  # fmt: skip


def run_hook(
    command: list[str],
    *,
    environment: dict[str, str] | None = None,
    user: int | None = None,
    prepare: Callable[[], None] | None = None,
) -> None:
    """Run it as libvirt does, and hold it to the promise: at once, silent, exit 0."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=ENVIRONMENT if environment is None else environment,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        preexec_fn=prepare,
        timeout=LIMIT_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_leaves_one_private_notice(hook: list[str], spool: Path, operation: str) -> None:
    run_hook([*hook, "vm1", operation, "begin", "-"])
    (file,) = spool.iterdir()
    assert file.read_bytes() == f"libvirt-sidecar notice 1\n{operation}\nbegin\nvm1\0".encode()
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", NAMES)
def test_any_name_arrives_as_it_is(hook: list[str], spool: Path, name: str) -> None:
    run_hook([*hook, name, "started", "begin", "-"])
    assert read_notices(spool) == [HookNotice(name, "started")]
    assert sorted(spool.parent.iterdir()) == [spool.parent / "hook", spool]


@pytest.mark.parametrize("operation", OTHER_OPERATIONS)
def test_other_operations_leave_nothing(hook: list[str], spool: Path, operation: str) -> None:
    run_hook([*hook, "vm1", operation, "begin", "-"])
    assert read_notices(spool) == []


@pytest.mark.parametrize("arguments", [[], ["vm1"], [""]])
def test_missing_arguments_leave_nothing(hook: list[str], spool: Path, arguments: list[str]) -> None:
    run_hook([*hook, *arguments])
    assert read_notices(spool) == []


def test_a_missing_sub_operation_is_empty(hook: list[str], spool: Path) -> None:
    run_hook([*hook, "vm1", "started"])
    assert read_notices(spool) == [HookNotice("vm1", "started")]


def test_an_empty_name_gives_a_file_that_nobody_takes_for_a_notice(hook: list[str], spool: Path) -> None:
    run_hook([*hook, "", "started", "begin", "-"])
    assert not isinstance(read_notices(spool)[0], HookNotice)


def test_two_runs_leave_two_files(hook: list[str], spool: Path) -> None:
    for _ in range(2):
        run_hook([*hook, "vm1", "started", "begin", "-"])
    assert read_notices(spool) == [HookNotice("vm1", "started")] * 2


def test_runs_by_its_own_first_line(spool: Path) -> None:
    run_hook([str(write_hook(spool)), "vm1", "started", "begin", "-"])
    assert read_notices(spool) == [HookNotice("vm1", "started")]


@pytest.mark.parametrize("quoted", ["o'd", "a b", '$(id)"', "-n", "\\"])
def test_any_spool_path(place: Path, quoted: str) -> None:
    spool = place / quoted
    spool.mkdir(0o700)
    run_hook([str(write_hook(spool)), "vm1", "started"])
    assert read_notices(spool) == [HookNotice("vm1", "started")]


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"PATH": "", "HOME": "", "IFS": "a/", "CDPATH": "/etc", "PWD": "/nowhere", "OLDPWD": "", "TMPDIR": "/x"},
        {"POSIXLY_CORRECT": "1", "ENV": "/nowhere", "BASH_ENV": "/nowhere", "TZ": "%", "PS4": "$(id)"},
        {"spool": "/tmp", "token": "../x", "OPTIND": "7", "1": "x", "a b": "c"},
    ],
)
def test_any_environment(hook: list[str], spool: Path, environment: dict[str, str]) -> None:
    run_hook([*hook, "vm1", "started", "begin", "-"], environment=environment)
    assert read_notices(spool) == [HookNotice("vm1", "started")]


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams(hook: list[str], spool: Path, closed: str) -> None:
    run_hook(["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *hook, "vm1", "started", "begin", "-"])
    assert read_notices(spool) == [HookNotice("vm1", "started")]


@pytest.mark.parametrize("operation", [operation for operation in OPERATIONS if operation != "migrate"])
def test_stdin_is_left_unread(hook: list[str], operation: str) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"<domain/>")
    try:
        # The writer stays open: whoever reads to the end waits for ever.
        subprocess.run([*hook, "vm1", operation, "begin", "-"], stdin=reader, timeout=LIMIT_S, check=True)
        assert os.read(reader, 100) == b"<domain/>"
    finally:
        os.close(reader)
        os.close(writer)


def test_missing_spool(hook: list[str], spool: Path) -> None:
    spool.rmdir()
    run_hook([*hook, "vm1", "started", "begin", "-"])
    assert not spool.exists()


def test_a_file_in_the_spools_place(hook: list[str], spool: Path) -> None:
    spool.rmdir()
    spool.write_text("mine")
    run_hook([*hook, "vm1", "started", "begin", "-"])
    assert spool.read_text() == "mine"


def test_never_through_a_link(hook: list[str], spool: Path) -> None:
    target = spool.parent / "elsewhere"
    spool.rename(target)
    spool.symlink_to(target)
    run_hook([*hook, "vm1", "started", "begin", "-"])
    assert list(target.iterdir()) == []


def test_never_through_a_link_above(place: Path) -> None:
    (place / "real" / "spool").mkdir(0o700, parents=True)
    (place / "link").symlink_to(place / "real")
    hook = place / "hook"
    hook.write_bytes(render_hook(HookPaths(str(place / "link" / "spool"), "", "", "")))
    run_hook(["/bin/sh", str(hook), "vm1", "started"])
    assert list((place / "real" / "spool").iterdir()) == []


PLANT = """
cd "$SPOOL" && for name in started.$$ started.$$.0 $$ $$.started started vm1 vm1.$$; do {plant}; done
exec "$@"
"""


@pytest.mark.parametrize("plant", ["mkfifo $name", "ln -s ../victim $name", "echo kept >$name", "mkdir $name"])
def test_what_stands_in_the_way_is_neither_waited_for_nor_written(hook: list[str], spool: Path, plant: str) -> None:
    victim = spool.parent / "victim"
    victim.write_text("kept\n")
    run_hook(
        ["/bin/sh", "-c", PLANT.format(plant=plant), "sh", *hook, "vm1", "started", "begin", "-"],
        environment={"PATH": "/usr/bin:/bin", "SPOOL": str(spool)},
    )
    assert victim.read_text() == "kept\n"
    files = [file for file in spool.iterdir() if file.is_file() and not file.is_symlink()]
    assert len([file for file in files if file.read_bytes().endswith(b"\0")]) == 1
    assert {file.read_text() for file in files if not file.read_bytes().endswith(b"\0")} <= {"kept\n"}


def test_a_limit_on_file_sizes(hook: list[str], spool: Path) -> None:
    run_hook(
        [*hook, "vm1", "started", "begin", "-"],
        prepare=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    )
    assert [file.stat().st_size for file in spool.iterdir()] == [0]


def run_with_files(command: list[str], count: int) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        command,
        capture_output=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count)),
        timeout=LIMIT_S,
        check=False,
    )


def test_wherever_the_shell_can_start_lack_of_descriptors_is_no_failure(spool: Path) -> None:
    empty = spool.parent / "empty"
    empty.write_text("exit 0\n")
    hook = str(write_hook(spool))
    tried = 0
    for count in range(3, 20):
        if run_with_files(["dash", str(empty)], count).returncode == 0:
            tried += 1
            done = run_with_files(["dash", hook, "vm1", "started", "begin", "-"], count)
            assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert 0 < len(read_notices(spool)) < tried


@needs_root
def test_another_users_spool(hook: list[str], spool: Path) -> None:
    os.chown(spool, OTHER_UID, OTHER_UID)
    run_hook([*hook, "vm1", "started", "begin", "-"])
    assert read_notices(spool) == []


@needs_root
@pytest.mark.parametrize("mode", [0o700, 0o755, 0o777])
def test_an_unprivileged_session_daemon_gets_nowhere(hook: list[str], spool: Path, mode: int) -> None:
    spool.chmod(mode)
    run_hook([*hook, "vm1", "started", "begin", "-"], user=OTHER_UID)
    assert read_notices(spool) == []


def forbid_forks() -> None:
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))


@needs_root
def test_forks_nothing(hook: list[str], spool: Path) -> None:
    os.chown(spool, OTHER_UID, OTHER_UID)
    forking = spool.parent / "forking"
    forking.write_text("x=$(echo started) || exit 3\nexit 0\n")
    with pytest.raises(AssertionError):
        run_hook(["dash", str(forking)], user=OTHER_UID, prepare=forbid_forks)
    run_hook([*hook, "vm1", "started", "begin", "-"], user=OTHER_UID, prepare=forbid_forks)
    assert read_notices(spool) == [HookNotice("vm1", "started")]


MOUNTS = {
    "disk full": 'mount -t tmpfs -o size=4096,mode=0700 none "$SPOOL"; head -c 9999 /dev/zero 2>&- >"$SPOOL/fill"',
    "no inode left": 'mount -t tmpfs -o nr_inodes=1,mode=0700 none "$SPOOL"',
    "read-only": 'mount -t tmpfs -o ro,mode=0700 none "$SPOOL"',
    "no /dev/null": "mount -t tmpfs none /dev",
    "no /proc": "mount -t tmpfs none /proc",
}


@needs_root
@pytest.mark.parametrize("trouble", MOUNTS)
def test_a_broken_machine(hook: list[str], spool: Path, trouble: str) -> None:
    script = f'{MOUNTS[trouble]}\n"$@" || exit 9\nls "$SPOOL" >"$SPOOL.list"'
    run_hook(
        ["unshare", "-m", "/bin/sh", "-c", script, "sh", *hook, "vm1", "started", "begin", "-"],
        environment={"PATH": "/usr/bin:/bin", "SPOOL": str(spool)},
    )
    left = Path(f"{spool}.list").read_text().split()
    # With the disk full an empty file can be made, which the daemon drops.
    expected = {"disk full": ["fill", "started"], "no /dev/null": ["started"]}.get(trouble, [])
    assert [name.partition(".")[0] for name in left] == expected
