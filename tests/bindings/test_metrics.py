"""The text of a scrape, read back by Prometheus' own parser."""

import asyncio
import math
import random
from collections.abc import Callable, Iterable

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from sidecar import __version__
from sidecar.api.versions import API_VERSION
from sidecar.api.views import ChannelView
from sidecar.bindings import metrics as binding
from sidecar.bindings.metrics import FleetCount, Metrics
from sidecar.engine.tally import ARRIVAL_BUCKETS_S, Tally, WriteOutcome
from sidecar.errors import RefusalCode
from sidecar.protocol.bad_input import BadInputCode
from sidecar.protocol.qga_commands import QGA_COMMANDS
from sidecar.protocol.states import Dialect, Reason, State
from sidecar.record.agreement import Origin

Labels = dict[str, str]


def view(dialect: str, state: str, version: str, name: str = "c") -> ChannelView:
    return ChannelView(name, dialect, state, version, version, "4", "2026-11-21T06:00:00.000Z", None)


class Scraped:
    """One scrape."""

    def __init__(self, text: bytes) -> None:
        self.families: dict[str, Metric] = {}
        for family in text_string_to_metric_families(text.decode()):
            assert family.name not in self.families
            self.families[family.name] = family
        self.values: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for family in self.families.values():
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                assert key not in self.values
                self.values[key] = sample.value

    def value(self, name: str, **labels: str) -> float:
        return self.values[name, frozenset(labels.items())]

    def series(self, name: str) -> dict[tuple[str, ...], float]:
        """By the labels' values, in the order of the labels' names."""
        found = {key[1]: value for key, value in self.values.items() if key[0] == name}
        return {tuple(value for _, value in sorted(labels)): number for labels, number in found.items()}


def count_fleet() -> FleetCount:
    return FleetCount(3, {Dialect.OVIRT: "3", Dialect.QGA: "7.2"})


async def scrape(tally: Tally | None = None, channels: Iterable[ChannelView] = (), domains: int = 0) -> Scraped:
    listed = list(channels)
    metrics = Metrics(tally or Tally(), lambda: listed, lambda: domains, count_fleet)
    return Scraped(await asyncio.to_thread(metrics.render))


async def test_every_family_is_told_with_its_type_and_a_text() -> None:
    scraped = await scrape()
    ours = {name: family for name, family in scraped.families.items() if not name.startswith("process_")}
    # The parser drops "_total" from a counter's name.
    assert {name: family.type for name, family in ours.items()} == {
        "sidecar_build_info": "gauge",
        "sidecar_domains": "gauge",
        "sidecar_channels": "gauge",
        "sidecar_arrivals": "counter",
        "sidecar_resume_to_agreed_seconds": "histogram",
        "sidecar_negotiations": "counter",
        "sidecar_record_writes": "counter",
        "sidecar_record_retries": "counter",
        "sidecar_refusals": "counter",
        "sidecar_bad_input": "counter",
        "sidecar_libvirt_connected": "gauge",
        "sidecar_libvirt_connections": "counter",
        "sidecar_bus_connected": "gauge",
        "sidecar_bus_outbox_events": "gauge",
        "sidecar_bus_notified": "counter",
        "sidecar_bus_dropped": "counter",
        "sidecar_bus_restarts": "counter",
        "sidecar_fleet_hosts": "gauge",
        "sidecar_host_maximum_info": "gauge",
    }
    assert all(len(family.documentation) > 10 for family in ours.values())
    assert scraped.value("process_resident_memory_bytes") > 0
    assert scraped.value("process_cpu_seconds_total") > 0


async def test_what_this_is() -> None:
    scraped = await scrape()
    assert scraped.value("sidecar_build_info", version=__version__, api=str(API_VERSION)) == 1


async def test_what_can_be_foreseen_is_there_from_the_start() -> None:
    scraped = await scrape()
    assert scraped.series("sidecar_arrivals_total") == {(origin,): 0 for origin in Origin}
    assert scraped.series("sidecar_negotiations_total") == {("ovirt",): 0, ("qga",): 0}
    assert scraped.series("sidecar_refusals_total") == {(code,): 0 for code in RefusalCode}
    assert scraped.series("sidecar_bad_input_total") == {
        ("bad-message", "ovirt"): 0,
        ("bad-version", "ovirt"): 0,
        ("unknown-message", "ovirt"): 0,
        ("line-too-long", "ovirt"): 0,
        ("bad-message", "qga"): 0,
    }
    assert scraped.series("sidecar_record_writes_total") == {
        ("written",): 0,
        ("changed-by-others",): 0,
        ("failed",): 0,
    }
    assert scraped.series("sidecar_record_retries_total") == {(): 0}
    assert scraped.series("sidecar_libvirt_connections_total") == {(): 0}
    assert scraped.series("sidecar_resume_to_agreed_seconds_count") == {("ovirt",): 0, ("qga",): 0}
    channels = scraped.series("sidecar_channels")
    assert set(channels.values()) == {0}
    assert {labels for labels in channels if labels[0] == "ovirt"} == {
        ("ovirt", "absent", "0"),
        ("ovirt", "lost", "0"),
        ("ovirt", "unversioned", "0"),
        ("ovirt", "waiting", "0"),
        *(("ovirt", "agreed", version) for version in "1234"),
    }


