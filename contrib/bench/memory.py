"""Bench: memory a channel, with a usual guest's word on itself kept, and how it grows with their number.

What a process has more than before it had channels, divided by their number; the bare client keeps the last message of
each kind, decoded. Scripted guests on real unix sockets, a fake of libvirt.
"""

import statistics
from pathlib import Path

from contrib.bench.scripted_peers import render_heartbeat, render_line
from contrib.bench.scripted_rig import ARMS, COUNTS, Worker, open_arm, open_peers, wait_alone
from tests.fakes.ovirt_agent import FACTS, REFRESH_SET

LIMIT = 2.0
GROWTH_LIMIT = 1.25
PACKAGES = 500


def measure(runs: int) -> dict[str, object]:
    """KiB a channel at 1,000 channels."""
    raw: dict[str, list[float]] = {arm: [] for arm in ARMS}
    growth: dict[str, float] = {}
    for run in range(runs):
        for arm, sizes in raw.items():
            sizes.append(_weigh(arm, COUNTS[-1]))
        if not run:
            growth = {str(count): _weigh("sidecard", count) for count in COUNTS[:-1]}
    p50 = {arm: statistics.median(sizes) for arm, sizes in raw.items()}
    growth[str(COUNTS[-1])] = p50["sidecard"]
    ratio, grown = p50["sidecard"] / p50["bare"], p50["sidecard"] / growth["100"]
    return {
        "name": "memory",
        "unit": "KiB a channel",
        "runs": runs,
        "p50": p50,
        "ratio": ratio,
        "limit": LIMIT,
        "passed": ratio <= LIMIT and grown <= GROWTH_LIMIT,
        "growth": growth,
        "growth_of": "KiB a channel",
        "notes": [
            f"each guest has told {len(_render_facts()) / 1024:.0f} KiB of itself",
            f"one among 1,000 takes {grown:.2f} times what one among 100 takes (limit {GROWTH_LIMIT})",
            "scripted guests, a fake of libvirt",
        ],
        "raw": raw,
    }


def _render_facts() -> bytes:
    packages = [f"package-number-{number}-1.0.{number}-2+deb12u1" for number in range(PACKAGES)]
    arguments: dict[str, dict[str, object]] = {**FACTS, "applications": {"applications": packages}}
    return b"".join(render_line(name, **arguments[name]) for name in REFRESH_SET)


def _weigh(arm: str, count: int) -> float:
    with open_peers(count, _render_facts()) as (peers, paths):
        with open_arm(arm) as worker:
            before_kib = read_kib(worker)
            worker.order("connect", paths, peers.pid)
            peers.order("say", [render_heartbeat(1)], count)
            worker.order("last")  # all that was said before has been taken
            after_kib = read_kib(worker)
        wait_alone(peers)
    return round((after_kib - before_kib) / count, 1)


def read_kib(worker: Worker) -> int:
    """The process's private memory: what it shares with nobody."""
    lines = Path(f"/proc/{worker.pid}/smaps_rollup").read_text().splitlines()
    fields = dict(line.split(None, 1) for line in lines[1:])
    return sum(int(fields[name].split()[0]) for name in ("Private_Clean:", "Private_Dirty:"))
