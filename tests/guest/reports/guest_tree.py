"""A guest's files and programs, made for one test."""

from collections.abc import Mapping
from pathlib import Path

# A plausible guest, with all that every report looks at.
PLAIN: Mapping[str, str] = {
    "proc/sys/kernel/hostname": "web\n",
    "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 web.example.org web\n",
    "etc/os-release": 'NAME="Debian GNU/Linux"\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n',
    "proc/meminfo": "MemTotal: 4000 kB\nMemFree: 1000 kB\nBuffers: 200 kB\nCached: 300 kB\n"
    "SwapTotal: 2000 kB\nSwapFree: 1500 kB\n",
    "proc/vmstat": "pswpin 1\npswpout 2\npgfault 3\npgmajfault 4\n",
    "proc/filesystems": "nodev\tproc\nnodev\tnfs4\nnodev\tzfs\n\text4\n\tfuseblk\n\tgfs2\n",
    "proc/self/mountinfo": "21 1 8:1 / / rw - ext4 /dev/vda1 rw\n",
    "sys/devices/system/cpu/online": "0-3\n",
    "sys/block/vda/serial": "disk-of-web",
    "etc/timezone": "Europe/Berlin\n",
    "var/lib/dpkg/status": "Package: linux-image-6.1\nStatus: install ok installed\nVersion: 6.1.0-1\n",
    "run/utmp": "",
}


def plant(root: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write the files below the root, which is returned."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def plant_program(directory: Path, name: str, script: str) -> None:
    """An executable shell script; with ``PATH`` at the directory nothing else is found."""
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
