"""Where a test's server runs: on this machine, or inside a lab host's namespaces, which offer the same two calls."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from signal import SIGKILL
from typing import IO, Protocol

# A server of a runner that was killed must not stay behind.
_DIE_WITH_RUNNER = ("setpriv", "--pdeathsig", "KILL", "--")


class Process(Protocol):
    """A running program."""

    @property
    def pid(self) -> int | None:
        """Its id as the machine sees it; ``None`` once it has ended."""

    def poll(self) -> int | None:
        """Exit status, or ``None`` while it runs."""

    def signal(self, number: int) -> None:
        """Send it a signal."""

    def wait(self, timeout_s: float) -> int:
        """Exit status, once it has ended; raises ``subprocess.TimeoutExpired``."""


class Place(Protocol):
    """Starts programs somewhere; ``Here``, and the lab's ``Namespaces`` and ``Host``."""

    def popen(
        self,
        argv: Sequence[str],
        stdin: int | IO[str] | None = subprocess.DEVNULL,
        stdout: int | IO[str] | None = None,
        stderr: int | IO[str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Process:
        """Start a program."""

    def run(
        self,
        argv: Sequence[str],
        timeout_s: float = 60.0,
        check: bool = True,
        stdin_text: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end."""


class HereProcess:
    """A program on this machine, with a process group of its own."""

    def __init__(self, popen: "subprocess.Popen[str]") -> None:
        self._popen = popen

    @property
    def pid(self) -> int | None:
        """See ``Process``."""
        return self._popen.pid if self._popen.poll() is None else None

    def poll(self) -> int | None:
        """See ``Process``."""
        return self._popen.poll()

    def signal(self, number: int) -> None:
        """See ``Process``; SIGKILL goes to all of its group."""
        if number == SIGKILL:
            os.killpg(self._popen.pid, number)
        else:
            self._popen.send_signal(number)

    def wait(self, timeout_s: float) -> int:
        """See ``Process``."""
        return self._popen.wait(timeout_s)


class Here:
    """This machine, with an environment that has nothing of the runner's but the PATH of a system."""

    def popen(
        self,
        argv: Sequence[str],
        stdin: int | IO[str] | None = subprocess.DEVNULL,
        stdout: int | IO[str] | None = None,
        stderr: int | IO[str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> HereProcess:
        """Start a program that ends with the thread that called."""
        process = subprocess.Popen(
            [*_DIE_WITH_RUNNER, *argv],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=True,
            start_new_session=True,
            env=_environment(env),
        )
        return HereProcess(process)

    def run(
        self,
        argv: Sequence[str],
        timeout_s: float = 60.0,
        check: bool = True,
        stdin_text: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; raises ``RuntimeError`` with both outputs when ``check`` and it failed."""
        text = {"stdin": subprocess.DEVNULL} if stdin_text is None else {"input": stdin_text}
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, env=_environment(env), **text)
        if check and done.returncode != 0:
            raise RuntimeError(f"status {done.returncode} from: {' '.join(argv)}\n{done.stdout}{done.stderr}")
        return done


def _environment(more: Mapping[str, str] | None) -> dict[str, str]:
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/", "LANG": "C.UTF-8", **(more or {})}
