"""Bench: 32 real guests evacuated from one host at once; the worst arrival at most 1.3 times the bare script's worst.

The guests go to and fro, all at the same time, once a leg; the arms take turns. From RESUMED to the agreement.
"""

import statistics
from pathlib import Path

from contrib.bench.arrival_lab import start_bare, start_sidecard
from contrib.bench.arrival_observer import observe, serve_events
from contrib.bench.crowd_lab import Crowd
from contrib.bench.lab_run import open_laboratory
from sidecar.protocol.versions import OVIRT_MAXIMUM
from tests.lab.domain_xml import OVIRT_PORT
from tests.lab.laboratory import Laboratory

LIMIT = 1.3
GUESTS = 32
ARMS = {
    "sidecard": start_sidecard,
    "bare": start_bare(Path(__file__).with_name("bare_evacuation.py"), str(OVIRT_MAXIMUM)),
}


def measure(runs: int, guests: int = GUESTS) -> dict[str, object]:
    """``runs`` legs an arm; milliseconds, ``ratio`` of the worst arrivals."""
    serve_events()
    with open_laboratory() as lab:
        raw, crashes = _measure(lab, runs, guests)
    worst = {arm: max(times) for arm, times in raw.items()}
    ratio = worst["sidecard"] / worst["bare"]
    p50 = {arm: statistics.median(times) for arm, times in raw.items()}
    return {
        "name": "evacuation",
        "unit": "ms",
        "runs": runs * guests,
        "statistic": "worst",
        "p50": worst,
        "ratio": ratio,
        "limit": LIMIT,
        "passed": ratio <= LIMIT,
        "notes": [
            f"{guests} guests at once; p50: sidecard {p50['sidecard']:.0f} ms, bare {p50['bare']:.0f} ms",
            f"not counted, because they had crashed or hung on the way: {crashes}",
        ],
        "raw": raw,
    }


def _measure(lab: Laboratory, runs: int, count: int) -> tuple[dict[str, list[float]], int]:
    alpha, beta = lab.host("alpha"), lab.host("beta")
    for host in (alpha, beta):
        host.install_hook()
    crowd = Crowd(lab, alpha, count)
    raw: dict[str, list[float]] = {arm: [] for arm in ARMS}
    with observe(alpha, OVIRT_PORT) as at_alpha, observe(beta, OVIRT_PORT) as at_beta:
        for leg in range(2 * runs):
            # By turns there and back: A B, B A, so that each arm has as many legs of either kind.
            arm = [*ARMS][(leg + leg // 2) % 2]
            destination, observer = (beta, at_beta) if leg % 2 == 0 else (alpha, at_alpha)
            stop = [ARMS[arm](host) for host in (alpha, beta)]
            raw[arm] += crowd.evacuate(crowd.guests, destination, observer)
            for end in stop:
                end()
    return raw, crowd.crashes
