"""An operator who follows an advice to the letter, on a host of the lab and in a guest of it.

What stands in backticks is typed on the host as it stands. The lab has no systemd: what its commands would do is done
to the processes, with its manners. What runs is not started again, a service nobody knows cannot be started, and one
that hangs is ended all the same.
"""

import re
import shlex
import signal
from collections.abc import Sequence
from time import sleep
from typing import Protocol

from tests.lab.domain_xml import OVIRT_PORT
from tests.lab.guest import Guest
from tests.lab.guest_files.ports import PORTS
from tests.lab.guest_qga import start_qga
from tests.lab.host import Host
from tests.lab.sidecard import PROGRAMS
from tests.lab.waiting import wait_for

_STEP = re.compile(r"`([^`]+)`|(wait \d+ s)")
_ENVIRONMENT = {"PATH": f"{PROGRAMS}:/usr/sbin:/usr/bin:/sbin:/bin"}
_END_TIMEOUT_S = 10.0


def read_steps(advice: str, alternative: int = 0) -> list[str]:
    """What one of the advice's alternatives says to type, and how long to wait in between, in its order."""
    part = advice.split("; or ")[alternative]
    steps = [command or pause for command, pause in _STEP.findall(part)]
    assert steps, part
    return steps


class Service(Protocol):
    """What ``systemctl`` is asked for."""

    @property
    def is_running(self) -> bool: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


class QemuAgent:
    """The guest's ``qemu-guest-agent``.

    Attributes:
        process: What its process is called now; the next one is a real qemu-ga again.
        blocked: The commands that its configuration takes from it.
    """

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self.process = "qemu-ga"
        self.blocked: Sequence[str] = ()

    @property
    def is_running(self) -> bool:
        return self._guest.shell_status(f"pidof {self.process}")[0] == 0

    def start(self) -> None:
        start_qga(self._guest, block=self.blocked)

    def stop(self) -> None:
        name, self.process = self.process, "qemu-ga"
        self._guest.shell(
            f"killall -TERM {name}; killall -CONT {name}; while pidof {name} >/dev/null; do usleep 10000; done"
        )


class OvirtAgent:
    """The guest's ``ovirt-guest-agent``.

    Attributes:
        era: The release that is installed.
    """

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self.era = "1.0.16"

    @property
    def is_running(self) -> bool:
        return bool(list_users(self._guest, f"{PORTS}/{OVIRT_PORT}"))

    def start(self) -> None:
        self._guest.agent_start(self.era)

    def stop(self) -> None:
        for pid in list_users(self._guest, f"{PORTS}/{OVIRT_PORT}"):
            self._guest.shell(f"kill -TERM {pid}; kill -CONT {pid}")
        wait_for(lambda: not self.is_running, _END_TIMEOUT_S, "the oVirt agent to end")


class SidecardService:
    """The host's ``sidecard``; it is started with the configuration that the test has."""

    def __init__(self, host: Host, configuration: str) -> None:
        self._host, self._configuration = host, configuration

    @property
    def is_running(self) -> bool:
        process = self._host.sidecard.process
        return process is not None and process.poll() is None

    def start(self) -> None:
        self._host.start_sidecard(self._configuration)

    def stop(self) -> None:
        self._host.stop_sidecard()


class LibvirtdService:
    """The host's ``libvirtd``."""

    def __init__(self, host: Host) -> None:
        self._host = host

    @property
    def is_running(self) -> bool:
        process = self._host.libvirtd.process
        return process is not None and process.poll() is None

    def start(self) -> None:
        self._host.start_libvirtd()

    def stop(self) -> None:
        process = self._host.libvirtd.process
        assert process is not None
        process.signal(signal.SIGCONT)  # one that was stopped could not end
        process.entered.send_signal(signal.SIGCONT)  # nsenter stops with its child
        self._host.stop_libvirtd()

    def reload(self) -> None:
        """Its unit knows how."""
        self._host.reload_libvirtd()


def list_users(guest: Guest, path: str) -> list[int]:
    """The processes that have this file of the guest open, as ``fuser`` lists them; its busybox has none."""
    quoted = shlex.quote(path)
    found = guest.shell(
        f"[ -e {quoted} ] || exit 1; "
        f'for fd in /proc/[0-9]*/fd/*; do [ "$fd" -ef {quoted} ] && echo "$fd"; done | cut -d/ -f3 | sort -u'
    )
    return [int(pid) for pid in found.split()]


class Operator:
    """Types what an advice says."""

    def __init__(self, guest: Guest, configuration: str = "") -> None:
        self.guest, self.host = guest, guest.here
        self.qemu_agent, self.ovirt_agent = QemuAgent(guest), OvirtAgent(guest)
        self._services: dict[str, Service] = {
            "qemu-guest-agent": self.qemu_agent,
            "ovirt-guest-agent": self.ovirt_agent,
            "sidecard": SidecardService(self.host, configuration),
            "libvirtd": LibvirtdService(self.host),
        }

    def follow(self, steps: Sequence[str]) -> str:
        """Take the steps one after the other; returns what the last one printed.

        Raises:
            RuntimeError: A command failed.
            LookupError: No such service is here, or systemctl knows no such verb for it.
        """
        printed = ""
        for step in steps:
            printed = self._take(step)
        return printed

    def _take(self, step: str) -> str:
        match step.split():
            case ["wait", seconds, "s"]:
                sleep(int(seconds))  # what the advice says is tried, no more and no less
            case ["systemctl", *verb, service]:
                _control(self._services[service], " ".join(verb))
            case ["journalctl", "-u", service]:
                return self._read_journal(service)
            case ["fuser", "-v", path]:
                return " ".join(map(str, list_users(self.guest, shlex.split(path)[0])))
            case ["virsh", "shutdown", _]:
                self._shut_down(step)
            case ["virsh", "start", _]:
                self._type(step)
                self.guest.moved_to(self.host)
                self.guest.wait_booted()
            case _:
                return self._type(step)
        return ""

    def _type(self, command: str) -> str:
        return self.host.run(["sh", "-ec", command], env=_ENVIRONMENT).stdout

    def _read_journal(self, service: str) -> str:
        if service == "sidecard":
            return self.host.log_text()
        if service == "ovirt-guest-agent":
            return self.guest.agent_log()
        raise LookupError(f"nothing is kept of what {service} says")

    def _shut_down(self, command: str) -> None:
        """The guest has nobody who listens to the button, so it is told otherwise, too."""
        self._type(command)
        self.guest.shell_no_answer("poweroff -f")
        wait_for(self.guest.is_off, _END_TIMEOUT_S, f"{self.guest.name} to be off")


def _control(service: Service, verb: str) -> None:
    if verb == "reload" and isinstance(service, LibvirtdService):
        service.reload()
        return
    if verb not in ("start", "enable --now", "stop", "restart"):
        raise LookupError(f"systemctl {verb}: not of this service")
    if verb in ("stop", "restart") and service.is_running:
        service.stop()
    if verb != "stop" and not service.is_running:
        service.start()
