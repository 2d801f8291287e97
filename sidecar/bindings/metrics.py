"""The daemon in Prometheus' text format (``GET /metrics``): what the engine has counted, and what there is now.

The values of every label are constants of ours, and a series that can be foreseen stands there with 0 from the start,
so that ``rate()`` sees its first step. Nothing that a guest says names a series or makes one more of them.

Source: docs/api.md, "Metrics".
"""

import asyncio
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from sidecar import __version__
from sidecar.api.versions import API_VERSION
from sidecar.api.views import ChannelView
from sidecar.engine.tally import ARRIVAL_BUCKETS_S, Histogram, Tally, WriteOutcome
from sidecar.errors import RefusalCode
from sidecar.protocol.bad_input import BadInputCode
from sidecar.protocol.qga_commands import QGA_COMMANDS
from sidecar.protocol.releases import Release
from sidecar.protocol.states import Dialect, State
from sidecar.protocol.versions import OVIRT_MAXIMUM
from sidecar.record.agreement import Origin

LabelT = TypeVar("LabelT", bound=str)

# A loop that does not find the time for a look by then has graver troubles, and whoever scrapes has given up.
LOOK_S = 5.0

_NO_VERSION = "0"

# A guest may claim any release, and the lower of its own and ours is agreed; those that the table lacks say nothing.
_RELEASES = sorted({command.since for command in QGA_COMMANDS.values()})

_AGREED_VERSIONS: Mapping[Dialect, tuple[str, ...]] = {
    Dialect.OVIRT: tuple(str(version) for version in range(1, OVIRT_MAXIMUM + 1)),
    Dialect.QGA: tuple(str(release) for release in _RELEASES),
}

_CHANNEL_LABELS = tuple(
    (dialect, state, version)
    for dialect in Dialect
    for state in State
    for version in (_AGREED_VERSIONS[dialect] if state is State.AGREED else (_NO_VERSION,))
)

# An agent of the QGA dialect answers; what is no answer is all that can be wrong with it.
_BAD_INPUT_LABELS = (*((Dialect.OVIRT, code) for code in BadInputCode), (Dialect.QGA, BadInputCode.BAD_MESSAGE))


@dataclass(frozen=True, slots=True)
class FleetCount:
    """The fleet at one moment: how many hosts it has, this one included, and what this one offers, by dialect."""

    hosts: int
    maxima: Mapping[Dialect, str]


@dataclass(frozen=True, slots=True)
class _Look:
    """Everything at one moment."""

    tally: Tally
    channels: tuple[ChannelView, ...]
    domains: int
    fleet: FleetCount


class Metrics:
    """See the module; to be made on the event loop's thread, and rendered on any other."""

    def __init__(
        self,
        tally: Tally,
        channels: Callable[[], Iterable[ChannelView]],
        domains: Callable[[], int],
        fleet: Callable[[], FleetCount],
    ) -> None:
        """``channels`` gives every channel of every domain, ``domains`` their number; all are called on the loop."""
        self._tally, self._channels, self._domains, self._fleet = tally, channels, domains, fleet
        self._loop = asyncio.get_running_loop()
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        """The text of one scrape, in UTF-8; blocks, so it is for another thread than the loop's.

        Raises:
            TimeoutError: The loop did not find the time within ``LOOK_S``.
        """
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """For ``prometheus_client``: every family of ours."""
        # The engine changes what it has at any time, on its own thread: there it is copied.
        look = asyncio.run_coroutine_threadsafe(self._look(), self._loop).result(LOOK_S)
        yield from _describe_now(look)
        yield from _describe_arrivals(look.tally)
        yield from _describe_guests_words(look.tally)
        yield from _describe_libvirt(look.tally)
        yield from _describe_bus(look.tally)
        yield from _describe_fleet(look.fleet)

    async def _look(self) -> _Look:
        return _Look(deepcopy(self._tally), tuple(self._channels()), self._domains(), self._fleet())


def _describe_now(look: _Look) -> Iterator[Metric]:
    build = GaugeMetricFamily("sidecar_build_info", "This daemon's version, and its API's.", labels=["version", "api"])
    build.add_metric([__version__, str(API_VERSION)], 1)
    yield build
    yield GaugeMetricFamily("sidecar_domains", "Active domains of this host.", value=look.domains)
    channels = GaugeMetricFamily(
        "sidecar_channels",
        "Guest-agent channels by state; version: the agreed one (QGA: the newest of our releases not above it), or 0.",
        labels=["dialect", "state", "version"],
    )
    counts = Counter(_label_channel(view) for view in look.channels)
    for labels in dict.fromkeys((*_CHANNEL_LABELS, *counts)):
        channels.add_metric(labels, counts[labels])
    yield channels


