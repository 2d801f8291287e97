"""Which process a domain's QEMU is, and a token by which that process is never mistaken for another.

libvirt's API does not tell the process id; the pid file that libvirtd keeps for its own use does. Runtime ids of
domains do not serve: they start again at 1 with libvirtd.
"""

import hashlib
from pathlib import Path

from sidecar.errors import DomainGoneError

STATE_DIRECTORY = Path("/run/libvirt/qemu")

# Field 22 of proc_pid_stat(5), counted from the one after the command in parentheses, which is field 3.
_START_TIME = 22 - 3


def find_qemu(name: str, directory: Path = STATE_DIRECTORY) -> int:
    """The process id of the QEMU that runs the domain of this name.

    Raises:
        DomainGoneError: There is no pid file, or it holds no number: the domain does not run.
    """
    try:
        return int((directory / f"{name}.pid").read_bytes())
    except (OSError, ValueError) as error:
        raise DomainGoneError(f"no process id of QEMU for {name!a} in {directory}: {error}") from error


def run_token(pid: int, proc: Path = Path("/proc")) -> str:
    """An opaque token of this process: the same while it lives, another for every other process of any boot.

    Raises:
        DomainGoneError: There is no such process any more.
    """
    try:
        boot = (proc / "sys/kernel/random/boot_id").read_text("ascii").strip()
        fields = (proc / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        started = fields[_START_TIME].decode("ascii")
    except (OSError, IndexError, UnicodeDecodeError) as error:
        raise DomainGoneError(f"QEMU's process {pid} is gone: {error}") from error
    return hashlib.sha256(f"{boot} {pid} {started}".encode()).hexdigest()[:32]
