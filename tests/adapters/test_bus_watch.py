"""A process that says nothing any more, by looks."""

import asyncio

import pytest

from sidecar.adapters.bus_watch import HANGING_LOOKS, LOOK_S, SILENT_LOOKS, BusWatch
from sidecar.api.link import BusStatus

GOOD = BusStatus(connected=True, waiting=1, notified=2, dropped=3)
LOST = BusStatus(connected=False, waiting=1, notified=2, dropped=3)


class Looks:
    """The loop's time, in looks; ``says`` are those before which the process says how it does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *says: int) -> None:
        self.told: list[tuple[int, BusStatus]] = []
        self.now = 0
        self._says = says
        self.watch = BusWatch(lambda status: self.told.append((self.now, status)))
        monkeypatch.setattr(asyncio, "sleep", self._sleep)

    async def _sleep(self, seconds: float) -> None:
        assert seconds == LOOK_S
        if self.now in self._says:
            self.watch.receive(GOOD)
        self.now += 1


def test_the_times() -> None:
    assert (LOOK_S * SILENT_LOOKS, LOOK_S * HANGING_LOOKS) == (30.0, 60.0)


def test_silence_is_no_connection_and_then_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch, 0)
    asyncio.run(looks.watch.run())
    assert looks.told == [(0, GOOD), (SILENT_LOOKS, LOST)]
    assert looks.now == HANGING_LOOKS


def test_a_word_in_time_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    says = (0, SILENT_LOOKS - 1, SILENT_LOOKS + HANGING_LOOKS - 2)
    looks = Looks(monkeypatch, *says)
    asyncio.run(looks.watch.run())
    lost = [moment for moment, status in looks.told if status == LOST]
    assert lost == [2 * SILENT_LOOKS - 1, says[-1] + SILENT_LOOKS]
    assert looks.now == says[-1] + HANGING_LOOKS


def test_who_never_said_anything_lost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch)
    asyncio.run(looks.watch.run())
    assert looks.told == []
    assert looks.now == HANGING_LOOKS
