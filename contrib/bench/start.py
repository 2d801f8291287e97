"""Bench: what it costs the daemon to start where 1,000 domains run, and how that grows with them.

CPU until the record of each says agreed, against a bare client that connects to the same channels and agrees.
Scripted guests on real unix sockets that answer at once, and a fake of libvirt that does so, too: with a real one the
daemon waits for libvirtd most of the time.
"""

import statistics

from contrib.bench.scripted_rig import ARMS, COUNTS, open_arm, open_peers, wait_alone

# The bare client knows neither domains nor records: it writes none, and looks at nobody's socket before it connects.
LIMIT = 15.0
# What a channel may cost among 1,000, as a multiple of what it costs among 100.
GROWTH_LIMIT = 1.5


def measure(runs: int) -> dict[str, object]:
    """Milliseconds of CPU for 1,000, ``ratio`` of the medians; ``growth`` is ours for each channel."""
    ours = {count: [_time("sidecard", count) for _ in range(runs)] for count in COUNTS[:-1]}
    raw: dict[str, list[tuple[float, float]]] = {arm: [] for arm in ARMS}
    for _ in range(runs):
        for arm, times in raw.items():
            times.append(_time(arm, COUNTS[-1]))
    ours[COUNTS[-1]] = raw["sidecard"]
    p50 = {arm: statistics.median(cpu_ms for cpu_ms, _ in times) for arm, times in raw.items()}
    growth = {str(count): statistics.median(cpu_ms for cpu_ms, _ in times) / count for count, times in ours.items()}
    grown = growth["1000"] / growth["100"]
    took_s = statistics.median(seconds for _, seconds in raw["sidecard"])
    ratio = p50["sidecard"] / p50["bare"]
    return {
        "name": "start",
        "unit": "ms of CPU",
        "runs": runs,
        "p50": p50,
        "ratio": ratio,
        "limit": LIMIT,
        "passed": ratio <= LIMIT and grown <= GROWTH_LIMIT,
        "growth": {count: round(cpu_ms, 2) for count, cpu_ms in growth.items()},
        "growth_of": "ms of CPU a domain",
        "notes": [
            f"1,000 domains' records agreed after {took_s:.2f} s",
            f"a domain among 1,000 costs {grown:.2f} times what it costs among 100 (limit {GROWTH_LIMIT})",
            "scripted guests, a fake of libvirt",
        ],
        "raw": {arm: [round(cpu_ms, 1) for cpu_ms, _ in times] for arm, times in raw.items()},
    }


def _time(arm: str, count: int) -> tuple[float, float]:
    """Milliseconds of CPU, and seconds."""
    with open_peers(count) as (peers, paths):
        with open_arm(arm) as worker:
            before = worker.cpu_s
            took_s = worker.order("connect", paths, peers.pid)
            cpu_ms = (worker.cpu_s - before) * 1000
        wait_alone(peers)
    return cpu_ms, took_s
