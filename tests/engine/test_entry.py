"""The timer of a deadline that is put off again and again."""

import asyncio

import pytest

from sidecar.engine.clocks import GuestClock
from sidecar.engine.entry import TIMER_SLACK_S, GuestTimer
from tests.engine.lone_host import now, settle

pytestmark = pytest.mark.looptime


class Timed:
    """A timer on a guest that runs; ``ticks`` is when it fired."""

    def __init__(self) -> None:
        self.clock = GuestClock(asyncio.get_running_loop().time)
        self.clock.start()
        self.ticks: list[float] = []
        self.timer = GuestTimer(self.clock, lambda: self.ticks.append(now()))


@pytest.fixture
def set_times(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the loop was told of: the times of all timers."""
    times: list[float] = []
    tell = asyncio.BaseEventLoop.call_at

    def note(loop: asyncio.BaseEventLoop, when: float, *arguments: object, **options: object) -> asyncio.TimerHandle:
        times.append(when)
        return tell(loop, when, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncio.BaseEventLoop, "call_at", note)
    return times


async def test_fires_once_at_its_deadline() -> None:
    timed = Timed()
    timed.timer.set(5)
    await settle(100)
    assert timed.ticks == pytest.approx([5 + TIMER_SLACK_S])


async def test_a_deadline_that_is_put_off_is_kept_to_the_last_word() -> None:
    timed = Timed()
    for _ in range(30):
        timed.timer.set(timed.clock.now() + 12)
        await settle(5)
    await settle(100)
    assert timed.ticks == pytest.approx([29 * 5 + 12 + TIMER_SLACK_S], abs=0.1)


async def test_putting_off_tells_the_loop_nothing(set_times: list[float]) -> None:
    timed = Timed()
    for later in range(1000):
        timed.timer.set(120 + later)
    assert set_times == pytest.approx([120 + TIMER_SLACK_S])


async def test_an_earlier_deadline_counts_at_once() -> None:
    timed = Timed()
    timed.timer.set(50)
    timed.timer.set(5)
    await settle(100)
    assert timed.ticks == pytest.approx([5 + TIMER_SLACK_S])


async def test_none_at_all() -> None:
    timed = Timed()
    timed.timer.set(5)
    timed.timer.set(50)
    timed.timer.set(float("inf"))
    await settle(100)
    assert timed.ticks == []


async def test_stands_while_the_guest_does() -> None:
    timed = Timed()
    timed.timer.set(5)
    await settle(3)
    timed.clock.stop()
    timed.timer.set(5)
    await settle(100)
    assert timed.ticks == []
    timed.clock.start()
    timed.timer.set(5)
    await settle(100)
    assert timed.ticks == pytest.approx([105 + TIMER_SLACK_S], abs=0.01)
