"""In the guest: does what the test on the host asks for, over the port `lab.control.0`.

One JSON object a line, `{"id": N, "op": NAME, ...}`; the answer is `{"id": N, "status": S, "output": TEXT}`, S
being an exit status. Whatever is no such object is skipped, so that a connection which was cut in mid-line heals
itself. This process also names the ports, starts what speaks at boot, and is what agents are forked from: a
Python that is running already forks in milliseconds, where a new one takes half a second under TCG.
"""

import json
import os
import select
import signal
import time
from collections.abc import Iterator
from socket import socket

from tests.lab.guest_files import ports
from tests.lab.guest_files.ovirt_agent_main import default_port, log_path, run_agent

CONTROL_PORT = "lab.control.0"
QGA_PORT = "org.qemu.guest_agent.0"

# Where other agents have their era.
OWN_AGENT = "own"
OWN_AGENT_CONFIGURATION = "/run/sidecar-guest-agent.toml"

# Nothing tells when a host comes back to a port that has none: look so often.
NO_HOST_PAUSE_S = 0.05
AGENT_END_TIMEOUT_S = 5.0

Request = dict[str, object]
Answer = tuple[int, str]


class Control:
    """The state of the loop: the ports seen, and the agents forked, by port."""

    def __init__(self) -> None:
        self._settings = _kernel_settings()
        self._agents: dict[str, int] = {}
        self._started = False
        self._buffer = b""

    def run(self) -> None:
        """Serves for ever; init starts another one should this one end."""
        events = ports.listen()
        while CONTROL_PORT not in self._look(events):
            select.select([events.fileno()], [], [])
        port = os.open(f"{ports.PORTS}/{CONTROL_PORT}", os.O_RDWR)
        while True:
            readable, _, _ = select.select([port, events.fileno()], [], [])
            if events.fileno() in readable:
                self._look(events)
            if port in readable:
                self._serve(port)

    def _look(self, events: socket) -> set[str]:
        """Names the ports; once all that were announced are there, starts what belongs to them."""
        ports.drain(events)
        names = ports.link_ports()
        if not self._started and len(names) >= int(self._settings.get("ports", "1")):
            self._started = True
            self._start_at_boot(names)
        return names

    def _start_at_boot(self, names: set[str]) -> None:
        era = self._settings.get("agent", "none")
        port = default_port(names)
        if era != "none" and port is not None:
            maximum = self._settings.get("maximum")
            self._start_agent(
                port,
                era=era,
                maximum=None if maximum is None else int(maximum),
                prompt=self._settings.get("prompt") == "1",
                heartbeat_s=float(self._settings.get("heartbeat", "5")),
            )
        if QGA_PORT in names and self._settings.get("qga", "1") == "1":
            _start_qga()

    def _serve(self, port: int) -> None:
        data = os.read(port, 65536)
        if not data:
            time.sleep(NO_HOST_PAUSE_S)
        for request in self._requests(data):
            status, output = self._execute(request)
            answer = {"id": request.get("id"), "status": status, "output": output}
            _write(port, json.dumps(answer).encode() + b"\n")

    def _requests(self, data: bytes) -> Iterator[Request]:
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            try:
                request = json.loads(line)
            except ValueError:
                continue
            if isinstance(request, dict):
                yield request

    def _execute(self, request: Request) -> Answer:
        for port in list(self._agents):
            self._agent_lives(port)  # a command must not find the zombie of one that was killed
        try:
            match request.pop("op", None):
                case "ping":
                    return 0, ""
                case "shell":
                    return _shell(str(request["command"]), float(str(request["limit_s"])))
                case "put":
                    return _put(request)
                case "agent-start":
                    return self._start_requested_agent(request)
                case "agent-stop":
                    return self._stop_agent(str(request["port"]), int(str(request["signal"])))
                case unknown:
                    return 127, f"no such operation: {unknown}"
        except Exception as error:  # the loop must live on, and the test must hear of it
            return 126, f"{type(error).__name__}: {error}"

    def _start_requested_agent(self, request: Request) -> Answer:
        maximum = request.get("maximum")
        port = request.get("port") or default_port(ports.link_ports())
        return self._start_agent(
            str(port),
            era=str(request["era"]),
            maximum=None if maximum is None else int(str(maximum)),
            prompt=bool(request["prompt"]),
            heartbeat_s=float(str(request["heartbeat_s"])),
        )

    def _start_agent(self, port: str, era: str, maximum: int | None, prompt: bool, heartbeat_s: float) -> Answer:
        if self._agent_lives(port):
            return 1, f"an agent runs on {port} already"
        if era == OWN_AGENT:
            pid = _start_own_agent(port, heartbeat_s)
        else:
            pid = os.fork()
            if pid == 0:
                _become_agent(port, era, maximum, prompt, heartbeat_s)
        self._agents[port] = pid
        return 0, str(pid)

    def _stop_agent(self, port: str, number: int) -> Answer:
        if not self._agent_lives(port):
            return 1, f"no agent runs on {port}"
        os.kill(self._agents[port], number)
        if number in (signal.SIGSTOP, signal.SIGCONT):
            return 0, ""
        deadline = time.monotonic() + AGENT_END_TIMEOUT_S
        while self._agent_lives(port):
            if time.monotonic() > deadline:
                return 1, f"the agent on {port} lives on"
            time.sleep(0.01)
        return 0, ""

    def _agent_lives(self, port: str) -> bool:
        """Also reaps it when it does not."""
        pid = self._agents.get(port)
        if pid is not None and os.waitpid(pid, os.WNOHANG) != (0, 0):
            del self._agents[port]
        return port in self._agents


