"""Bench (b): an oVirt guest's arrival, at most 1.5 times the time of a bare script; see ``arrival_lab``.

The guest has the project's own agent, which answers ``refresh`` at once.
"""

from pathlib import Path

from contrib.bench.arrival_lab import ArrivalBench, measure_arrivals, start_bare, start_sidecard
from sidecar.protocol.versions import OVIRT_MAXIMUM
from tests.lab.domain_xml import OVIRT_PORT, AgentSpec
from tests.lab.guest_files.control import OWN_AGENT

BENCH = ArrivalBench(
    name="arrival",
    limit=1.5,
    channel=OVIRT_PORT,
    agent=AgentSpec(era=OWN_AGENT, heartbeat_s=5.0),
    arms={
        "sidecard": start_sidecard,
        "bare": start_bare(Path(__file__).with_name("bare_arrival.py"), str(OVIRT_MAXIMUM)),
    },
)


def measure(runs: int) -> dict[str, object]:
    """See ``measure_arrivals``."""
    return measure_arrivals(BENCH, runs)
