"""Bench: 63 guests that arrive one after the other while another one floods, against the same without the flood.

The flood is valid heartbeats, as fast as the port takes them, and begins with the first arrival. Arms alternate. From
RESUMED to the agreement's being written; scripted guests that answer at once, and a fake of libvirt.
"""

import statistics

from contrib.bench.scripted_peers import render_heartbeat
from contrib.bench.scripted_rig import Worker, open_arm, open_peers, wait_alone

LIMIT = 1.5
ARRIVALS = 63
GAP_S = 0.02
PERCENTILE = 99
ARMS = ("flooded", "calm")
_WARM_UP = 2


def measure(runs: int) -> dict[str, object]:
    """The 99th percentile over all arrivals of an arm, in milliseconds; a note tells of the usual round.

    One stall of a tenth of a second is in it: the median of the rounds' worst would not show what happens in a few.
    """
    raw: dict[str, list[float]] = {arm: [] for arm in ARMS}
    worst: dict[str, list[float]] = {arm: [] for arm in ARMS}
    with open_peers(1) as flooder, open_peers(ARRIVALS) as others, open_arm("sidecard") as worker:
        for process in (worker, others[0]):
            process.hurry()
        worker.order("connect", [], 0)
        for run in range(_WARM_UP + runs):
            for arm in ARMS if run % 2 else reversed(ARMS):
                took_s = _arrive(worker, flooder, others, flooded=arm == "flooded")
                if run >= _WARM_UP:
                    times = [round(seconds * 1000, 2) for seconds in took_s]
                    raw[arm] += times
                    worst[arm].append(compute_percentile(times))
    p99 = {arm: compute_percentile(times) for arm, times in raw.items()}
    usual = {arm: statistics.median(times) for arm, times in worst.items()}
    ratio = p99["flooded"] / p99["calm"]
    p50 = {arm: statistics.median(times) for arm, times in raw.items()}
    return {
        "name": "fairness-scripted",
        "unit": "ms",
        "runs": runs * ARRIVALS,
        "statistic": f"p{PERCENTILE}",
        "p50": p99,
        "ratio": ratio,
        "limit": LIMIT,
        "passed": ratio <= LIMIT,
        "notes": [
            f"p50: {p50['flooded']:.1f} ms while one of {ARRIVALS + 1} floods, {p50['calm']:.1f} ms without",
            f"median of the rounds' worst: {usual['flooded']:.1f} ms while one floods, {usual['calm']:.1f} ms without",
            "scripted guests, a fake of libvirt",
        ],
        "raw": raw,
    }


def compute_percentile(times: list[float]) -> float:
    """The ``PERCENTILE``; of few the largest."""
    return sorted(times)[min(len(times) - 1, len(times) * PERCENTILE // 100)]


def _arrive(
    worker: Worker, flooder: tuple[Worker, list[str]], others: tuple[Worker, list[str]], *, flooded: bool
) -> list[float]:
    """All come and go again; seconds of each but the first, which is there before the others and floods."""
    (noisy, noisy_paths), (peers, paths) = flooder, others
    worker.order("arrive", 0, noisy_paths, noisy.pid, 0.0)
    if flooded:
        noisy.order("flood", 0, render_heartbeat(0))
    took_s: list[float] = worker.order("arrive", 1, paths, peers.pid, GAP_S)
    if flooded:
        noisy.order("calm", 0)
    worker.order("leave", 0, 1 + len(paths))
    wait_alone(noisy)
    wait_alone(peers)
    return took_s
