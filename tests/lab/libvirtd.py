"""libvirtd on a lab host: configuration, start, stop, reload."""

import signal
import socket
from pathlib import Path

from tests.lab.namespaces import InsideProcess, Namespaces
from tests.lab.waiting import wait_for

SOCKET = "/run/libvirt/libvirt-sock"
PID_FILE = "/run/libvirt/libvirtd.pid"
LOG = "/var/log/libvirt/libvirtd.log"
START_TIMEOUT_S = 30.0

_LIBVIRTD_CONF = """\
listen_tls = 0
listen_tcp = 1
listen_addr = "0.0.0.0"
auth_tcp = "none"
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_group = "root"
host_uuid = "{host_uuid}"
log_outputs = "3:file:{log}"
"""

# No security driver, cgroups or private /dev: QEMU's surroundings are the lab host itself.
_QEMU_CONF = """\
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
remember_owner = 0
stdio_handler = "file"
migration_host = "{address}"
"""


class Libvirtd:
    """The libvirt daemon of one host."""

    def __init__(self, inside: Namespaces, root: Path, address: str, host_uuid: str) -> None:
        self._inside = inside
        self._root = root
        self._process: InsideProcess | None = None
        etc = root / "etc/libvirt"
        (etc / "libvirtd.conf").write_text(_LIBVIRTD_CONF.format(host_uuid=host_uuid, log=LOG))
        (etc / "qemu.conf").write_text(_QEMU_CONF.format(address=address))

    @property
    def process(self) -> InsideProcess | None:
        """The running daemon, if one was started."""
        return self._process

    def start(self) -> None:
        """Returns when it answers."""
        with (self._root / "libvirtd.out").open("a") as output:
            # Without "-p" the daemons of all hosts would fight over one file.
            argv = ["libvirtd", "--listen", "--pid-file", PID_FILE]
            self._process = self._inside.popen(argv, stdout=output, stderr=output)
        wait_for(self._accepts, START_TIMEOUT_S, f"libvirtd of {self._inside.hostname} to accept")
        self._inside.run(["virsh", "--connect", "qemu:///system", "uri"], timeout_s=START_TIMEOUT_S)

    def stop(self, kill: bool = False) -> None:
        """Ends the daemon; the guests run on."""
        process, self._process = self._process, None
        if process is not None:
            process.end(signal.SIGKILL if kill else signal.SIGTERM)

    def reload(self) -> None:
        """SIGHUP: among other things it looks for hooks that were not there when it started."""
        if self._process is None:
            raise RuntimeError("libvirtd is not running")
        self._process.signal(signal.SIGHUP)

    def _accepts(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"libvirtd ended: {self._last_words()}")
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self._inside.path(SOCKET))) == 0

    def _last_words(self) -> str:
        logs = [self._root / "libvirtd.out", self._root / LOG.lstrip("/")]
        return "\n".join(log.read_text(errors="replace")[-4000:] for log in logs if log.exists())
