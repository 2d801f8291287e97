"""What the daemon of a host costs, and what it says: none of it may grow with what guests and strangers do to it."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from sidecar.client import READONLY_SOCKET
from tests.lab.host import Host

LINE_LIMIT_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Vitals:
    """Of the daemon's process: resident memory, open descriptors, threads."""

    resident_mib: float
    descriptors: int
    threads: int


def read_vitals(host: Host) -> Vitals:
    """Now."""
    process = host.sidecard.process
    assert process is not None
    place = Path(f"/proc/{process.pid}")
    fields = dict(re.findall(r"^(VmRSS|Threads):\s+(\d+)", (place / "status").read_text(), re.MULTILINE))
    return Vitals(int(fields["VmRSS"]) / 1024, len(os.listdir(place / "fd")), int(fields["Threads"]))


class LogWatch:
    """What a host's daemon says from now on; ``lines`` leaves out who has asked for what, for that is ourselves."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._begin = len(host.log_text())

    @property
    def lines(self) -> list[str]:
        """The lines so far."""
        said = self._host.log_text()[self._begin :].splitlines()
        return [line for line in said if " for uid " not in line]

    def check(self, limit_lines: int) -> None:
        """Nothing is a fault of ours, nothing is more than a line, nothing acts on a terminal."""
        text = self._host.log_text()[self._begin :]
        assert "Traceback" not in text, text
        assert "ERROR" not in text, text
        lines = self.lines
        assert len(lines) <= limit_lines, "\n".join(lines)
        for line in text.splitlines():
            assert line.isprintable(), ascii(line)
            assert line.isascii(), ascii(line)
            assert len(line) <= LINE_LIMIT_CHARACTERS, line


def count_bad_input(host: Host) -> dict[str, int]:
    """How much of what oVirt agents said nobody could use, by code, as the daemon's metrics tell."""
    argv = ["curl", "--silent", "--fail", "--unix-socket", READONLY_SOCKET, "http://localhost/metrics"]
    text = host.run(argv).stdout
    found = re.findall(r'^sidecar_bad_input_total\{code="([a-z-]+)",dialect="ovirt"\} (\d+)', text, re.MULTILINE)
    return {code: int(count) for code, count in found}
