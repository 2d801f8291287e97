"""Hosts that share a bus, and what is asked of them over it."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sidecar.api.operations import Operation
from sidecar.api.problems import ProblemError
from sidecar.api.views import FleetHostView, FleetView
from sidecar.errors import DaemonUnreachableError
from tests.bus.permissions import ADMIN, READER
from tests.lab.api import api
from tests.lab.host import Host
from tests.lab.lab_broker import LabBroker
from tests.lab.namespaces import InsideProcess
from tests.lab.sidecard import PROGRAMS
from tests.lab.waiting import wait_for

SIDECARCTL = str(PROGRAMS / "sidecarctl")
PYTHON = str(PROGRAMS / "python")
CLIENT_FILE = "/etc/sidecar/client.toml"
LISTENER = Path(__file__).with_name("bus_listener.py")
CALLER = Path(__file__).with_name("bus_caller.py")

# Until all know each other: an echo, and the answers to the first word.
JOIN_TIMEOUT_S = 30.0


class BusCaller:
    """A foreign program on the broker's machine, of somebody who may do everything."""

    def __init__(self, process: InsideProcess) -> None:
        self.process = process

    def call(self, server: str, operation: Operation, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """What an operation of a host's comes to: ``result`` or ``problem``."""
        topic = "sidecar-admin" if operation.changes else "sidecar"
        return self.call_method(server, topic, str(operation.since), operation.name, arguments)

    def call_method(
        self, server: str, topic: str, version: str, method: str, arguments: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Likewise, of whatever there is or is not."""
        asked = {"topic": topic, "server": server, "version": version, "method": method, "arguments": arguments}
        stdin, stdout = self.process.entered.stdin, self.process.entered.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(asked) + "\n")
        stdin.flush()
        answer: dict[str, Any] = json.loads(stdout.readline())
        return answer

    def end(self) -> None:
        """Ends the program."""
        self.process.end()
        for pipe in (self.process.entered.stdin, self.process.entered.stdout):
            assert pipe is not None
            pipe.close()


@dataclass(frozen=True, slots=True)
class Fleet:
    """Some hosts and their broker."""

    broker: LabBroker
    hosts: tuple[Host, ...]

    def start(self, host: Host, more: str = "", *, admin: bool = False, tls: bool = False, patch: str = "") -> None:
        """Start a host's daemon on the bus; returns when it knows its name.

        ``patch``: Python that runs before anything else of its is imported.
        """
        program = [PYTHON, "-c", f"{patch}\nfrom sidecar.daemon import main\nmain()\n"] if patch else None
        host.start_sidecard(more + self.broker.host_section(admin=admin, tls=tls), program)
        host.path(CLIENT_FILE).write_text(self.broker.client_section())
        wait_for(partial(self._knows_itself, host), JOIN_TIMEOUT_S, f"{host.name} to know itself")

    def wait_joined(self, *hosts: Host) -> None:
        """Return when each of these hosts, or all, gets an answer of each."""
        names = {host.name for host in hosts or self.hosts}
        for host in hosts or self.hosts:
            wait_for(partial(self._is_answered, host, names), JOIN_TIMEOUT_S, f"{host.name} to hear {names}")

    def wait_forgotten(self, host: Host, name: str) -> None:
        """Return when a host knows another one no more."""
        wait_for(lambda: self.find(host, name) is None, JOIN_TIMEOUT_S, f"{host.name} to have forgotten {name}")

    def _knows_itself(self, host: Host) -> bool:
        with api(host) as client:
            try:
                return client.host().hostname == host.name
            except ProblemError:  # libvirt has not told yet
                return False

    def _is_answered(self, host: Host, names: set[str]) -> bool:
        return self.answering(host) >= names

    def answering(self, host: Host) -> set[str]:
        """Which hosts answer this one."""
        return {each.hostname for each in self.look(host).hosts if each.answered}

    def find(self, host: Host, name: str) -> FleetHostView | None:
        """What a host knows of another."""
        return next((each for each in self.look(host).hosts if each.hostname == name), None)

    def look(self, host: Host) -> FleetView:
        """What a host knows of the fleet; nothing while its daemon is not there, or not on the bus."""
        try:
            with api(host) as client:
                return client.fleet(timeout_s=2.0)
        except (ProblemError, DaemonUnreachableError):
            return FleetView(False, (), {})

    def sidecarctl(self, host: Host, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """What ``sidecarctl`` says on a host; over the bus it is somebody who may do everything."""
        return host.run([SIDECARCTL, *arguments], check=False, stdin_text=stdin, env={"SIDECAR_BUS": CLIENT_FILE})

    def listen(self, output: Path, user: str) -> InsideProcess:
        """A foreign program that receives all notifications; returns when none can escape it any more."""
        configuration = output.with_suffix(".conf")
        configuration.write_text(self.oslo_configuration(user))
        argv = [PYTHON, "-W", "ignore", str(LISTENER), str(configuration)]
        with output.open("w") as lines, output.with_suffix(".log").open("w") as log:
            process = self.broker.inside.popen(argv, stdout=lines, stderr=log)
        wait_for(lambda: output.read_text().startswith('"listening"'), JOIN_TIMEOUT_S, "the listener to listen")
        return process

    def start_caller(self, directory: Path) -> BusCaller:
        """A foreign program that calls whatever it is told to."""
        configuration, log = directory / "caller.conf", directory / "caller.log"
        configuration.write_text(self.oslo_configuration(READER))
        urls = [self.broker.url(user) for user in (READER, ADMIN)]
        argv = [PYTHON, "-W", "ignore", str(CALLER), str(configuration), *urls]
        with log.open("w") as errors:
            return BusCaller(self.broker.inside.popen(argv, subprocess.PIPE, subprocess.PIPE, errors))

    def run_python(self, program: str) -> subprocess.CompletedProcess[str]:
        """Run a foreign program on the broker's machine."""
        return self.broker.inside.run([PYTHON, "-W", "ignore", "-c", program], check=False)

    def oslo_configuration(self, user: str) -> str:
        """Of a foreign program of oslo.messaging's, by what docs/bus.md says."""
        url = self.broker.url(user)
        rabbit = "amqp_durable_queues = true\nrabbit_interval_max = 2\n"
        return f"[DEFAULT]\ntransport_url = {url}\n[oslo_messaging_rabbit]\n{rabbit}"