def _become_agent(port: str, era: str, maximum: int | None, prompt: bool, heartbeat_s: float) -> None:
    """Never returns: the child must not come back into the control loop, and keeps none of its parent's ports."""
    status = 1
    try:
        os.setsid()
        os.closerange(3, 64)
        run_agent(port, era, maximum, prompt, heartbeat_s)
    except SystemExit:
        status = 0
    except BaseException as error:
        os.write(2, f"agent on {port}: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(status)


def _start_own_agent(port: str, heartbeat_s: float) -> int:
    """The project's agent, as a guest's systemd would start it; a test may have put a configuration there."""
    if not os.path.exists(OWN_AGENT_CONFIGURATION):
        with open(OWN_AGENT_CONFIGURATION, "w", encoding="utf-8") as configuration:
            configuration.write(f"[rates]\nheartbeat_seconds = {heartbeat_s}\n")
    words = ["python3", "-m", "sidecar.guest", "--config", OWN_AGENT_CONFIGURATION, "--device", f"{ports.PORTS}/{port}"]
    log = os.open(log_path(port), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        return os.posix_spawn(
            "/usr/bin/python3",
            words,
            {**os.environ, "PYTHONPATH": "/lab"},
            file_actions=[(os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)],
        )
    finally:
        os.close(log)


def _start_qga() -> None:
    """Through a shell that ends: so init becomes its parent, which reaps it when a test has killed it."""
    command = f"/usr/sbin/qemu-ga -m virtio-serial -p {ports.PORTS}/{QGA_PORT} -t /run &"
    os.waitpid(os.posix_spawn("/bin/sh", ["sh", "-c", command], os.environ), 0)


def _shell(command: str, timeout_s: float) -> Answer:
    """Output goes through a file: with a pipe a background process of the command would hold us up."""
    import subprocess  # here, since it would delay the first words of the agent at boot

    with open("/run/lab-shell.out", "w+b") as output:
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            check=False,
        )
        output.seek(0)
        return done.returncode, output.read().decode("utf-8", "replace")


def _put(request: Request) -> Answer:
    import base64

    path = str(request["path"])
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as target:
        target.write(base64.b64decode(str(request["data"])))
    os.chmod(path, int(str(request["mode"])))
    return 0, ""


def _write(port: int, data: bytes) -> None:
    while data:
        data = data[os.write(port, data) :]


def _kernel_settings() -> dict[str, str]:
    """The words `lab.KEY=VALUE` of the kernel's command line."""
    with open("/proc/cmdline", encoding="utf-8") as cmdline:
        words = [word[4:].partition("=") for word in cmdline.read().split() if word.startswith("lab.")]
    return {key: value for key, _, value in words}


def main() -> None:
    """Entry of the process that init keeps alive."""
    os.environ["PATH"] = "/bin:/usr/bin:/usr/sbin"
    Control().run()
