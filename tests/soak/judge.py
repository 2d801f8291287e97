"""Compares what was seen of a guest with what must be: pure, so that the judge itself can be tested.

A complaint is a sentence. No complaint about anything is what the soak asks for after each step.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.soak.world import OVIRT, Expected, Row

Attributes = Mapping[str, str]

_NONE: Attributes = {}


@dataclass(frozen=True, slots=True)
class SeenRecord:
    """A record: its attributes, its channels' by name, and its tools'."""

    attributes: Attributes
    channels: Mapping[str, Attributes]
    tools: Attributes | None = None

    def row(self, channel: str) -> Row | None:
        """A channel's row as the contract speaks of it."""
        seen = self.channels.get(channel)
        if seen is None:
            return None
        state, version, host = (seen.get(key, "") for key in ("state", "version", "host"))
        return Row(state, version, seen.get("reason"), seen.get("guest"), host)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of one guest at one moment.

    Attributes:
        live: the record in the live XML.
        config: the record in the configuration.
        api: the record as the daemon of its host tells it.
        settled: whether that daemon says that the record stands in the XML.
        others: what else is below <metadata>, in the live XML and in the configuration.
        believed: the version that the oVirt agent in the guest believes to be in force.
        boot: the guest kernel's name for this boot.
        uptime_s: how long ago that was.
        running: whether libvirt says that it runs.
    """

    live: SeenRecord | None
    config: SeenRecord | None
    api: SeenRecord | None
    settled: bool
    others: tuple[Sequence[str], Sequence[str]]
    believed: int
    boot: str
    uptime_s: float
    running: bool


@dataclass(frozen=True, slots=True)
class Before:
    """What was judged right after the step before."""

    expected: Expected
    seen: Seen


def judge(expected: Expected, seen: Seen, before: Before | None, others: Sequence[str]) -> list[str]:
    """Every complaint about one guest; `others` is what else its metadata must hold."""
    return [
        *_judge_record(expected, seen.live),
        *_judge_copies(seen),
        *_judge_guest(expected, seen),
        *_judge_others(seen, others),
        *([] if before is None else _judge_change(expected, seen, before)),
    ]


def _judge_record(expected: Expected, record: SeenRecord | None) -> Iterator[str]:
    if record is None:
        yield "there is no record"
        return
    state, seen = expected.state, record.attributes
    for key, right in (("host", {state.host}), ("arrival", state.ways), ("arrivals", {str(state.arrivals)})):
        if seen.get(key) not in right:
            yield f"{key} is {seen.get(key)!r}, and should be {' or '.join(sorted(right))}"
    if set(record.channels) != set(expected.rows):
        yield f"the channels are {sorted(record.channels)}, and should be {sorted(expected.rows)}"
    for channel, row in expected.rows.items():
        if record.row(channel) != row:
            yield f"{channel} is {record.row(channel)}, and should be {row}"
    for channel, values in record.channels.items():
        if values.get("since", "") < seen.get("arrived", ""):
            yield f"{channel} is so since {values.get('since')}, before it arrived ({seen.get('arrived')})"


def _judge_copies(seen: Seen) -> Iterator[str]:
    if seen.config != seen.live:
        yield f"the configuration says {seen.config}, the live XML {seen.live}"
    if seen.api != seen.live:
        yield f"the daemon says {seen.api}, the live XML {seen.live}"
    if not seen.settled:
        yield "the daemon says that the record is not what it should be"


def _judge_guest(expected: Expected, seen: Seen) -> Iterator[str]:
    if not seen.running:
        yield "the guest does not run"
    if seen.believed != expected.believed:
        yield f"the agent believes in {seen.believed}, and {expected.believed} is agreed"
    tools = None if seen.live is None else seen.live.tools
    told = expected.rows[OVIRT].version == "4"  # the one version that has a message for it
    if told and (tools or _NONE).get("source") != "guest-tools":
        yield f"the tools are {tools}, and the guest tells of them at version 4"


def _judge_others(seen: Seen, right: Sequence[str]) -> Iterator[str]:
    for where, others in zip(("live XML", "configuration"), seen.others, strict=True):
        if list(others) != list(right):
            yield f"the {where} has {list(others)} beside the record, and should have {list(right)}"


def _judge_change(expected: Expected, seen: Seen, before: Before) -> Iterator[str]:
    """What may and must have changed since the step before."""
    now, then = expected.state, before.expected.state
    if (seen.boot == before.seen.boot) != (now.boots == then.boots):
        yield f"the guest's boot was {before.seen.boot}, and is {seen.boot}"
    if now.boots == then.boots and seen.uptime_s < before.seen.uptime_s:
        yield f"the guest was up for {before.seen.uptime_s} s, and is for {seen.uptime_s} s"
    if seen.live is not None and before.seen.live is not None:
        changed = _judge_arrival(now.process != then.process, seen.live.attributes, before.seen.live.attributes)
        yield from changed
        if (now.process, now.stirs) == (then.process, then.stirs) and seen.live.channels != before.seen.live.channels:
            yield f"the channels were {before.seen.live.channels}, and are {seen.live.channels}, after nothing"


def _judge_arrival(is_new: bool, seen: Attributes, before: Attributes) -> Iterator[str]:
    if is_new and seen.get("run") == before.get("run"):
        yield f"it is another QEMU process, and run is still {seen.get('run')}"
    if is_new and not seen.get("arrived", "") > before.get("arrived", ""):
        yield f"it arrived at {seen.get('arrived')}, after {before.get('arrived')}"
    if not is_new and seen != before:
        yield f"nothing has arrived, and the record's {dict(before)} became {dict(seen)}"
