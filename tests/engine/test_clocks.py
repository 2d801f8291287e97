from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.engine.clocks import GuestClock, render_time, utc_now


class Ticker:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_starts_standing() -> None:
    ticker = Ticker()
    clock = GuestClock(ticker)
    first = clock.now()
    ticker.now += 50
    assert (clock.now(), clock.running) == (first, False)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 1000))))
def test_counts_only_while_the_guest_runs(turns: list[tuple[bool, int]]) -> None:
    ticker = Ticker()
    clock = GuestClock(ticker)
    first, ran = clock.now(), 0
    for runs, seconds in turns:
        (clock.start if runs else clock.stop)()
        assert clock.running is runs
        ticker.now += seconds
        ran += seconds if runs else 0
        assert clock.now() - first == ran


def test_tells_when_the_loop_will_show_a_time() -> None:
    ticker = Ticker()
    clock = GuestClock(ticker)
    ticker.now += 30
    clock.start()
    assert clock.to_loop_time(clock.now() + 5) == ticker.now + 5


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 11, 21, 7, 31, 38, 440_999, UTC), "2026-11-21T07:31:38.440Z"),
        (datetime(2026, 11, 21, 9, 0, tzinfo=timezone(timedelta(hours=2))), "2026-11-21T07:00:00.000Z"),
    ],
)
def test_times_are_utc_with_milliseconds(moment: datetime, text: str) -> None:
    assert render_time(moment) == text


def test_wall_clock_knows_its_zone() -> None:
    assert utc_now().utcoffset() == timedelta(0)
