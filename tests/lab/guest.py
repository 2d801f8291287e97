"""A guest of the lab: a real domain with a real kernel, and a way to have things done in it."""

import base64
import contextlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from signal import SIGTERM

from tests.lab.control_client import ControlClient
from tests.lab.domain_xml import (
    RECORD_URI,
    AgentSpec,
    GuestSpec,
    channel_element,
    channel_path,
    render_channel,
    render_domain,
)
from tests.lab.guest_files.control import CONTROL_PORT, OWN_AGENT
from tests.lab.guest_files.ovirt_agent_main import default_port, log_path
from tests.lab.host import Host
from tests.lab.image import Image

BOOT_TIMEOUT_S = 60.0
MIGRATION_TIMEOUT_S = 120.0


class Guest:
    """One domain, on whichever host it is.

    Attributes:
        spec: what it is made of.
        name: the domain's name.
        host: where it is now; None while it is defined nowhere.
        serial_log: what its console said, on all hosts.
    """

    def __init__(self, spec: GuestSpec, image: Image, directory: Path) -> None:
        self.spec = spec
        self.name = spec.name
        self.host: Host | None = None
        self.serial_log = directory / f"{spec.name}.serial.log"
        self._image = image
        self._disk = directory / f"{spec.name}.qcow2" if spec.disk else None
        self._control = ControlClient(lambda: self.channel_socket(CONTROL_PORT))

    def __repr__(self) -> str:
        return f"<lab guest {self.name} on {self.host}>"

    @property
    def here(self) -> Host:
        """The host it is on.

        Raises:
            RuntimeError: it is on none.
        """
        if self.host is None:
            raise RuntimeError(f"{self.name} is on no host")
        return self.host

    # --- life of the domain

    def define(self, host: Host) -> None:
        """Makes it known to a host; a transient one comes into being with `start` only."""
        self.host = host
        if self._disk is not None and not self._disk.exists():
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(self._disk), "64M"], check=True)
        if self.spec.persistent:
            host.virsh("define", self._xml_file())

    def start(self, paused: bool = False) -> None:
        """Starts it (or restores it, when it was saved); does not wait for the guest to boot."""
        self._control.close()
        flags = ["--paused"] if paused else []
        if self.spec.persistent:
            self.here.virsh("start", self.name, *flags)
        else:
            self.here.virsh("create", self._xml_file(), *flags)

    def wait_booted(self, timeout_s: float = BOOT_TIMEOUT_S) -> None:
        """Returns when the guest does what it is asked for."""
        self._control.ask("ping", timeout_s)

    def migrate(
        self,
        destination: Host,
        *options: str,
        live: bool = True,
        postcopy: bool = False,
        offline: bool = False,
        timeout_s: float = MIGRATION_TIMEOUT_S,
    ) -> None:
        """Moves it to another host, configuration and all, and returns when virsh does.

        `options` are given to `virsh migrate`.

        Raises:
            RuntimeError: it failed; the guest is where it was, and `host` still says so.
        """
        self.here.virsh(
            *self.migrate_command(destination, *options, live=live, postcopy=postcopy, offline=offline),
            timeout_s=timeout_s,
        )
        self.moved_to(destination)

    def moved_to(self, host: Host) -> None:
        """Tells that the domain is on that host now, for a test that has moved it by other means."""
        self._control.close()
        self.host = host

    def migrate_command(
        self, destination: Host, *options: str, live: bool = True, postcopy: bool = False, offline: bool = False
    ) -> list[str]:
        """The arguments of virsh, for a test that wants to do something while it runs."""
        flags = ["--offline"] if offline else ["--live"] if live else []
        if postcopy:
            flags += ["--postcopy", "--postcopy-after-precopy"]
        if self.spec.persistent:
            flags += ["--persistent", "--undefinesource"]
        return ["migrate", *flags, *options, self.name, destination.migration_uri]

    def reset(self) -> None:
        """The reset button: QEMU stays, the guest boots anew."""
        self.here.virsh("reset", self.name)
        self._control.close()

    def revert(self, snapshot: str) -> None:
        """Goes back to a snapshot; libvirt starts a new QEMU for it."""
        self.here.virsh("snapshot-revert", self.name, snapshot)
        self._control.close()

    def destroy(self) -> None:
        """Ends it wherever it is and forgets it; harmless when there is nothing to end."""
        self._control.close()
        if self.host is None:
            return
        host, self.host = self.host, None
        if self.name in host.virsh("list", "--name").splitlines():
            host.virsh("destroy", self.name)
        if self.name in host.virsh("list", "--all", "--name").splitlines():
            host.virsh("undefine", self.name, "--managed-save", "--snapshots-metadata")

    def is_running(self) -> bool:
        """Whether the domain runs on its host."""
        return self.here.virsh("domstate", self.name, check=False).strip() == "running"

    def is_off(self) -> bool:
        """Whether its host has let go of it; between the guest's end and that it is "in shutdown", which is neither."""
        return self.name not in self.here.virsh("list", "--name").splitlines()

    def plug(self, channel: str) -> None:
        """Plugs a channel in while it runs."""
        self.here.virsh("attach-device", self.name, self._file("plugged", render_channel(channel)), "--live")

    def unplug(self, channel: str) -> None:
        """Has a channel unplugged while it runs; libvirt takes it out of the XML once the guest has let go."""
        element = channel_element(self.dumpxml(), channel)
        self.here.virsh("detach-device", self.name, self._file("plugged", element), "--live")

    # --- what libvirt says about it

    def dumpxml(self, *options: str) -> str:
        """The XML: live, or what `options` (`--inactive`) ask for."""
        return self.here.virsh("dumpxml", self.name, *options)

    def record(self, config: bool = False) -> str | None:
        """The agreement's element as text, live or from the configuration; None when there is none."""
        flags = ["--config"] if config else []
        text = self.here.virsh("metadata", self.name, RECORD_URI, *flags, check=False).strip()
        return text or None

    def channel_socket(self, channel: str) -> Path:
        """A channel's socket, as a path for this process."""
        return self.here.path(channel_path(self.dumpxml(), channel))

    # --- what happens in it

    def shell(self, command: str, timeout_s: float = 30.0, check: bool = True) -> str:
        """Output of a shell command in the guest, both streams.

        Raises:
            RuntimeError: `check`, and its exit status is not 0.
            TimeoutError: no answer.
        """
        status, output = self.shell_status(command, timeout_s)
        if check and status != 0:
            raise RuntimeError(f"{self.name}: status {status} from: {command}\n{output}")
        return output

    def shell_status(self, command: str, timeout_s: float = 30.0) -> tuple[int, str]:
        """Exit status and output of a shell command in the guest."""
        return self._control.ask("shell", timeout_s + 5, command=command, limit_s=timeout_s)

    def shell_no_answer(self, command: str) -> None:
        """Has a command run that ends the guest, or the control channel (`reboot -f`)."""
        self._control.send("shell", command=command, limit_s=5)
        self._control.close()

    def put(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Writes a file in the guest."""
        self._checked("put", path=path, data=base64.b64encode(content).decode(), mode=mode)

    def agent_start(
        self,
        era: str = "1.0.16",
        heartbeat_s: float = 0.5,
        prompt: bool = False,
        port: str | None = None,
        maximum: int | None = None,
    ) -> int:
        """Starts an oVirt agent and returns its process id in the guest; port None: what a Linux agent takes."""
        agent = AgentSpec(era, heartbeat_s, prompt, maximum)
        output = self._checked(
            "agent-start",
            port=port,
            era=agent.era,
            heartbeat_s=agent.heartbeat_s,
            prompt=agent.prompt,
            maximum=agent.maximum,
        )
        return int(output)

    def agent_stop(self, number: int = SIGTERM, port: str | None = None) -> None:
        """Sends the agent a signal and, unless that is SIGSTOP or SIGCONT, returns when it has ended."""
        self._checked("agent-stop", port=port or self._default_port(), signal=int(number))

    def agent_restart(self, agent: AgentSpec | None = None, number: int = SIGTERM, port: str | None = None) -> int:
        """Ends the agent and starts one like `agent`."""
        agent = agent or self.spec.agent or AgentSpec()
        self.agent_stop(number, port)
        return self.agent_start(agent.era, agent.heartbeat_s, agent.prompt, port, agent.maximum)

    def agent_log(self, port: str | None = None) -> str:
        """What the agent process that was started last wrote."""
        return self.shell(f"cat {log_path(port or self._default_port())}")

    def agent_events(self, port: str | None = None) -> list[dict[str, object]]:
        """What happened to the agent process that was started last: start, received, version, stop."""
        return [json.loads(line) for line in self.agent_log(port).splitlines()]

    def agent_version(self, port: str | None = None) -> int:
        """The API version that the agent itself believes to be in force, as its own log tells."""
        if self.spec.agent is not None and self.spec.agent.era == OWN_AGENT:
            believed = re.findall(r"API version (\d) in force", self.agent_log(port))
            return int(believed[-1]) if believed else 0
        told = [event["version"] for event in self.agent_events(port) if event["event"] == "version"]
        return int(str(told[-1])) if told else 0

    def agent_received(self, port: str | None = None) -> list[tuple[str, dict[str, object]]]:
        """The commands that the agent got since its start: name and arguments."""
        received = [event for event in self.agent_events(port) if event["event"] == "received"]
        return [(str(event["name"]), dict(event["arguments"])) for event in received]  # type: ignore[call-overload]

    # --- for the record

    def save_artefacts(self, directory: Path) -> None:
        """Copies its XML and its console; what cannot be had any more is left out."""
        directory.mkdir(parents=True, exist_ok=True)
        if self.serial_log.exists():
            shutil.copy(self.serial_log, directory)
        with contextlib.suppress(Exception):
            (directory / f"{self.name}.xml").write_text(self.dumpxml())
            (directory / f"{self.name}.inactive.xml").write_text(self.dumpxml("--inactive"))

    def _checked(self, operation: str, **arguments: object) -> str:
        status, output = self._control.ask(operation, 30, **arguments)
        if status != 0:
            raise RuntimeError(f"{self.name}: {operation} {arguments}: {output}")
        return output

    def _default_port(self) -> str:
        port = default_port(set(self.spec.channels))
        if port is None:
            raise LookupError(f"{self.name} has no oVirt port")
        return port

    def _xml_file(self) -> str:
        return self._file("domain", render_domain(self.spec, self._image, self.serial_log, self._disk))

    def _file(self, kind: str, xml: str) -> str:
        path = self.serial_log.with_name(f"{self.name}.{kind}.xml")
        path.write_text(xml)
        return str(path)
