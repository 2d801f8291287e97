"""Which process a domain's QEMU is, and a token by which that process is never mistaken for another.

libvirt's API does not tell the process id; the pid file that libvirtd keeps for its own use does, and the process's
command line confirms it. Runtime ids of domains do not serve: they start again at 1 with libvirtd.
"""

import hashlib
from pathlib import Path
from uuid import UUID
from xml.sax.saxutils import escape

from sidecar.errors import HypervisorError

STATE_DIRECTORY = Path("/run/libvirt/qemu")
PROC = Path("/proc")

# Field 22 of proc_pid_stat(5), counted from the one after the command in parentheses, which is field 3.
_START_TIME = 22 - 3


def find_qemu(uuid: UUID, name: str, directory: Path = STATE_DIRECTORY, proc: Path = PROC) -> int:
    """The process id of the QEMU that runs the domain.

    Raises:
        HypervisorError: No pid file of that name leads to a process that was started for this UUID.
    """
    # libvirt 9.0 writes the name into the file's name as it would into XML.
    for stem in dict.fromkeys((name, escape(name, {"'": "&apos;", '"': "&quot;"}))):
        try:
            pid = int((directory / f"{stem}.pid").read_bytes())
            if str(uuid).encode() in (proc / str(pid) / "cmdline").read_bytes().split(b"\0"):
                return pid
        except (OSError, ValueError):
            continue
    raise HypervisorError(f"no process of QEMU found for {name!a} in {directory}")


def run_token(pid: int, proc: Path = PROC) -> str:
    """An opaque token of this process: the same while it lives, another for every other process of any boot.

    Raises:
        HypervisorError: There is no such process any more.
    """
    try:
        boot = (proc / "sys/kernel/random/boot_id").read_text("ascii").strip()
        fields = (proc / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        started = fields[_START_TIME].decode("ascii")
    except (OSError, IndexError, UnicodeDecodeError) as error:
        raise HypervisorError(f"QEMU's process {pid} is gone: {error}") from error
    return hashlib.sha256(f"{boot} {pid} {started}".encode()).hexdigest()[:32]
