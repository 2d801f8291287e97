"""``sidecarctl hooks``: installs, removes and looks at the hook that libvirt runs.

Never touches a file that it did not write, and never signals libvirtd: it says what the operator may have to do.
"""

import json
import os
import stat
import sys
import tempfile
from dataclasses import dataclass
from enum import Enum
from importlib import resources
from pathlib import Path

from sidecar.errors import ConfigurationError, HookConflictError

NAME = "50-sidecar"

# The hook's second line, by which we know our own file, whatever its age.
_MARKER = b"# This file belongs to libvirt-sidecar:"
_SPOOL_LINE = "spool='/run/sidecar/spool'"
# Ours is 2 KB; of another's file only the beginning is needed.
_READ_BYTES = 65536


class HookState(Enum):
    """What stands where the hook should be."""

    INSTALLED = "installed"
    OUTDATED = "outdated"
    NOT_EXECUTABLE = "not-executable"
    NOT_INSTALLED = "not-installed"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class SpoolReport:
    """The spool directory as the hook will find it; ``problem`` says what is wrong, ``""`` when nothing is."""

    path: str
    is_present: bool
    problem: str
    is_usable: bool


def install(hooks_directory: Path, configuration: Path | None) -> None:
    """Write the hook, or bring ours up to date, and say what libvirt has to be told.

    Raises:
        ConfigurationError: The spool's path or the directory there can not serve; nothing was written.
        HookConflictError: Another's file stands there; nothing was written.
    """
    target = hooks_directory / "qemu.d" / NAME
    spool = report_spool(_find_spool(configuration))
    if not spool.is_usable:
        raise ConfigurationError(f"paths.spool: {spool.path}: {spool.problem}")
    content = render_hook(spool.path)
    before = judge(target, content)
    if before is HookState.FOREIGN:
        raise HookConflictError(f"{target}: was not written by sidecarctl; left alone")
    hooks_were_there = _has_hooks(hooks_directory)
    if before is not HookState.INSTALLED:
        _write_hook(target, content, is_new=before is HookState.NOT_INSTALLED)
    if spool.is_present and spool.problem:
        print(f"sidecarctl: warning: {spool.path}: {spool.problem}", file=sys.stderr)
    print(f"{target}: {_INSTALL_WORDS[before]}")
    print(_LIBVIRT_KNOWS if hooks_were_there else _LIBVIRT_MUST_LOOK)


_INSTALL_WORDS = {
    HookState.INSTALLED: "is installed already",
    HookState.OUTDATED: "brought up to date",
    HookState.NOT_EXECUTABLE: "made executable again",
    HookState.NOT_INSTALLED: "installed",
}
_LIBVIRT_KNOWS = "Hooks were there before, so libvirt looks here already (if they were when it started)."
_LIBVIRT_MUST_LOOK = (
    "It is the first hook here: libvirt sees it only after a reload or restart. Run\n"
    "  systemctl reload libvirtd       (or virtqemud, where that runs instead)"
)


def remove(hooks_directory: Path) -> None:
    """Remove our file; when there is none, that is fine.

    Raises:
        HookConflictError: Another's file stands there; it was left alone.
    """
    target = hooks_directory / "qemu.d" / NAME
    match judge(target, b""):
        case HookState.NOT_INSTALLED:
            print(f"{target}: is not installed")
        case HookState.FOREIGN:
            raise HookConflictError(f"{target}: was not written by sidecarctl; left alone")
        case _:
            target.unlink(missing_ok=True)
            print(f"{target}: removed")


def show_status(hooks_directory: Path, configuration: Path | None, *, as_json: bool) -> bool:
    """Print hook and spool, for people or as one JSON document; whether the hook is installed and current."""
    target = hooks_directory / "qemu.d" / NAME
    spool = report_spool(_find_spool(configuration))
    state = judge(target, render_hook(spool.path))
    if as_json:
        document = {
            "state": state.value,
            "path": str(target),
            "spool": spool.path,
            "spool_present": spool.is_present,
            "spool_sound": spool.is_present and not spool.problem,
            "spool_problem": spool.problem or None,
        }
        print(json.dumps(document))
    else:
        print(f"hook:  {state.value.replace('-', ' ')} ({target})")
        print(f"spool: {spool.problem or 'sound'} ({spool.path})")
    if state is not HookState.INSTALLED:
        print(f"sidecarctl: the hook is {state.value.replace('-', ' ')}", file=sys.stderr)
    return state is HookState.INSTALLED


