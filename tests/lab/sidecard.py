"""sidecard on a lab host, started the way systemd would start it."""

import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.lab.namespaces import InsideProcess, Namespaces
from tests.lab.waiting import wait_for

CONFIG = "/etc/sidecar/sidecar.toml"
NOTIFY_SOCKET = "/run/lab/notify"
PROGRAMS = Path(sys.executable).parent
START_TIMEOUT_S = 20.0


class Sidecard:
    """The project's daemon of one host."""

    def __init__(self, inside: Namespaces, root: Path) -> None:
        self._inside = inside
        self._root = root
        self._process: InsideProcess | None = None

    @property
    def log(self) -> Path:
        """What the daemons of this host wrote to stderr, one after another."""
        return self._root / "sidecard.log"

    @property
    def process(self) -> InsideProcess | None:
        """The daemon that was started last, and not stopped."""
        return self._process

    def start(self, config_text: str, program: Sequence[str] | None = None) -> InsideProcess:
        """Writes the configuration, starts the daemon and returns once it has said READY=1.

        `program` stands in for sidecard's own; `--config FILE` is appended.

        Raises:
            RuntimeError: it ended instead; the message holds its log.
            TimeoutError: it said nothing.
        """
        (self._root / CONFIG.lstrip("/")).write_text(config_text)
        notify = self._inside.path(NOTIFY_SOCKET)
        notify.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told, self.log.open("a") as log:
            told.bind(str(notify))
            told.setblocking(False)
            begin = self.log.stat().st_size
            argv = [*(program or [str(PROGRAMS / "sidecard")]), "--config", CONFIG]
            env = {"NOTIFY_SOCKET": NOTIFY_SOCKET, "PYTHONUNBUFFERED": "1"}
            process = self._inside.popen(argv, stdout=log, stderr=log, env=env)
            self._process = process
            try:
                wait_for(lambda: self._is_ready(process, told, begin), START_TIMEOUT_S, "sidecard to be READY=1")
            except BaseException:
                process.kill()
                self._process = None
                raise
        return process

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ends the daemon and returns its exit status.

        Raises:
            RuntimeError: none was started.
        """
        process, self._process = self._process, None
        if process is None:
            raise RuntimeError("sidecard was not started")
        return process.end(number)

    def _is_ready(self, process: InsideProcess, told: socket.socket, begin: int) -> bool:
        if process.poll() is not None:
            with self.log.open(errors="replace") as log:
                log.seek(begin, os.SEEK_SET)
                raise RuntimeError(f"sidecard ended with {process.poll()}:\n{log.read()}")
        try:
            return b"READY=1" in told.recv(4096).split(b"\n")
        except BlockingIOError:
            return False
