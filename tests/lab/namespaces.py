"""Private namespaces, and processes in them, that cannot outlive the test runner."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGTERM
from typing import IO

from tests.lab.waiting import wait_for

INIT = Path(__file__).with_name("host_init.py")
KINDS = ("mnt", "uts", "net", "pid")

# Not the runner's environment: a test must not depend on who runs it, nor on what comes first on that PATH.
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/run", "LANG": "C.UTF-8"}

START_TIMEOUT_S = 10.0
END_TIMEOUT_S = 10.0


class InsideProcess:
    """A process that runs inside and was started from outside.

    nsenter stays its parent outside the PID namespace and passes no signals on; so they are sent past it.
    """

    def __init__(self, entered: subprocess.Popen[str], argv: Sequence[str]) -> None:
        self.entered = entered
        self.argv = list(argv)

    @property
    def pid(self) -> int | None:
        """The process's id as the machine sees it; None once it has ended, or before it began."""
        children = Path(f"/proc/{self.entered.pid}/task/{self.entered.pid}/children")
        try:
            ids = children.read_text().split()
        except OSError:
            return None
        return int(ids[0]) if ids else None

    def poll(self) -> int | None:
        """Exit status (minus the signal's number for a signal), or None while it runs."""
        return self.entered.poll()

    def signal(self, number: int) -> None:
        """Sends a signal to the process itself.

        Raises:
            ProcessLookupError: it has ended.
        """
        if self.poll() is not None:
            raise ProcessLookupError(f"has ended with {self.poll()}: {self.argv}")
        os.kill(wait_for(lambda: self.pid, 2, f"{self.argv[0]} to begin"), number)
        if number == SIGCONT:  # nsenter stops with its child, and would not see that one's end
            os.kill(self.entered.pid, SIGCONT)

    def wait(self, timeout_s: float = END_TIMEOUT_S) -> int:
        """Exit status, once it has ended.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        return self.entered.wait(timeout_s)

    def end(self, number: int = SIGTERM, timeout_s: float = END_TIMEOUT_S) -> int:
        """Ends it if it runs, with SIGKILL when `timeout_s` is over, and returns its exit status."""
        if self.poll() is None:
            self.signal(number)
        try:
            return self.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.wait(END_TIMEOUT_S)

    def kill(self) -> None:
        """SIGKILL to all of its process group."""
        try:
            os.killpg(self.entered.pid, SIGKILL)
        except ProcessLookupError:
            return


class Namespaces:
    """Mount, UTS, network and PID namespaces with a first process of their own.

    Attributes:
        hostname: set in the UTS namespace.
        binds: (source, target) of the bind mounts, made in this order.
        pid: the first process, as the machine sees it; 0 while not started.
        ids: the namespaces' identities ("net:[4026532001]"), kept after the end to prove their absence.
    """

    def __init__(self, hostname: str, binds: Sequence[tuple[Path, Path]]) -> None:
        self.hostname = hostname
        self.binds = list(binds)
        self.pid = 0
        self.ids: set[str] = set()
        self._unshare: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Returns when hostname and mounts are in place."""
        binds = [str(path) for bind in self.binds for path in bind]
        flags = [
            "--mount",
            "--uts",
            "--net",
            "--pid",
            "--fork",
            "--kill-child=SIGKILL",
            "--propagation=private",
        ]
        process = subprocess.Popen(
            ["unshare", *flags, "--", "/usr/bin/python3", "-I", "-S", str(INIT), self.hostname, *binds],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=ENVIRONMENT,
        )
        assert process.stdout is not None
        answer = process.stdout.readline()
        process.stdout.close()
        self._unshare = process
        if not answer:
            raise RuntimeError(f"the first process of {self.hostname} ended with {process.wait(START_TIMEOUT_S)}")
        self.pid = int(answer)
        self.ids = {os.readlink(f"/proc/{self.pid}/ns/{kind}") for kind in KINDS}

    def stop(self) -> None:
        """Ends every process inside, and with the last one the namespaces."""
        process, self._unshare = self._unshare, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(END_TIMEOUT_S)
        self.pid = 0

    def path(self, inside: str | Path) -> Path:
        """A path of the inside as one that works outside; short, whatever directory is mounted there.

        A unix socket's path must be below 108 bytes, which no directory of the project's own could promise.
        """
        return Path(f"/proc/{self.pid}/root/{str(inside).lstrip('/')}")

    def popen(
        self,
        argv: Sequence[str],
        stdin: int | IO[str] | None = subprocess.DEVNULL,
        stdout: int | IO[str] | None = None,
        stderr: int | IO[str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> InsideProcess:
        """Starts a program inside, in the directory "/"."""
        if not self.pid:
            raise RuntimeError(f"{self.hostname} is not started")
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--uts", "--net", "--pid", "--"]
        process = subprocess.Popen(
            [*enter, *argv],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=True,
            errors="replace",
            start_new_session=True,
            env={**ENVIRONMENT, **(env or {})},
        )
        return InsideProcess(process, argv)

    def run(
        self,
        argv: Sequence[str],
        timeout_s: float = 60.0,
        check: bool = True,
        stdin_text: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program inside to its end.

        Raises:
            RuntimeError: `check`, and it failed; the message holds both outputs.
            subprocess.TimeoutExpired: it was killed for taking too long.
        """
        pipe = subprocess.PIPE
        stdin = subprocess.DEVNULL if stdin_text is None else pipe
        process = self.popen(argv, stdin=stdin, stdout=pipe, stderr=pipe, env=env)
        try:
            output, errors = process.entered.communicate(stdin_text, timeout_s)
        except BaseException:
            process.kill()
            process.entered.communicate()
            raise
        status = process.entered.returncode
        if check and status != 0:
            command = " ".join(argv)
            raise RuntimeError(f"{self.hostname}: status {status} from: {command}\n{output}{errors}")
        return subprocess.CompletedProcess(list(argv), status, output, errors)


def processes_in(ids: set[str]) -> list[str]:
    """The processes of this machine that are in one of these namespaces, with their command lines."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            inside = {os.readlink(process / "ns" / kind) for kind in KINDS} & ids
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if inside:
            found.append(f"{process.name} {command.strip()} in {sorted(inside)}")
    return found
