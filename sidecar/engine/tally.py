"""What the daemon counts, for whoever shows it (``/metrics``): plain numbers, of which none is ever taken back.

Every key is a constant of ours: there are never more of them than the tables allow, and no text of a guest's is one.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sidecar.errors import RefusalCode
from sidecar.protocol.bad_input import BadInputCode
from sidecar.protocol.states import Dialect
from sidecar.record.agreement import Origin

# From the 25 ms of an agent that was asked at once to the two minutes after which one counts as absent.
ARRIVAL_BUCKETS_S = (0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0, 120.0)


class WriteOutcome(StrEnum):
    """How a write of a record ended; one to a domain that was gone by then is none."""

    WRITTEN = "written"
    CHANGED_BY_OTHERS = "changed-by-others"
    FAILED = "failed"


@dataclass(slots=True)
class Histogram:
    """How long something took: ``counts`` by the bucket of ``ARRIVAL_BUCKETS_S`` it fell into, the last above all."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(ARRIVAL_BUCKETS_S) + 1))
    sum_s: float = 0.0

    def observe(self, seconds: float) -> None:
        """One more."""
        self.counts[bisect_left(ARRIVAL_BUCKETS_S, seconds)] += 1
        self.sum_s += seconds


@dataclass(slots=True)
class Tally:
    """See the module.

    Attributes:
        arrivals: Guests that arrived here, by how they came.
        negotiations: Times that a version was agreed anew on a channel.
        resume_to_agreed: From a guest's first running here to a channel's first agreement, by dialect.
        refusals: Messages that were refused to a caller, by code.
        bad_input: What guests sent and nobody could use, by dialect and code.
        record_writes: Writes of records, by how they ended.
        record_retries: Failed attempts to write a record that were followed by another.
        libvirt_connected: Whether there is a connection to libvirt.
        libvirt_connections: Connections to libvirt that were made.
        bus_connected: Whether there is a connection to the message bus.
        bus_waiting: Events that the bus's broker has not taken yet.
        bus_notified: Events that it took.
        bus_dropped: Events that were given up, because too many waited.
        bus_restarts: Times that the process which talks to the bus ended by itself.
    """

    arrivals: Counter[Origin] = field(default_factory=Counter)
    negotiations: Counter[Dialect] = field(default_factory=Counter)
    resume_to_agreed: dict[Dialect, Histogram] = field(
        default_factory=lambda: {dialect: Histogram() for dialect in Dialect}
    )
    refusals: Counter[RefusalCode] = field(default_factory=Counter)
    bad_input: Counter[tuple[Dialect, BadInputCode]] = field(default_factory=Counter)
    record_writes: Counter[WriteOutcome] = field(default_factory=Counter)
    record_retries: int = 0
    libvirt_connected: bool = False
    libvirt_connections: int = 0
    bus_connected: bool = False
    bus_waiting: int = 0
    bus_notified: int = 0
    bus_dropped: int = 0
    bus_restarts: int = 0


class BadInputMeter:
    """Adds to the tally what one channel's session counts for itself, and forgets when it ends."""

    def __init__(self, tally: Tally, dialect: Dialect) -> None:
        self._tally, self._dialect = tally, dialect
        self._counted: dict[BadInputCode, int] = {}

    def follow(self, counts: Mapping[BadInputCode, int]) -> None:
        """The session has counted so much in all, by code."""
        for code, count in counts.items():
            self._tally.bad_input[self._dialect, code] += count - self._counted.get(code, 0)
        self._counted = dict(counts)
