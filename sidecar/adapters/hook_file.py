"""The hook's file: what it holds on this host, what stands in its place, and how it gets there in one step."""

import os
import re
import stat
import tempfile
from dataclasses import dataclass, fields
from enum import Enum
from importlib import resources
from pathlib import Path

from sidecar.errors import HookConflictError

NAME = "50-sidecar"

# The hook's second line, by which we know our own file, whatever its age.
_MARKER = b"# This file belongs to libvirt-sidecar:"
# Ours is 5 KB; of another's file only the beginning is needed.
_READ_BYTES = 65536


class HookState(Enum):
    """What stands where the hook should be."""

    INSTALLED = "installed"
    OUTDATED = "outdated"
    NOT_EXECUTABLE = "not-executable"
    NOT_INSTALLED = "not-installed"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class HookPaths:
    """What is written into the hook; each field is a variable there.

    ``helper`` is the file that judges policies, ``offer`` is ``host.json``, ``configuration`` the daemon's file.
    """

    spool: str
    helper: str
    offer: str
    configuration: str


def render_hook(paths: HookPaths) -> bytes:
    """The packaged hook with these paths in it, quoted for the shell."""
    source = (resources.files("libvirt_hooks") / "qemu.d" / NAME).read_text()
    quoted = {field.name: "'" + getattr(paths, field.name).replace("'", "'\\''") + "'" for field in fields(paths)}
    # In one pass: no path is taken for a line of the hook.
    text, count = _PATH_LINES.subn(lambda found: f"{found[1]}={quoted[found[1]]}", source)
    assert count == len(quoted), f"the packaged hook has {count} lines for {len(quoted)} paths"
    return text.encode()


_PATH_LINES = re.compile(rf"^({'|'.join(field.name for field in fields(HookPaths))})='.*'$", re.MULTILINE)


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


def has_hooks(hooks_directory: Path) -> bool:
    """Whether libvirt's QEMU driver has something to run here: only then it looks again at every event."""
    scripts = [hooks_directory / "qemu", *(hooks_directory / "qemu.d").glob("*")]
    return any(script.is_file() and os.access(script, os.X_OK) for script in scripts)


def write_hook(target: Path, content: bytes, *, is_new: bool) -> None:
    """Put the file in place in one step.

    The temporary file lies beside ``qemu.d``: libvirt runs everything executable in there.

    Raises:
        HookConflictError: It ``is_new``, and another file has come in between; that one was left alone.
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