def render_hook(spool: str) -> bytes:
    """The packaged hook with the spool's path in it, quoted for the shell."""
    source = (resources.files("libvirt_hooks") / "qemu.d" / NAME).read_text()
    quoted = "'" + spool.replace("'", "'\\''") + "'"
    return source.replace(_SPOOL_LINE, f"spool={quoted}").encode()


def judge(target: Path, wanted: bytes) -> HookState:
    """What stands at ``target``; ``wanted`` is the content of a current hook."""
    try:
        found = target.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return HookState.NOT_INSTALLED
    if not stat.S_ISREG(found.st_mode):
        return HookState.FOREIGN
    with target.open("rb") as file:
        content = file.read(_READ_BYTES)
    if not content.partition(b"\n")[2].startswith(_MARKER):
        return HookState.FOREIGN
    # Root runs this file: one that others can write is not as we left it.
    if content != wanted or found.st_mode & 0o022:
        return HookState.OUTDATED
    return HookState.INSTALLED if found.st_mode & 0o111 else HookState.NOT_EXECUTABLE


def report_spool(path: str) -> SpoolReport:
    """Look at the spool directory; one that is missing is no problem, the daemon makes it."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return SpoolReport(path, is_present=False, problem="is missing; sidecard makes it", is_usable=True)
    if not stat.S_ISDIR(found.st_mode):
        return SpoolReport(path, is_present=True, problem="is not a directory", is_usable=False)
    if found.st_uid not in {0, os.geteuid()}:
        problem = f"belongs to uid {found.st_uid}, so the hook will not write there"
        return SpoolReport(path, is_present=True, problem=problem, is_usable=False)
    problem = "can be written by others; sidecard sets it to 0700" if found.st_mode & 0o022 else ""
    return SpoolReport(path, is_present=True, problem=problem, is_usable=True)


def _find_spool(configuration: Path | None) -> str:
    """The configured spool with every link before its last part resolved: the hook follows none."""
    from sidecar.config import load_configuration  # needs msgspec, which "--help" does not

    configured = load_configuration(configuration).paths.spool
    parent, name = os.path.split(os.path.normpath("/" + configured.lstrip("/")))
    if not name or not configured.isprintable():
        raise ConfigurationError(f"paths.spool: expected a directory's path, found {configured!a}")
    return os.path.join(os.path.realpath(parent), name)


def _has_hooks(hooks_directory: Path) -> bool:
    """Whether libvirt's QEMU driver has something to run here: only then it looks again at every event."""
    scripts = [hooks_directory / "qemu", *(hooks_directory / "qemu.d").glob("*")]
    return any(script.is_file() and os.access(script, os.X_OK) for script in scripts)


def _write_hook(target: Path, content: bytes, *, is_new: bool) -> None:
    """Put the file in place in one step.

    The temporary file lies beside ``qemu.d``: libvirt runs everything executable in there.
    """
    _create_directories(target.parent)
    fd, temporary = tempfile.mkstemp(prefix=f".{NAME}.", dir=target.parent.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o755)
            file.flush()
            os.fsync(file.fileno())
        _move_into_place(temporary, target, is_new=is_new)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _move_into_place(temporary: str, target: Path, *, is_new: bool) -> None:
    if not is_new:
        os.replace(temporary, target)
        return
    try:
        os.link(temporary, target)  # unlike a rename it does not replace what has come in between
    except FileExistsError:
        raise HookConflictError(f"{target}: another program has just put a file there; left alone") from None


def _create_directories(directory: Path) -> None:
    """Create what is missing with mode 0755, whatever the umask."""
    for path in [*reversed(directory.parents), directory]:
        if not path.exists():
            path.mkdir(0o755)
            path.chmod(0o755)
