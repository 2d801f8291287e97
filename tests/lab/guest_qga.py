"""qemu-ga in a guest: stopped, started again, in another release, on another port or with commands blocked.

The image holds bookworm's 7.2 and starts it at boot; 10.0 comes from bookworm-backports and needs the same libraries.
"""

from collections.abc import Sequence
from pathlib import Path
from signal import SIGCONT, SIGSTOP, SIGTERM

from tests.lab.domain_xml import QGA_PORT
from tests.lab.guest import Guest
from tests.lab.image import CACHE
from tests.lab.packages import unpack_from_suite

PROGRAM = "/usr/sbin/qemu-ga"
_OTHER_PROGRAM = "/opt/qemu-ga"  # the same name, for killall and pidof


def fetch_newer_qga() -> Path:
    """qemu-ga 10.0, on this machine.

    Raises:
        LookupError: the mirror cannot be reached.
    """
    return unpack_from_suite("bookworm-backports", "qemu-guest-agent", CACHE / "packages") / PROGRAM.lstrip("/")


def install_qga(guest: Guest, program: Path) -> None:
    """Puts `program` of this machine into the guest, where it takes seconds, for a `start_qga` that takes none."""
    guest.put(_OTHER_PROGRAM, program.read_bytes(), 0o755)


def stop_qga(guest: Guest, number: int = SIGTERM, port: str = "") -> None:
    """Signals the qemu-ga of that port, or of every port; returns when what was signalled has ended."""
    guest.shell(
        f"""pids() {{ for pid in $(pidof qemu-ga); do grep -q '{port}' /proc/$pid/cmdline && echo $pid; done; }}
        kill -{int(number)} $(pids) && while [ -n "$(pids)" ]; do usleep 10000; done"""
    )


def signal_qga(guest: Guest, number: int) -> None:
    """SIGSTOP or SIGCONT, to every qemu-ga of the guest."""
    if number not in (SIGSTOP, SIGCONT):
        raise ValueError(f"signal {number} may end it: use stop_qga")
    guest.shell(f"killall -{int(number)} qemu-ga")


def start_qga(
    guest: Guest, program: Path | None = None, block: Sequence[str] = (), port: str = QGA_PORT, installed: bool = False
) -> None:
    """Starts qemu-ga: the image's, or `program` of this machine, or what `install_qga` has put there.

    `block` are commands it shall not have.
    """
    if program is not None:
        install_qga(guest, program)
    path = PROGRAM if program is None and not installed else _OTHER_PROGRAM
    blocked = f"-b {','.join(block)}" if block else ""
    # Where it keeps that the file systems are frozen; the one that is started at boot has its own in /run, too.
    state = "/run" if port == QGA_PORT else f"/run/{port}"
    options = f"-d -m virtio-serial -p /dev/virtio-ports/{port} -t {state} -f {state}/qemu-ga.pid {blocked}"
    guest.shell(f"mkdir -p {state} && {path} {options}")


def qga_release(guest: Guest) -> str:
    """The version that the image's qemu-ga tells of itself."""
    return guest.shell(f"{PROGRAM} --version").split()[-1]


def make_freezable(guest: Guest) -> None:
    """Mounts a real file system, without which a freeze freezes nothing; call it once."""
    guest.shell(
        "insmod /lib/modules/brd.ko rd_nr=1 rd_size=4096; mke2fs /dev/ram0 >/dev/null"
        " && mkdir -p /mnt/real && mount -t ext4 /dev/ram0 /mnt/real"
    )
