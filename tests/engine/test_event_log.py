"""The log of events: followers, places, resuming, and those who are too slow."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.api.events import EventType
from sidecar.engine.event_log import EventLog, Follower
from tests.engine.lone_host import settle

EPOCH = datetime(2026, 11, 21, tzinfo=UTC)
ONE = UUID(int=1)


def make_log(limit: int = 8, started: datetime = EPOCH) -> EventLog:
    return EventLog(lambda: started, limit)


def publish(log: EventLog, count: int, begin: int = 0) -> None:
    for number in range(begin, begin + count):
        log.publish(EventType.ARRIVED, "vm1", ONE, number=number)


def drain(follower: Follower) -> list[object]:
    told: list[object] = []
    while (event := follower.take()) is not None:
        told.append(event.details.get("number", (event.details.get("what"), event.details.get("missed"))))
    return told


def test_from_the_first_event_there_ever_was() -> None:
    log = make_log()
    publish(log, 3)
    assert drain(log.follow_all()) == [0, 1, 2]
    publish(log, 8, 3)
    assert drain(log.follow_all()) == [("missed", 3), *range(3, 11)]
    assert drain(make_log().follow_all()) == []


def test_an_event_and_its_document() -> None:
    log = make_log()
    follower = log.follow()
    log.publish(EventType.ARRIVED, "vm1", ONE, arrivals=2)
    event = follower.take()
    assert event is not None
    assert event.document == {
        "id": log.last_id,
        "time": "2026-11-21T00:00:00.000Z",
        "type": "arrived",
        "domain": "vm1",
        "uuid": str(ONE),
        "arrivals": 2,
    }


def test_who_follows_is_told_what_happens_from_then_on() -> None:
    log = make_log()
    publish(log, 3)
    follower = log.follow()
    assert follower.take() is None
    publish(log, 2, begin=3)
    assert drain(follower) == [3, 4]


def test_resuming_from_an_event() -> None:
    log = make_log()
    follower = log.follow()
    publish(log, 5)
    third = [follower.take() for _ in range(3)][-1]
    assert third is not None
    assert drain(log.follow(third.id)) == [3, 4]
    assert drain(log.follow(log.last_id)) == []


def test_who_is_too_slow_is_told_how_much_he_missed_and_goes_on() -> None:
    log = make_log(limit=4)
    slow, quick = log.follow(), log.follow()
    publish(log, 2)
    assert drain(quick) == [0, 1]
    publish(log, 8, begin=2)
    assert drain(slow) == [("missed", 6), 6, 7, 8, 9]
    assert drain(quick) == [("missed", 4), 6, 7, 8, 9]


def test_the_word_on_what_was_missed_can_be_resumed_from() -> None:
    log = make_log(limit=4)
    follower = log.follow()
    publish(log, 8)
    gap = follower.take()
    assert gap is not None
    assert (gap.type, gap.domain, gap.uuid) == ("daemon", None, None)
    assert drain(log.follow(gap.id)) == [4, 5, 6, 7]


@pytest.mark.parametrize(
    "what", ["", "x", "0", "-1", "{epoch}-", "{epoch}--1", "{epoch}-99", "{epoch}-\u0663", "{epoch}-1e3"]
)
def test_an_id_that_nobody_gave_out(what: str) -> None:
    log = make_log()
    publish(log, 2)
    epoch = log.last_id.partition("-")[0]
    assert drain(log.follow(what.format(epoch=epoch))) == [("missed", None), 0, 1]


def test_an_id_of_the_daemon_before_this_one() -> None:
    before = make_log()
    publish(before, 5)
    log = make_log(started=EPOCH + timedelta(seconds=2))
    publish(log, 2)
    assert drain(log.follow(before.last_id)) == [("missed", None), 0, 1]


@given(st.lists(st.integers(-1, 12), max_size=60), st.integers(1, 6))
def test_nobody_is_told_anything_twice_or_in_another_order(steps: list[int], limit: int) -> None:
    log = make_log(limit)
    follower, published, told, missed = log.follow(), 0, list[object](), 0
    for step in [*steps, -1]:
        if step >= 0:
            publish(log, step, begin=published)
            published += step
            continue
        for item in drain(follower):
            if isinstance(item, tuple):
                missed += int(item[1])
            else:
                told.append(item)
    numbers = [number for number in told if isinstance(number, int)]
    assert numbers == sorted(set(numbers))
    assert len(numbers) + missed == published


@pytest.mark.looptime
async def test_who_waits_is_woken_and_who_gave_up_hurts_nobody() -> None:
    log = make_log()
    followers = [log.follow() for _ in range(3)]
    waits = [asyncio.ensure_future(anext(follower)) for follower in followers]
    await settle()
    waits[1].cancel()
    await settle()
    publish(log, 1)
    await settle()
    assert [wait.cancelled() for wait in waits] == [False, True, False]
    assert waits[0].result() == waits[2].result()
    assert drain(followers[1]) == [0]
