"""Bench (c): the arrival of a guest whose one agent is qemu-ga, at most 1.3 times the time of a bare script.

See ``arrival_lab``. Both arms can begin only when libvirt says that the agent is connected, which is part of the time.
"""

from pathlib import Path

from contrib.bench.arrival_lab import ArrivalBench, measure_arrivals, start_bare, start_sidecard
from tests.lab.domain_xml import QGA_PORT

BENCH = ArrivalBench(
    name="qga-arrival",
    limit=1.3,
    channel=QGA_PORT,
    agent=None,
    arms={"sidecard": start_sidecard, "bare": start_bare(Path(__file__).with_name("bare_qga_arrival.py"))},
)


def measure(runs: int) -> dict[str, object]:
    """See ``measure_arrivals``."""
    return measure_arrivals(BENCH, runs)