async def test_what_was_counted() -> None:
    tally = Tally(record_retries=3, libvirt_connected=True, libvirt_connections=2)
    tally.arrivals[Origin.MIGRATION] = 7
    tally.negotiations[Dialect.QGA] = 9
    tally.refusals[RefusalCode.VERSION_TOO_LOW] = 1
    tally.bad_input[Dialect.OVIRT, BadInputCode.BAD_VERSION] = 12
    tally.record_writes[WriteOutcome.WRITTEN] = 70
    scraped = await scrape(tally, domains=5)
    assert scraped.value("sidecar_arrivals_total", origin="migration") == 7
    assert scraped.value("sidecar_arrivals_total", origin="start") == 0
    assert scraped.value("sidecar_negotiations_total", dialect="qga") == 9
    assert scraped.value("sidecar_refusals_total", code="version-too-low") == 1
    assert scraped.value("sidecar_bad_input_total", dialect="ovirt", code="bad-version") == 12
    assert scraped.value("sidecar_record_writes_total", outcome="written") == 70
    assert scraped.value("sidecar_record_retries_total") == 3
    assert scraped.value("sidecar_libvirt_connected") == 1
    assert scraped.value("sidecar_libvirt_connections_total") == 2
    assert scraped.value("sidecar_domains") == 5


async def test_the_bus_and_the_fleet() -> None:
    quiet = await scrape()
    assert {name: quiet.value(name) for name in BUS} == dict.fromkeys(BUS, 0)
    tally = Tally(bus_connected=True, bus_waiting=2, bus_notified=3, bus_dropped=4, bus_restarts=5)
    scraped = await scrape(tally)
    assert [scraped.value(name) for name in BUS] == [1, 2, 3, 4, 5]
    assert scraped.value("sidecar_fleet_hosts") == 3
    assert scraped.series("sidecar_host_maximum_info") == {("ovirt", "3"): 1, ("qga", "7.2"): 1}


BUS = (
    "sidecar_bus_connected",
    "sidecar_bus_outbox_events",
    "sidecar_bus_notified_total",
    "sidecar_bus_dropped_total",
    "sidecar_bus_restarts_total",
)


async def test_the_histogram_accumulates() -> None:
    tally = Tally()
    for seconds in (0.01, 0.15, 0.16, 4.0, 500.0):
        tally.resume_to_agreed[Dialect.OVIRT].observe(seconds)
    scraped = await scrape(tally)
    buckets = {
        float(dict(labels)["le"]): value
        for (name, labels), value in scraped.values.items()
        if name == "sidecar_resume_to_agreed_seconds_bucket" and dict(labels)["dialect"] == "ovirt"
    }
    assert sorted(buckets) == [*ARRIVAL_BUCKETS_S, math.inf]
    assert [buckets[bound] for bound in (0.025, 0.1, 0.15, 0.2, 2.5, 5.0, 120.0, math.inf)] == [1, 1, 2, 3, 3, 4, 4, 5]
    assert scraped.value("sidecar_resume_to_agreed_seconds_count", dialect="ovirt") == 5
    assert scraped.value("sidecar_resume_to_agreed_seconds_sum", dialect="ovirt") == pytest.approx(504.32)
    assert scraped.value("sidecar_resume_to_agreed_seconds_count", dialect="qga") == 0


@pytest.mark.parametrize(
    ("dialect", "version", "label"),
    [
        ("ovirt", "1", "1"),
        ("ovirt", "4", "4"),
        ("ovirt", "5", "4"),
        ("ovirt", "2147483647", "4"),
        ("ovirt", "-3", "0"),
        ("ovirt", "9" * 5000, "0"),
        ("ovirt", 'x"} 1\nmade_up 7', "0"),
        ("qga", "0.15", "0.15"),
        ("qga", "0.1", "0"),
        ("qga", "7.0", "5.2"),
        ("qga", "7.1", "7.1"),
        ("qga", "7.2", "7.1"),
        ("qga", "2.9", "2.5"),
        ("qga", "2.10", "2.10"),
        ("qga", "10.0", "10.0"),
        ("qga", "999999999.999999999", "10.0"),
        ("qga", 'x"} 1\nmade_up 7', "0"),
        ("qga", "", "0"),
    ],
)
async def test_an_agreed_version_is_one_that_we_know(dialect: str, version: str, label: str) -> None:
    scraped = await scrape(channels=[view(dialect, "agreed", version)])
    counted = {labels for labels, value in scraped.series("sidecar_channels").items() if value}
    assert counted == {(dialect, "agreed", label)}


