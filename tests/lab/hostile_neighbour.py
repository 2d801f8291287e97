"""The guest next door, which has an honest agent: how well it is served, measured all the time."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from time import monotonic

from sidecar.api.problems import ProblemError
from sidecar.client import Client
from tests.lab.api import api
from tests.lab.guest import Guest

# Long enough to tell how late an answer was, where it is late; in a hang it ends the question.
ANSWER_TIMEOUT_S = 30.0
# Between questions: an honest host asks far less, and a busy one would measure itself.
PAUSE_S = 0.05


@dataclass(slots=True)
class Service:
    """What the neighbour got: seconds from a question's sending to its answer, and what went wrong.

    ``oldest_heartbeat_s``: the longest that the daemon had not heard of it.
    """

    latencies_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    oldest_heartbeat_s: float = 0.0

    @property
    def median_s(self) -> float:
        """The usual latency."""
        return self.percentile_s(50)

    @property
    def worst_s(self) -> float:
        """The longest."""
        return max(self.latencies_s)

    def percentile_s(self, percent: int) -> float:
        """The latency that so many in a hundred do not exceed."""
        return sorted(self.latencies_s)[math.ceil(len(self.latencies_s) * percent / 100) - 1]

    def __str__(self) -> str:
        shown = ", ".join(f"p{p} {self.percentile_s(p) * 1000:.0f}" for p in (50, 99))
        return f"{shown}, worst {self.worst_s * 1000:.0f} ms of {len(self.latencies_s)}"


@contextmanager
def measure_service(neighbour: Guest) -> Iterator[Service]:
    """Asks the neighbour's agent one question after another meanwhile, each through daemon, channel and guest."""
    service, ended = Service(), Event()

    def measure() -> None:
        with api(neighbour.here) as client:
            _ask(client, neighbour, service)  # at least once
            while not ended.wait(PAUSE_S):
                _ask(client, neighbour, service)

    thread = Thread(target=measure)
    thread.start()
    try:
        yield service
    finally:
        ended.set()
        thread.join()


def _ask(client: Client, neighbour: Guest, service: Service) -> None:
    begun = monotonic()
    try:
        client.send(neighbour.name, "lifecycle-event", {"type": "lab_question"}, ANSWER_TIMEOUT_S)
    except ProblemError as error:
        service.failures.append(str(error))
    service.latencies_s.append(monotonic() - begun)
    ages = [fact.age_seconds for fact in client.guest(neighbour.name).facts if fact.name == "heartbeat"]
    service.oldest_heartbeat_s = max(service.oldest_heartbeat_s, *ages)
