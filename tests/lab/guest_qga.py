"""qemu-ga in a guest: stopped, started again, in another release or with commands blocked.

The image holds bookworm's 7.2 and starts it at boot; 10.0 comes from bookworm-backports and needs the same libraries.
"""

from collections.abc import Sequence
from pathlib import Path
from signal import SIGTERM

from tests.lab.domain_xml import QGA_PORT
from tests.lab.guest import Guest
from tests.lab.image import CACHE
from tests.lab.packages import unpack_from_suite

PROGRAM = "/usr/sbin/qemu-ga"


def fetch_newer_qga() -> Path:
    """qemu-ga 10.0, on this machine.

    Raises:
        LookupError: the mirror cannot be reached.
    """
    return unpack_from_suite("bookworm-backports", "qemu-guest-agent", CACHE / "packages") / PROGRAM.lstrip("/")


def stop_qga(guest: Guest, number: int = SIGTERM) -> None:
    """Signals every qemu-ga of the guest; returns when they have ended."""
    guest.shell(f"killall -{int(number)} qemu-ga; while pidof qemu-ga >/dev/null; do usleep 10000; done")


def start_qga(guest: Guest, program: Path | None = None, block: Sequence[str] = ()) -> None:
    """Starts qemu-ga: the image's, or `program` of this machine; `block` are commands it shall not have."""
    installed = PROGRAM
    if program is not None:
        installed = "/opt/qemu-ga"  # the same name, for killall and pidof
        guest.put(installed, program.read_bytes(), 0o755)
    blocked = f"-b {','.join(block)}" if block else ""
    guest.shell(f"{installed} -d -m virtio-serial -p /dev/virtio-ports/{QGA_PORT} -t /run {blocked}")
