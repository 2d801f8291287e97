"""Bench: six real guests arrive at once while a seventh, which is there, floods; against the same without the flood.

The seventh writes valid heartbeats from inside, as fast as its port takes them. What it costs the machine that its CPU
is busy until its port stops it is in the figure, too. From RESUMED to the agreement.
"""

import statistics

from contrib.bench.arrival_lab import start_sidecard
from contrib.bench.arrival_observer import Observer, observe, serve_events
from contrib.bench.crowd_lab import Crowd, wait_present
from contrib.bench.fairness_scripted import LIMIT, PERCENTILE, compute_percentile
from contrib.bench.lab_run import open_laboratory
from contrib.bench.scripted_peers import render_heartbeat
from tests.lab.domain_xml import OVIRT_PORT
from tests.lab.guest_files.control import OWN_AGENT
from tests.lab.guest_files.ports import PORTS
from tests.lab.host import Host
from tests.lab.laboratory import Laboratory

ARRIVALS = 6
ARMS = ("flooded", "calm")
PROGRAM = "/run/flood.py"
_FLOOD = f"""\
import os
port = os.open("{PORTS}/{OVIRT_PORT}", os.O_RDWR)
data = {render_heartbeat(0)!r} * 64
while True:
    data = data[os.write(port, data):] or {render_heartbeat(0)!r} * 64
"""


def measure(runs: int) -> dict[str, object]:
    """``runs`` times all six, an arm; milliseconds."""
    serve_events()
    with open_laboratory() as lab:
        raw = _measure(lab, runs)
    worst = {arm: compute_percentile(times) for arm, times in raw.items()}
    ratio = worst["flooded"] / worst["calm"]
    p50 = {arm: statistics.median(times) for arm, times in raw.items()}
    return {
        "name": "fairness",
        "unit": "ms",
        "runs": runs * ARRIVALS,
        "statistic": f"p{PERCENTILE}",
        "p50": worst,
        "ratio": ratio,
        "limit": LIMIT,
        "passed": ratio <= LIMIT,
        "notes": [f"p50: {p50['flooded']:.0f} ms while one of {ARRIVALS + 1} floods, {p50['calm']:.0f} ms without"],
        "raw": raw,
    }


def _measure(lab: Laboratory, runs: int) -> dict[str, list[float]]:
    alpha, beta = lab.host("alpha"), lab.host("beta")
    for host in (alpha, beta):
        host.install_hook()
        start_sidecard(host)
    crowd = Crowd(lab, alpha, 1 + ARRIVALS)
    noisy, *guests = crowd.guests
    noisy.wait_booted()
    noisy.put(PROGRAM, _FLOOD.encode())
    raw: dict[str, list[float]] = {arm: [] for arm in ARMS}
    with observe(alpha, OVIRT_PORT) as at_alpha, observe(beta, OVIRT_PORT) as at_beta:
        for run in range(runs):
            for arm in ARMS if run % 2 else reversed(ARMS):
                crowd.evacuate(guests, beta, at_beta)
                raw[arm] += _arrive(crowd, alpha, at_alpha, flooded=arm == "flooded")
    return raw


def _arrive(crowd: Crowd, host: Host, observer: Observer, *, flooded: bool) -> list[float]:
    noisy, *guests = crowd.guests
    if not flooded:
        return crowd.evacuate(guests, host, observer)
    noisy.agent_stop()
    noisy.shell(f"python3 {PROGRAM} >/dev/null 2>&1 & echo $! >/run/flood.pid")
    wait_present(noisy)
    times = crowd.evacuate(guests, host, observer)
    noisy.shell("kill $(cat /run/flood.pid)")  # fails, and so does the bench, when it floods no more
    noisy.shell("while kill -0 $(cat /run/flood.pid) 2>/dev/null; do sleep 0.1; done")
    noisy.agent_start(era=OWN_AGENT, heartbeat_s=5.0)
    wait_present(noisy)
    return times
