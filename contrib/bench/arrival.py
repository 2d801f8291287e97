"""Bench (b): an oVirt guest's arrival, at most 1.5 times the time of a bare script; see ``arrival_lab``.

The guest's agent answers ``refresh`` at once.
"""

from pathlib import Path

from contrib.bench.arrival_lab import ArrivalBench, measure_arrivals
from tests.lab.domain_xml import OVIRT_PORT, AgentSpec

AGENT_MAXIMUM = 3
BENCH = ArrivalBench(
    name="arrival",
    limit=1.5,
    channel=OVIRT_PORT,
    agent=AgentSpec(heartbeat_s=5.0, prompt=True, maximum=AGENT_MAXIMUM),
    bare=Path(__file__).with_name("bare_arrival.py"),
    bare_arguments=(str(AGENT_MAXIMUM),),
)


def measure(runs: int) -> dict[str, object]:
    """See ``measure_arrivals``."""
    return measure_arrivals(BENCH, runs)
