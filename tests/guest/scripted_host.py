"""A host played by the test on a unix socket, and the agent's process that talks to it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.lab.waiting import wait_for

REPOSITORY = Path(__file__).resolve().parents[2]
Message = dict[str, Any]

# Far more than anything here takes; a test that fails waits so long.
PATIENCE_S = 10.0

QUICK = "[rates]\nheartbeat_seconds = 0.2\n"
"""A heart that beats fast enough for a test to wait for it."""

STILL = QUICK + "".join(
    f"{name}_seconds = 0\n" for name in ("active_user", "number_of_cpus", "applications", "disks_usage")
)
"""Likewise; and after its start it looks at nothing of its own accord."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one process: its memory now, its time on a CPU so far, and how often its threads went to sleep."""

    rss_kib: int
    cpu_s: float
    wakeups: int


class HostEnd:
    """One connection of the agent's, as its host has it."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.settimeout(PATIENCE_S)
        self._buffer = b""

    def send(self, name: str, **arguments: object) -> None:
        self.send_bytes(json.dumps({"__name__": name, **arguments}).encode() + b"\n")

    def send_bytes(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self) -> Message:
        """The next message; ``ConnectionError`` when the agent hung up."""
        while b"\n" not in self._buffer:
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("the agent closed the socket")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            message = json.loads(line)
        except RecursionError:  # we stand deeper in our calls than the agent did
            return {"__name__": "nested"}
        assert isinstance(message, dict)
        return message

    def until(self, name: str, before: list[Message] | None = None, /, **expected: object) -> Message:
        """The next message of this name with these arguments; what comes earlier goes into ``before``."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            message = self.receive()
            if message["__name__"] == name and all(message.get(key) == value for key, value in expected.items()):
                return message
            if before is not None:
                before.append(message)
        raise TimeoutError(f"no {name} {expected}")

    def say_version(self, version: int) -> None:
        """As hosts do it once they have heard an offer; returns when the version is in force."""
        self.until("heartbeat", apiVersion=4)
        self.send("api-version", apiVersion=version)
        self.ask()

    def hear_all(self) -> None:
        """At version 4: returns when everything was looked up and told, the last of it included."""
        self.say_version(4)
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            self.send("refresh", apiVersion=4)
            if "guest-tools" in [message["__name__"] for message in self.ask() + self.ask()]:
                return
        raise TimeoutError("not everything was told")

    def ask(self) -> list[Message]:
        """What the agent says up to the answer to a question: all that came before the question was handled then.

        Of several that wait the agent answers one: to be asked when nothing else has an echo.
        """
        self.send("echo", mark=(mark := time.monotonic_ns()))
        heard: list[Message] = []
        self.until("echo", heard, mark=mark)
        return heard

    def close(self) -> None:
        self._socket.close()


class ScriptedHost:
    """Listens where the agent connects to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._listener.settimeout(PATIENCE_S)
        self._ends: list[HostEnd] = []

    def accept(self) -> HostEnd:
        """The agent's next connection."""
        self._ends.append(HostEnd(self._listener.accept()[0]))
        return self._ends[-1]

    def close(self) -> None:
        """Gone, with all that it had accepted; the socket's file goes too."""
        self._listener.close()
        self.path.unlink(missing_ok=True)
        for end in self._ends:
            end.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AgentProcess:
    """The real program; its log is in a file."""

    def __init__(self, folder: Path, arguments: Sequence[str], configuration: str = "") -> None:
        self._log = folder / "agent.log"
        (folder / "agent.toml").write_text(configuration)
        command = [sys.executable, "-m", "sidecar.guest", "--config", str(folder / "agent.toml"), *arguments]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, env=environment())
        self.pid = self._process.pid

    def log(self) -> str:
        return self._log.read_text()

    def wait_log(self, text: str, times: int = 1) -> None:
        wait_for(lambda: self.log().count(text) >= times, PATIENCE_S, f"{text!r} in the log {times} times")

    def is_running(self) -> bool:
        return self._process.poll() is None

    def run_for(self, seconds: float) -> Cost:
        """What that costs: only time can show that nothing happens in it."""
        before = self.cost()
        with contextlib.suppress(subprocess.TimeoutExpired):
            raise AssertionError(f"ended with status {self._process.wait(seconds)}")
        after = self.cost()
        return Cost(after.rss_kib, after.cpu_s - before.cpu_s, after.wakeups - before.wakeups)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit status after this signal."""
        self._process.send_signal(number)
        return self._process.wait(PATIENCE_S)

    def cost(self) -> Cost:
        """What it costs now; a process that is gone has no status to read."""
        folder = Path(f"/proc/{self.pid}")
        ticks = (folder / "stat").read_text().rpartition(")")[2].split()[11:13]
        threads = [line for task in folder.glob("task/*/status") for line in task.read_text().splitlines()]
        return Cost(
            rss_kib=_sum("VmRSS:", (folder / "status").read_text().splitlines()),
            cpu_s=sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"),
            wakeups=_sum("voluntary_ctxt_switches:", threads),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_running():
            self._process.kill()
        self._process.wait()
        if error is not None:
            sys.stderr.write(self.log())


def environment(**extra: str) -> Mapping[str, str]:
    """What the agent's process has: a plain system's."""
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "PYTHONPATH": str(REPOSITORY), **extra}


def _sum(field: str, status: Iterable[str]) -> int:
    return sum(int(line.split()[1]) for line in status if line.startswith(field))
