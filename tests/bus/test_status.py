"""When the daemon is told how the bus does."""

import itertools
import time
from queue import Queue
from typing import Any

import pytest

from sidecar.api.link import BusStatus, Word
from sidecar.bus import status
from sidecar.bus.status import APART_S, StatusTeller

LIMIT_S = 20.0


class Desk:
    """A bus that does as it is told, and the daemon."""

    def __init__(self) -> None:
        self.now = BusStatus()
        self.told: Queue[tuple[float, dict[str, Any]]] = Queue()
        self.teller = StatusTeller(lambda: self.now, self._tell)

    def _tell(self, word: Word, **values: Any) -> None:
        assert word is Word.STATUS
        self.told.put((time.monotonic(), values))

    def wait(self) -> tuple[float, dict[str, Any]]:
        return self.told.get(timeout=LIMIT_S)


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    made.teller.start()
    return made


def test_tells_it_at_first_and_when_it_changes(desk: Desk) -> None:
    assert desk.wait()[1] == {"connected": False, "waiting": 0, "notified": 0, "dropped": 0}
    desk.now = BusStatus(connected=True, waiting=1, notified=2, dropped=3)
    desk.teller.change()
    assert desk.wait()[1] == {"connected": True, "waiting": 1, "notified": 2, "dropped": 3}


def test_many_changes_are_few_words_and_the_last_is_told(desk: Desk) -> None:
    moments = [desk.wait()[0]]
    values: dict[str, Any] = {}
    for number in range(1, 5001):
        desk.now = BusStatus(notified=number)
        desk.teller.change()
    while values.get("notified") != 5000:
        moment, values = desk.wait()
        moments.append(moment)
    assert len(moments) <= 5
    assert all(later - earlier >= APART_S for earlier, later in itertools.pairwise(moments))


def test_what_is_no_change_is_not_told(desk: Desk) -> None:
    desk.wait()
    desk.teller.change()
    desk.now = BusStatus(waiting=1)
    desk.teller.change()
    assert desk.wait()[1]["waiting"] == 1
    assert desk.told.empty()


def test_silence_is_noticed_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "LOOK_S", 0.01)
    monkeypatch.setattr(status, "APART_S", 0.01)
    desk = Desk()
    desk.now = BusStatus(connected=True)
    desk.teller.start()
    assert desk.wait()[1]["connected"]
    desk.now = BusStatus(connected=False)
    assert not desk.wait()[1]["connected"]


def test_what_does_not_change_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "LOOK_S", 0.05)
    monkeypatch.setattr(status, "APART_S", 0.01)
    monkeypatch.setattr(status, "AGAIN_S", 0.15)
    desk = Desk()
    desk.teller.start()
    told = [desk.wait() for _ in range(4)]
    assert all(values == told[0][1] for _, values in told)
    assert all(later[0] - earlier[0] >= status.AGAIN_S - status.LOOK_S for earlier, later in itertools.pairwise(told))


def test_the_longest_silence_is_short() -> None:
    # A look too early for it, the pause after the last word, and the next look.
    assert status.AGAIN_S - status.LOOK_S + status.APART_S + status.LOOK_S <= 11.0


@pytest.mark.parametrize("fault", [MemoryError(), RuntimeError("can't start new thread"), OSError("pipe")])
def test_no_fault_ends_it(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    monkeypatch.setattr(status, "APART_S", 0.01)
    faults = [fault] * 3
    told: Queue[dict[str, Any]] = Queue()

    def measure() -> BusStatus:
        if faults:
            raise faults.pop()
        return BusStatus(connected=True)

    StatusTeller(measure, lambda _word, **values: told.put(values)).start()
    assert told.get(timeout=LIMIT_S)["connected"]
    assert faults == []