def _label_channel(view: ChannelView) -> tuple[Dialect, State, str]:
    dialect, state = Dialect(view.dialect), State(view.state)
    return dialect, state, _label_version(dialect, view.version) if state is State.AGREED else _NO_VERSION


def _label_version(dialect: Dialect, text: str) -> str:
    """The newest version known here that is not above the one in the text; what is none counts as none."""
    try:
        if dialect is Dialect.OVIRT:
            return str(min(max(int(text), 0), OVIRT_MAXIMUM))
        known = bisect_right(_RELEASES, Release.parse(text))
    except ValueError:
        return _NO_VERSION
    return str(_RELEASES[known - 1]) if known else _NO_VERSION


def _describe_arrivals(tally: Tally) -> Iterator[Metric]:
    yield _count("sidecar_arrivals", "Guests that arrived, by how they came.", "origin", tally.arrivals, Origin)
    took = HistogramMetricFamily(
        "sidecar_resume_to_agreed_seconds",
        "From a guest's first running here to the first agreement on a channel that was there then.",
        labels=["dialect"],
    )
    for dialect, histogram in tally.resume_to_agreed.items():
        took.add_metric([dialect], _accumulate(histogram), histogram.sum_s)
    yield took
    text = "Times that a version was agreed anew on a channel."
    yield _count("sidecar_negotiations", text, "dialect", tally.negotiations, Dialect)
    text = "Writes of records to the domains' XML, by how they ended."
    yield _count("sidecar_record_writes", text, "outcome", tally.record_writes, WriteOutcome)
    text = "Failed attempts to write a record that were followed by another."
    yield CounterMetricFamily("sidecar_record_retries", text, tally.record_retries)


def _accumulate(histogram: Histogram) -> list[tuple[str, float]]:
    """The buckets as Prometheus has them: each holds all that is not above its bound."""
    bounds = (*map(str, ARRIVAL_BUCKETS_S), "+Inf")
    return list(zip(bounds, accumulate(histogram.counts), strict=True))


def _describe_guests_words(tally: Tally) -> Iterator[Metric]:
    text = "Messages that were refused to a caller, by the problem's code."
    yield _count("sidecar_refusals", text, "code", tally.refusals, RefusalCode)
    bad_input = CounterMetricFamily(
        "sidecar_bad_input",
        "What guests sent and nobody could use, by the problem's code.",
        labels=["dialect", "code"],
    )
    for labels in _BAD_INPUT_LABELS:
        bad_input.add_metric(labels, tally.bad_input[labels])
    yield bad_input


def _describe_libvirt(tally: Tally) -> Iterator[Metric]:
    text = "Whether there is a connection to libvirt."
    yield GaugeMetricFamily("sidecar_libvirt_connected", text, float(tally.libvirt_connected))
    text = "Connections to libvirt that were made."
    yield CounterMetricFamily("sidecar_libvirt_connections", text, tally.libvirt_connections)


def _describe_bus(tally: Tally) -> Iterator[Metric]:
    text = "Whether there is a connection to the message bus."
    yield GaugeMetricFamily("sidecar_bus_connected", text, float(tally.bus_connected))
    text = "Events that the bus's broker has not taken yet."
    yield GaugeMetricFamily("sidecar_bus_outbox_events", text, tally.bus_waiting)
    text = "Events that the bus's broker took."
    yield CounterMetricFamily("sidecar_bus_notified", text, tally.bus_notified)
    text = "Events that were given up, because too many waited for the bus's broker."
    yield CounterMetricFamily("sidecar_bus_dropped", text, tally.bus_dropped)
    text = "Times that the process which talks to the bus ended by itself and was started again."
    yield CounterMetricFamily("sidecar_bus_restarts", text, tally.bus_restarts)


def _describe_fleet(fleet: FleetCount) -> Iterator[Metric]:
    text = "Hosts that the fleet counts, this one included."
    yield GaugeMetricFamily("sidecar_fleet_hosts", text, fleet.hosts)
    maxima = GaugeMetricFamily(
        "sidecar_host_maximum_info",
        "What this host offers its guests at most, after its own caps and the fleet's.",
        labels=["dialect", "version"],
    )
    for labels in fleet.maxima.items():
        maxima.add_metric(labels, 1)
    yield maxima


def _count(
    name: str, text: str, label: str, counts: Mapping[LabelT, int], known: Iterable[LabelT]
) -> CounterMetricFamily:
    """One series for each known value of the label, counted or not."""
    family = CounterMetricFamily(name, text, labels=[label])
    for value in known:
        family.add_metric([value], counts.get(value, 0))
    return family
