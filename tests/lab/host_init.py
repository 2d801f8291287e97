"""The first process of a lab host: arranges its mounts, then reaps orphans until the lab lets go.

Started in new mount, UTS, network and PID namespaces. Its standard input is a pipe that only the test runner
holds open: when the runner ends, in whatever way, this process reads an end of file and ends, and the kernel
kills all that lives in the PID namespace. (The runner's death as a signal, PR_SET_PDEATHSIG, would do it too
early: it is sent when the starting thread ends.) It has to reap, or libvirtd would take a QEMU that has ended
for one that lives.

Run by path, with the standard library alone: `host_init.py HOSTNAME SOURCE TARGET [SOURCE TARGET...]`.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys


def main() -> None:
    """Prints this process's id as the machine sees it once everything is in place."""
    hostname, *binds = sys.argv[1:]
    own_pid = os.readlink("/proc/self")  # still the machine's /proc
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for source, target in zip(binds[::2], binds[1::2], strict=True):
        subprocess.run(["mount", "--rbind", source, target], check=True)
    subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    socket.sethostname(hostname)
    signal.signal(signal.SIGCHLD, reap)
    reap(0, None)
    sys.stdout.write(f"{own_pid}\n")
    sys.stdout.flush()
    while os.read(0, 1):
        pass


def reap(_signal: int, _frame: object) -> None:
    """Takes the exit status of every child that has ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


if __name__ == "__main__":
    main()
