"""Memory: how much is free, and what the guest swaps and faults.

Source: proc(5); what each key means is oVirt's, whose ``mem_free`` counts buffers and page cache in.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from sidecar.guest.reports.system_files import read_lines

# Our key for each counter of /proc/vmstat: pages swapped, and faults, since the guest started.
_COUNTERS = {"pswpin": "swap_in", "pswpout": "swap_out", "pgfault": "pageflt", "pgmajfault": "majflt"}

# A counter has 64 bits.
_DIGITS = 20


class MemoryReport:
    """The arguments of heartbeat and memory-stats; it remembers the last counters, because rates are told."""

    def __init__(self, root: Path = Path("/"), clock: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._clock = clock
        self._counters: Mapping[str, int] = {}
        self._counted_at = 0.0
        self._rates = dict.fromkeys(_COUNTERS.values(), 0)

    def report_heartbeat(self) -> dict[str, object]:
        """Free memory as a text in MiB, and the whole table.

        Raises:
            OSError: /proc/meminfo cannot be read; the rates go on from where they were.
            ValueError: It does not say how much memory there is; likewise.
        """
        table = self._read_table()
        return {"free-ram": str(table["mem_free"] // 1024), "memory-stat": table}

    def report_memory(self) -> dict[str, object]:
        """The table alone.

        Raises:
            OSError, ValueError: As ``report_heartbeat``.
        """
        return {"memory": self._read_table()}

    def _read_table(self) -> dict[str, int]:
        """KiB; ``swap_in``, ``swap_out`` (pages), ``pageflt`` and ``majflt`` a second since the last call."""
        found = _read_numbers(self._root / "proc/meminfo")
        if not {b"MemTotal:", b"MemFree:"} <= found.keys():
            raise ValueError("/proc/meminfo tells neither total nor free memory")
        unused, buffers, cached = found[b"MemFree:"], found.get(b"Buffers:", 0), found.get(b"Cached:", 0)
        swap = found.get(b"SwapTotal:", 0)
        return {
            "mem_total": found[b"MemTotal:"],
            "mem_free": unused + buffers + cached,
            "mem_unused": unused,
            "mem_buffers": buffers,
            "mem_cached": cached,
            **self._measure_rates(),
            "swap_usage": max(swap - found.get(b"SwapFree:", 0), 0),
            "swap_total": swap,
        }

    def _measure_rates(self) -> dict[str, int]:
        """The rates since the last call; 0 at first, and where the kernel does not count."""
        now = self._clock()
        try:
            found = _read_numbers(self._root / "proc/vmstat")
        except OSError:  # without its heartbeat the guest would be given up: better one without rates
            found = {}
        counters = {name: found[field.encode()] for field, name in _COUNTERS.items() if field.encode() in found}
        passed_s = now - self._counted_at
        if self._counters and passed_s <= 0:
            return self._rates
        self._rates = {name: self._rate(name, counters, passed_s) for name in _COUNTERS.values()}
        self._counters, self._counted_at = counters, now
        return self._rates

    def _rate(self, name: str, counters: Mapping[str, int], passed_s: float) -> int:
        """A counter that was not there, or went back when a CPU left with its share, is no rate."""
        if name not in counters or name not in self._counters:
            return 0
        return max(int((counters[name] - self._counters[name]) / passed_s), 0)


def _read_numbers(path: Path) -> dict[bytes, int]:
    """The first number of each line by its first word; other lines do not count."""
    rows = (line.split() for line in read_lines(path))
    return {row[0]: int(row[1]) for row in rows if len(row) >= 2 and row[1].isdigit() and len(row[1]) <= _DIGITS}
