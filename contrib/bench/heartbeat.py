"""Bench: CPU a message over real unix sockets, the daemon's engine against a bare protocol with ``json.loads``.

One message at a time, each when the one before has been read: so do the heartbeats of many guests come, five seconds
apart each. ``applications`` is the largest that guests send, and comes in several reads; ``heartbeat-burst`` is what a
guest says that says hundreds at once, as no honest one does. CPU is that of the whole process, system calls included.
Scripted guests, and a fake of libvirt, which is not asked.
"""

import statistics
from collections.abc import Sequence

from contrib.bench.scripted_peers import render_heartbeat, render_line
from contrib.bench.scripted_rig import ARMS, COUNTS, Worker, open_peers, serve_all

LIMIT = 3.0
CHANNELS = 10
# So much less than the 256 KiB that are read of one guest at once; the rest would be read later, at 128 KiB a second.
MESSAGES = 2000
MESSAGES_A_CHANNEL = 500
BURST = 200
PACKAGES = 1500
LISTS = 4
GROWTH_RUNS = 5
_WARM_UP = 20


def measure(runs: int) -> dict[str, object]:
    """Heartbeats one by one; microseconds of CPU each."""
    result = _compare("heartbeat", runs, CHANNELS, _render_beats(MESSAGES // CHANNELS))
    growth = {str(count): _time_ours(count, min(MESSAGES // count, MESSAGES_A_CHANNEL)) for count in COUNTS}
    return {**result, "growth": growth, "growth_of": "us a heartbeat"}


def measure_burst(runs: int) -> dict[str, object]:
    """Heartbeats that come many at a time."""
    beats = _render_beats(BURST)
    return _compare("heartbeat-burst", runs, CHANNELS, [b"".join(beats)], messages_a_line=BURST)


def measure_applications(runs: int) -> dict[str, object]:
    """Long lists; and a heartbeat at the end, by which is seen that all was read."""
    line = render_line("applications", applications=[f"package-number-{n}-1.0.{n}-2+deb12u1" for n in range(PACKAGES)])
    result = _compare("applications", runs, CHANNELS, [line] * LISTS)
    return {**result, "notes": [f"{len(line) // 1024} KiB each"]}


def _render_beats(count: int) -> list[bytes]:
    return [render_heartbeat(number) for number in range(count)]


def _compare(
    name: str, runs: int, channels: int, lines: Sequence[bytes], messages_a_line: int = 1
) -> dict[str, object]:
    raw: dict[str, list[float]] = {arm: [] for arm in ARMS}
    with open_peers(channels) as (peers, paths):
        for run in range(runs):
            for arm in [*ARMS] if run % 2 else [*reversed(ARMS)]:
                with serve_all(arm, peers, paths) as worker:
                    cpu_us = _time(worker, peers, channels, lines)
                raw[arm].append(round(cpu_us / messages_a_line, 2))
    p50 = {arm: statistics.median(values) for arm, values in raw.items()}
    ratio = p50["sidecard"] / p50["bare"]
    return {
        "name": name,
        "unit": "us of CPU",
        "runs": runs,
        "p50": p50,
        "ratio": ratio,
        "limit": LIMIT,
        "passed": ratio <= LIMIT,
        "raw": raw,
    }


def _time_ours(channels: int, count: int) -> float:
    """Ours alone, on so many channels: the median of a few."""
    times = []
    with open_peers(channels) as (peers, paths):
        for _ in range(GROWTH_RUNS):
            with serve_all("sidecard", peers, paths) as worker:
                times.append(_time(worker, peers, channels, _render_beats(count)))
    return round(statistics.median(times), 1)


def _time(worker: Worker, peers: Worker, channels: int, lines: Sequence[bytes]) -> float:
    """Microseconds of CPU a line."""
    peers.order("say", _render_beats(max(1, _WARM_UP // channels)), channels)
    worker.order("last")
    before = worker.cpu_s
    peers.order("say", lines, channels)
    spent = worker.cpu_s - before
    peers.order("say", [render_heartbeat(4711)], channels)
    if set(worker.order("last")) != {"4711"}:
        raise SystemExit("heartbeat: a message got lost")
    return spent * 1e6 / (len(lines) * channels)
