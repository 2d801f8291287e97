"""How many calls a lab host's libvirtd was asked for: its own log tells of each one that it dispatches.

The log is switched on and off in the running daemon. Keepalive is no call, and is not in it.
"""

from tests.lab.host import Host

LOG = "/var/log/libvirt/calls.log"
_USUAL_LOG = "/var/log/libvirt/libvirtd.log"
_FILTER = "1:rpc.netserverprogram"
_MARK = "virNetServerProgramDispatch:"
# What clients ask for, and what they ask the QEMU driver for; virt-admin, which we use, has a program of its own.
_PROGRAMS = ("prog=536903814 ", "prog=536903815 ")


class CallLog:
    """The calls of all clients of one libvirtd."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._file = host.root / LOG.lstrip("/")

    def start(self) -> None:
        """Log calls from now on."""
        self._admin("daemon-log-outputs", f"3:file:{_USUAL_LOG} 1:file:{LOG}")
        self._admin("daemon-log-filters", _FILTER)

    def count(self) -> int:
        """Calls since ``start``."""
        lines = self._file.read_text(errors="replace").splitlines()
        return sum(_MARK in line and any(program in line for program in _PROGRAMS) for line in lines)

    def _admin(self, command: str, value: str) -> None:
        self._host.run(["virt-admin", "--connect", "libvirtd:///system", command, value])
