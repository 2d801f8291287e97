"""Bench: wake-ups of a daemon whose 1, 10, 100 and 1,000 guests are agreed with and quiet: none, as of a bare client.

Between two heartbeats nothing has to happen. That the count is not blind is seen by the last window, in which each
guest says one: both are woken. Scripted guests, and a fake of libvirt; ``idle`` has real domains and libvirt's thread.
"""

import time
from typing import Any

from contrib.bench.scripted_peers import render_heartbeat
from contrib.bench.scripted_rig import ARMS, COUNTS, Worker, open_arm, open_peers, wait_alone
from contrib.bench.wakeups import Counts, count_threads, subtract
from tests.lab.waiting import wait_for

WINDOW_S = 10.0
# A record that is to last first, and what else follows an agreement.
SETTLED_S = 8.0
SETTLE_TIMEOUT_S = 60.0


def measure(runs: int) -> dict[str, object]:
    """``runs`` windows of each number of guests; wake-ups of all threads."""
    found = {(arm, count): _count(arm, count, runs) for count in COUNTS for arm in ARMS}
    idle = {arm: [idle for (name, _), (idle, _) in found.items() if name == arm] for arm in ARMS}
    spoken = {str(count): round(spoken / count, 2) for (arm, count), (_, spoken) in found.items() if arm == "sidecard"}
    awake = all(spoken for _, spoken in found.values())
    p50 = {arm: float(max(counts)) for arm, counts in idle.items()}
    return {
        "name": "idle-scripted",
        "unit": "wake-ups",
        "statistic": "most",
        "runs": runs,
        "p50": p50,
        "ratio": None,
        "limit": 0,
        "passed": not p50["sidecard"] and awake,
        "growth": {str(count): found["sidecard", count][0] for count in COUNTS},
        "growth_of": f"wake-ups in {runs} x {WINDOW_S:.0f} s",
        "notes": [
            f"wake-ups a heartbeat, one a guest, by their number: {spoken}",
            "scripted guests, a fake of libvirt",
        ],
        "raw": {arm: [float(count) for count in counts] for arm, counts in idle.items()},
    }


def _count(arm: str, count: int, runs: int) -> tuple[int, int]:
    """Wake-ups while nobody says anything, and while each guest says one thing."""
    with open_peers(count) as (peers, paths):
        with open_arm(arm) as worker:
            worker.order("connect", paths, peers.pid)
            _settle(worker)
            before = count_threads(worker.pid)
            time.sleep(runs * WINDOW_S)
            between = count_threads(worker.pid)
            peers.order("say", [render_heartbeat(1)], count)
            after = count_threads(worker.pid)
        wait_alone(peers)
    return _sum(between, before), _sum(after, between)


def _settle(worker: Worker) -> None:
    """Until it has slept for a while."""
    last: list[Any] = [count_threads(worker.pid), time.monotonic()]

    def has_slept() -> bool:
        now = count_threads(worker.pid)
        if now != last[0]:
            last[:] = now, time.monotonic()
        return bool(time.monotonic() - last[1] > SETTLED_S)

    wait_for(has_slept, SETTLE_TIMEOUT_S, "the daemon to have nothing more to do", interval_s=0.25)


def _sum(after: dict[int, Counts], before: dict[int, Counts]) -> int:
    return sum((counts.switches for counts in subtract(after, before).values()), 0)
