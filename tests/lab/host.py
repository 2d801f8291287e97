"""A lab host: a private "machine" with its own libvirtd and sidecard.

The default paths (`qemu:///system`, /etc/libvirt/hooks, /run/sidecar, ...) just work inside.
"""

import shutil
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import SIGTERM
from typing import IO

from tests.lab.libvirtd import LOG as LIBVIRTD_LOG
from tests.lab.libvirtd import SOCKET, Libvirtd
from tests.lab.namespaces import InsideProcess, Namespaces
from tests.lab.private_root import bind_mounts, make_root
from tests.lab.sidecard import PROGRAMS, Sidecard

_UUID_SPACE = uuid.UUID("b7d0e9a4-6c1f-4f0b-9a55-3f2f4c7f8b61")


class Host:
    """One host of the lab.

    Attributes:
        name: hostname.
        address: its IPv4 address on the lab's network.
        host_uuid: what libvirt tells in its capabilities.
        root: the private directory behind its /etc, /run and libvirt's directories.
        inside: its namespaces.
    """

    def __init__(self, name: str, address: str, root: Path, libvirt_cache: Path) -> None:
        self.name = name
        self.address = address
        self.host_uuid = str(uuid.uuid5(_UUID_SPACE, name))
        self.root = root
        self.inside = Namespaces(name, bind_mounts(root, libvirt_cache))
        make_root(root, name, {name: address})
        self.libvirtd = Libvirtd(self.inside, root, address, self.host_uuid)
        self.sidecard = Sidecard(self.inside, root)
        self._log_begin = 0

    def __repr__(self) -> str:
        return f"<lab host {self.name}>"

    def start(self) -> None:
        """Namespaces and mounts; libvirtd is started by itself, the network is laid by the lab."""
        self.inside.start()

    def stop(self) -> None:
        """Ends everything that runs inside, at once."""
        self.inside.stop()

    @property
    def uri(self) -> str:
        """libvirt URI of this host for a client outside of it."""
        return f"qemu+unix:///system?socket={self.path(SOCKET)}"

    @property
    def migration_uri(self) -> str:
        """libvirt URI of this host for the other hosts."""
        return f"qemu+tcp://{self.address}/system"

    def path(self, inside: str | Path) -> Path:
        """A path of the host as one that works outside of it, sockets included."""
        return self.inside.path(inside)

    def run(
        self,
        argv: Sequence[str],
        timeout_s: float = 60.0,
        check: bool = True,
        stdin_text: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program on this host; see `Namespaces.run`."""
        return self.inside.run(argv, timeout_s, check, stdin_text, env)

    def popen(
        self,
        argv: Sequence[str],
        stdin: int | IO[str] | None = subprocess.DEVNULL,
        stdout: int | IO[str] | None = None,
        stderr: int | IO[str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> InsideProcess:
        """Starts a program on this host; see `Namespaces.popen`."""
        return self.inside.popen(argv, stdin, stdout, stderr, env)

    def virsh(self, *arguments: str, timeout_s: float = 60.0, check: bool = True) -> str:
        """Standard output of a virsh command.

        Raises:
            RuntimeError: `check`, and it failed.
        """
        argv = ["virsh", "--quiet", "--connect", "qemu:///system", *arguments]
        return self.run(argv, timeout_s=timeout_s, check=check).stdout

    def start_libvirtd(self) -> None:
        """Returns when libvirtd answers."""
        self.libvirtd.start()

    def stop_libvirtd(self, kill: bool = False) -> None:
        """SIGTERM, or SIGKILL; the guests run on."""
        self.libvirtd.stop(kill)

    def restart_libvirtd(self, kill: bool = False) -> None:
        """Stop and start."""
        self.libvirtd.stop(kill)
        self.libvirtd.start()

    def reload_libvirtd(self) -> None:
        """SIGHUP."""
        self.libvirtd.reload()

    def install_hook(self) -> None:
        """Installs the project's hook, and has libvirtd take notice of it."""
        self.run([str(PROGRAMS / "sidecarctl"), "hooks", "install"])
        self.reload_libvirtd()

    def start_sidecard(self, config_text: str = "", program: Sequence[str] | None = None) -> InsideProcess:
        """Returns when sidecard is ready; see `Sidecard.start`."""
        return self.sidecard.start(config_text, program)

    def stop_sidecard(self, number: int = SIGTERM) -> int:
        """Exit status of the daemon that was running."""
        return self.sidecard.stop(number)

    def log_text(self) -> str:
        """What the host's sidecards said since the last `clean`."""
        if not self.sidecard.log.exists():
            return ""
        return self.sidecard.log.read_bytes()[self._log_begin :].decode(errors="replace")

    def clean(self) -> None:
        """Takes away sidecard, hooks and the sidecar's files, and sees to it that libvirtd runs."""
        if self.sidecard.process is not None:
            self.sidecard.stop()
        self._log_begin = self.sidecard.log.stat().st_size if self.sidecard.log.exists() else 0
        hooks = any((self.root / "etc/libvirt/hooks").iterdir())
        for directory in ("etc/libvirt/hooks", "etc/sidecar", "run/sidecar"):
            shutil.rmtree(self.root / directory, ignore_errors=True)
        for directory in ("etc/libvirt/hooks", "etc/sidecar"):
            (self.root / directory).mkdir()
        process = self.libvirtd.process
        if hooks or process is None or process.poll() is not None:
            self.restart_libvirtd()  # a reload does not make it forget a hook

    def log_files(self) -> list[Path]:
        """Every log of this host that exists."""
        fixed = [self.root / "libvirtd.out", self.root / LIBVIRTD_LOG.lstrip("/"), self.sidecard.log]
        domains = sorted((self.root / "var/log/libvirt/qemu").glob("*.log"))
        return [path for path in [*fixed, *domains] if path.exists()]
