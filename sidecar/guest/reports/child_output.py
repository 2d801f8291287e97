"""What a program prints, for those who can wait for it; ``sidecar.guest.programs`` is for those who cannot.

The time limit holds whatever the program does: it is killed with everything that it started, and one that not even
that ends, because the kernel holds it, is left behind.
"""

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.guest.reports.streams import read_to_end

if TYPE_CHECKING:
    from subprocess import Popen

# What a shell reports for a program that is not there.
NOT_FOUND = 127
# After SIGKILL a process is gone at once, unless it hangs in a system call.
_REAP_S = 1.0


@dataclass(frozen=True, slots=True)
class Output:
    """How a program ended: its exit status (negative: the signal), and all that it wrote to its standard output."""

    status: int
    data: bytes


def run_program(command: Sequence[str], limit_s: float, limit_bytes: int) -> Output:
    """Run a program to its end; the status is ``NOT_FOUND`` when ``PATH`` does not have it.

    Args:
        command: The program's name and its arguments.
        limit_s: Seconds that it may take.
        limit_bytes: What it may print.

    Raises:
        TimeoutError: It took longer; it has been killed.
        OSError: It could not be started, or printed more; it does not run any more.
    """
    import subprocess

    deadline = time.monotonic() + limit_s
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C"},
            start_new_session=True,
        )
    except FileNotFoundError:
        return Output(NOT_FOUND, b"")
    try:
        return _await_end(process, deadline, limit_bytes)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{command[0]} did not end in time") from None
    except OSError as error:
        raise type(error)(f"{command[0]}: {error}") from error
    finally:
        _end(process)


def _await_end(process: "Popen[bytes]", deadline: float, limit_bytes: int) -> Output:
    assert process.stdout is not None
    with process.stdout as stdout:
        data = read_to_end(stdout.fileno(), deadline, limit_bytes)
    return Output(process.wait(max(deadline - time.monotonic(), 0)), data)


def _end(process: "Popen[bytes]") -> None:
    """Kill it and its children, unless its end has been seen: until then its number is no other process's."""
    import subprocess

    if process.returncode is None:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(_REAP_S)
