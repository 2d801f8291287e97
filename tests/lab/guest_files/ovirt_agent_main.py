"""In the guest: runs the model of an original agent on a real virtio-serial port.

Like the original it blocks when it writes and no host is there, and reads nothing but an end of file then.
What happens is written to a file, one JSON object a line, for the test to read: `start`, `received`, `version`,
`stop`.
"""

import json
import os
import select
import signal
import time

from tests.fakes.ovirt_agent import AgentModel, Era
from tests.lab.guest_files.ports import PORTS

# The choice of a Linux agent: the legacy port whenever that exists.
DEFAULT_PORTS = ("com.redhat.rhevm.vdsm", "ovirt-guest-agent.0")

# The original sleeps a second when it reads nothing, that is, when no host has the channel open.
NO_HOST_PAUSE_S = 1.0


def default_port(names: set[str]) -> str | None:
    """The port a Linux agent opens, if the machine has one."""
    return next((name for name in DEFAULT_PORTS if name in names), None)


def log_path(port: str) -> str:
    """Where the agent on that port tells what happened to it."""
    return f"/run/ovirt-agent-{port}.log"


class Runner:
    """Drives one model with a port and a clock."""

    def __init__(self, model: AgentModel, port: str, heartbeat_s: float) -> None:
        self._model = model
        self._heartbeat_s = heartbeat_s
        self._log = open(log_path(port), "w", buffering=1, encoding="utf-8")  # noqa: SIM115 (process's life)
        self._port = os.open(f"{PORTS}/{port}", os.O_RDWR)
        self._told_version = 0
        self._told_commands = 0

    def run(self) -> None:
        """Speaks until the process is told to end."""
        poll = select.poll()
        poll.register(self._port, select.POLLIN)
        self._tell("start", era=self._model.era.value, pid=os.getpid(), maximum=self._model.maximum)
        self._write(self._model.start())
        due = time.monotonic() + self._heartbeat_s
        while True:
            left_s = due - time.monotonic()
            if left_s <= 0:
                self._write(self._model.heartbeat())
                due = time.monotonic() + self._heartbeat_s
            elif poll.poll(left_s * 1000):
                due = min(due, self._read(left_s))

    def leave(self) -> None:
        """Says goodbye, unless no host is there to hear it: then the write would block."""
        poll = select.poll()
        poll.register(self._port, select.POLLOUT)
        if poll.poll(0) == [(self._port, select.POLLOUT)]:
            self._write(self._model.stop())
        self._tell("stop")

    def _read(self, left_s: float) -> float:
        """Handles what came; returns when a heartbeat is due for it."""
        data = os.read(self._port, 4096)
        if not data:
            time.sleep(min(left_s, NO_HOST_PAUSE_S))
        self._write(self._model.receive(data))
        follow_up_s, self._model.follow_up_s = self._model.follow_up_s, None
        return float("inf") if follow_up_s is None else time.monotonic() + follow_up_s

    def _write(self, lines: list[bytes]) -> None:
        self._tell_changes()  # before the host can know: a test that saw the answer finds the entry
        data = b"".join(lines)
        while data:
            data = data[os.write(self._port, data) :]

    def _tell_changes(self) -> None:
        for command in self._model.log[self._told_commands :]:
            self._tell("received", name=command.name, arguments=command.arguments)
        self._told_commands = len(self._model.log)
        if self._model.version != self._told_version:
            self._told_version = self._model.version
            self._tell("version", version=self._told_version)

    def _tell(self, event: str, **details: object) -> None:
        entry = {"event": event, "uptime": time.monotonic(), **details}
        self._log.write(json.dumps(entry) + "\n")


def run_agent(port: str, era: str, maximum: int | None, prompt: bool, heartbeat_s: float) -> None:
    """The whole life of an agent process; SIGTERM and SIGINT end it in good order."""
    with open("/proc/self/comm", "w", encoding="utf-8") as comm:
        comm.write("ovirt-agent")  # the name for pidof and killall
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    runner = Runner(AgentModel(Era(era), maximum, prompt), port, heartbeat_s)
    try:
        runner.run()
    finally:
        runner.leave()


def _end(_signal: int, _frame: object) -> None:
    raise SystemExit(0)
