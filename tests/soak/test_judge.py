"""The judge finds each fault that there can be: one that is content with everything would make the soak worthless."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.soak.judge import Before, Seen, SeenRecord, judge
from tests.soak.world import OVIRT, QGA, Caps, Expected, GuestState, World, expect

OTHERS = ["a note", "another program's"]
EARLIER, LATER, LAST = "2026-11-21T07:31:38.440Z", "2026-11-21T07:31:38.489Z", "2026-11-21T07:31:40.000Z"

Change = Callable[[Seen], Seen]


def expected_on(host: str = "beta", **changes: Any) -> Expected:
    """A guest with our own agent that has come to beta, which allows 2 and 5.2, or to alpha, which allows all."""
    state = GuestState("own", "7.2.22", host, frozenset({"migration"}), arrivals=2, process=2)
    return expect(World({"alpha": Caps(), "beta": Caps(2, "5.2")}, {"own": replace(state, **changes)}), "own")


def seen_as(expected: Expected, run: str = "r2", arrived: str = EARLIER, since: str = LATER) -> Seen:
    """Everything as it should be."""
    state = expected.state
    attributes = {
        "host": state.host,
        "run": run,
        "arrival": min(state.ways),
        "arrivals": str(state.arrivals),
        "arrived": arrived,
    }
    rows = {
        name: {"name": name, "since": since}
        | {key: value for key in row.__slots__ if (value := getattr(row, key)) is not None}
        for name, row in expected.rows.items()
    }
    record = SeenRecord(attributes, rows, {"source": "guest-tools"})
    return Seen(record, record, record, True, (OTHERS, OTHERS), expected.believed, "boot", 60.0, True)


def edit(attributes: dict[str, str] | None = None, channel: str = OVIRT, **row: str | None) -> Change:
    """The same with other attributes, or another row, everywhere."""

    def change(seen: Seen) -> Seen:
        assert seen.live is not None
        edited = {**seen.live.channels[channel], **row}
        rows = {**seen.live.channels, channel: {key: value for key, value in edited.items() if value is not None}}
        record = replace(seen.live, attributes={**seen.live.attributes, **(attributes or {})}, channels=rows)
        return replace(seen, live=record, config=record, api=record)

    return change


def put(**fields: Any) -> Change:
    """The same with other fields."""
    return lambda seen: replace(seen, **fields)


def without_row(seen: Seen) -> Seen:
    assert seen.live is not None
    record = replace(seen.live, channels={OVIRT: seen.live.channels[OVIRT]})
    return replace(seen, live=record, config=record, api=record)


RIGHT = seen_as(expected_on())

FAULTS: dict[str, tuple[Change, str]] = {
    "no record": (put(live=None, config=None, api=None), "there is no record"),
    "host": (edit({"host": "alpha"}), "host is 'alpha', and should be beta"),
    "arrival": (edit({"arrival": "attach"}), "arrival is 'attach', and should be migration"),
    "counted twice": (edit({"arrivals": "3"}), "arrivals is '3', and should be 2"),
    "no channel": (without_row, f"should be {sorted([OVIRT, QGA])}"),
    "state": (edit(state="waiting"), "state='waiting'"),
    "version": (edit(version="3"), "version='3'"),
    "reason": (edit(reason="inferred"), "reason='inferred'"),
    "guest": (edit(guest=None), "guest=None"),
    "host's maximum": (edit(host="4"), "host='4'"),
    "the other dialect": (edit(channel=QGA, version="7.2"), "version='7.2'"),
    "since": (edit(since="2026-11-21T07:31:38.000Z"), "before it arrived"),
    "configuration": (put(config=None), "the configuration says None"),
    "daemon": (put(api=None), "the daemon says None"),
    "not settled": (put(settled=False), "the daemon says that the record is not what it should be"),
    "stopped": (put(running=False), "the guest does not run"),
    "agent": (put(believed=4), "the agent believes in 4, and 2 is agreed"),
    "live metadata": (put(others=(OTHERS[:1], OTHERS)), "the live XML has ['a note'] beside the record"),
    "metadata of the configuration": (put(others=(OTHERS, [])), "the configuration has [] beside the record"),
}


def test_nothing_is_wrong() -> None:
    assert judge(expected_on(), RIGHT, None, OTHERS) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found(fault: str) -> None:
    change, complaint = FAULTS[fault]
    assert complaint in "\n".join(judge(expected_on(), change(RIGHT), None, OTHERS))


def test_tools_have_to_be_told_of_where_the_version_has_a_message_for_them() -> None:
    expected = expected_on("alpha")
    seen = seen_as(expected)
    assert seen.live is not None
    bare = replace(seen.live, tools=None)
    complaints = judge(expected, replace(seen, live=bare, config=bare, api=bare), None, OTHERS)
    assert complaints == ["the tools are None, and the guest tells of them at version 4"]
    bare = replace(seen_as(expected_on()).live or bare, tools=None)
    assert judge(expected_on(), replace(RIGHT, live=bare, config=bare, api=bare), None, OTHERS) == []


BEFORE = Before(expected_on(arrivals=1, process=1), seen_as(expected_on(arrivals=1, process=1), "r1"))
SAME = Before(expected_on(), RIGHT)
STIRRED = expected_on(stirs=1)


def test_a_new_process_has_another_run_and_a_later_arrival() -> None:
    fresh = seen_as(expected_on(), "r2", LATER, LAST)
    assert judge(expected_on(), fresh, BEFORE, OTHERS) == []
    for attributes in ({"run": "r1"}, {"arrived": EARLIER}):
        assert len(judge(expected_on(), edit(attributes)(fresh), BEFORE, OTHERS)) == 1


def test_without_an_arrival_the_record_keeps_its_own() -> None:
    assert judge(expected_on(), RIGHT, SAME, OTHERS) == []
    assert "nothing has arrived" in judge(STIRRED, edit({"run": "r3"})(RIGHT), SAME, OTHERS)[0]


def test_what_was_not_stirred_is_not_touched() -> None:
    touched = edit(since=LAST)(RIGHT)
    assert "after nothing" in judge(expected_on(), touched, SAME, OTHERS)[0]
    assert judge(STIRRED, touched, SAME, OTHERS) == []


def test_a_boot_is_one_if_there_was_one() -> None:
    rebooted = replace(RIGHT, boot="another", uptime_s=1.0)
    assert len(judge(expected_on(), rebooted, SAME, OTHERS)) == 2
    assert judge(expected_on(boots=2, stirs=1), rebooted, SAME, OTHERS) == []
    assert "boot was" in judge(expected_on(boots=2, stirs=1), RIGHT, SAME, OTHERS)[0]
    assert "was up for" in judge(expected_on(), replace(RIGHT, uptime_s=1.0), SAME, OTHERS)[0]