@pytest.mark.parametrize("state", [state for state in State if state is not State.AGREED])
async def test_where_nothing_is_agreed_there_is_no_version(state: State) -> None:
    scraped = await scrape(channels=[view("ovirt", state, "0"), view("qga", state, "7.2"), view("qga", state, "0")])
    counted = {labels: value for labels, value in scraped.series("sidecar_channels").items() if value}
    assert counted == {("ovirt", state, "0"): 1, ("qga", state, "0"): 2}


async def test_ten_thousand_guests_that_want_a_series_each() -> None:
    dice = random.Random(4)

    def hostile(number: int) -> ChannelView:
        version = dice.choice([f"{number}.{number}", str(number), f"0.{number}", f"v{number}", "\n" * number])
        state = dice.choice([*State, State.AGREED, State.AGREED])
        return view(dice.choice([*Dialect]), state, version, name=f"org.guest.{number}")

    quiet = await scrape()
    scraped = await scrape(channels=[hostile(number) for number in range(10_000)])
    channels = scraped.series("sidecar_channels")
    assert sum(channels.values()) == 10_000
    # One more for each dialect: agreed on nothing that we know, which no session of ours says.
    releases = {str(command.since) for command in QGA_COMMANDS.values()}
    assert len(channels) <= 2 * len(State) + 4 + len(releases)
    assert len(scraped.values) <= len(quiet.values) + 2


async def test_a_guests_words_name_nothing() -> None:
    words = "GUEST-SAYS"
    channel = ChannelView(words, "ovirt", "agreed", "3", words, words, words, Reason.FLAPPING)
    metrics = Metrics(Tally(), lambda: [channel], lambda: 1, count_fleet)
    assert words.encode() not in await asyncio.to_thread(metrics.render)


async def test_no_counter_goes_back_when_channels_and_domains_do() -> None:
    tally, channels, domains = Tally(), [view("ovirt", "agreed", "3")], 1
    metrics = Metrics(tally, lambda: channels, lambda: domains, count_fleet)
    tally.negotiations[Dialect.OVIRT] += 1
    tally.resume_to_agreed[Dialect.OVIRT].observe(1.5)
    first = Scraped(await asyncio.to_thread(metrics.render))
    channels, domains = [], 0
    second = Scraped(await asyncio.to_thread(metrics.render))
    assert second.value("sidecar_channels", dialect="ovirt", state="agreed", version="3") == 0
    assert second.value("sidecar_domains") == 0
    growing = [key for key in first.values if key[0].endswith(("_total", "_count", "_bucket", "_sum"))]
    assert len(growing) > 50
    assert all(second.values[key] >= first.values[key] for key in growing)


async def test_what_is_copied_is_copied_between_two_turns_of_the_loop() -> None:
    """A channel's row and its counters change together on the loop, and are seen together."""
    tally, channels, stop = Tally(), list[ChannelView](), False

    def change() -> None:
        channels.append(view("ovirt", "agreed", "3"))
        tally.negotiations[Dialect.OVIRT] += 1
        if not stop:
            asyncio.get_running_loop().call_soon(change)

    metrics = Metrics(tally, lambda: (channel for channel in channels), lambda: len(channels), count_fleet)
    change()
    for _ in range(20):
        scraped = Scraped(await asyncio.to_thread(metrics.render))
        agreed = scraped.value("sidecar_channels", dialect="ovirt", state="agreed", version="3")
        assert agreed == scraped.value("sidecar_domains") > 0
        assert agreed == scraped.value("sidecar_negotiations_total", dialect="ovirt")
    stop = True


async def test_a_loop_that_has_no_time_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding, "LOOK_S", 0.05)
    metrics = Metrics(Tally(), list, lambda: 0, count_fleet)
    rendering = asyncio.get_running_loop().run_in_executor(None, metrics.render)
    block_until(rendering.get_loop().time, 0.5)
    with pytest.raises(TimeoutError):
        await rendering


def block_until(clock: Callable[[], float], seconds: float) -> None:
    end = clock() + seconds
    while clock() < end:
        pass
