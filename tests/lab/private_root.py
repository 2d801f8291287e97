"""What a lab host sees of its own instead of the machine's: /etc, /run, and libvirt's directories below /var.

Nothing has to be made on the machine for it, not even an empty directory to mount on.
"""

import os
from pathlib import Path

# Real, empty directories of the host's own in /etc; everything else there is the machine's.
OWN_ETC = ("libvirt", "libvirt/hooks", "sidecar")
MACHINE_ETC = "/run/machine-etc"
LIBVIRT_VAR = ("/var/lib/libvirt", "/var/log/libvirt")
LIBVIRT_CACHE = "/var/cache/libvirt"


def make_root(root: Path, hostname: str, addresses: dict[str, str]) -> None:
    """Makes the directory tree of a host; `addresses` are the names it shall be able to resolve."""
    for directory in ("run/machine-etc", "run/lab", "run/libvirt", "run/lock", *(f"etc/{name}" for name in OWN_ETC)):
        (root / directory).mkdir(parents=True)
    for directory in LIBVIRT_VAR:
        (root / directory.lstrip("/")).mkdir(parents=True)
    own = {name.split("/")[0] for name in OWN_ETC} | {"hostname", "hosts"}
    for entry in os.scandir("/etc"):
        if entry.name in own:
            continue
        # A link is copied as it is: a relative one means something at its own place only.
        target = os.readlink(entry.path) if entry.is_symlink() else f"{MACHINE_ETC}/{entry.name}"
        (root / "etc" / entry.name).symlink_to(target)
    (root / "etc/hostname").write_text(f"{hostname}\n")
    lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in addresses.items())]
    (root / "etc/hosts").write_text("\n".join(lines) + "\n")


def bind_mounts(root: Path, libvirt_cache: Path) -> list[tuple[Path, Path]]:
    """The mounts that show the tree at its usual places, in the order in which they have to be made.

    libvirt's cache of QEMU's capabilities may be shared by all hosts and runs: libvirt checks it against the
    programs it tells of, and making it takes seconds.
    """
    places = ["/run", "/etc", *LIBVIRT_VAR]
    own = [(root / place.lstrip("/"), Path(place)) for place in places]
    return [(Path("/etc"), root / MACHINE_ETC.lstrip("/")), *own, (libvirt_cache, Path(LIBVIRT_CACHE))]
