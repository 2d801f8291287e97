"""What hands the events on to the broker, without one."""

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from sidecar.bus import publisher as module
from sidecar.bus.outbox import Outbox
from sidecar.bus.priorities import Priority
from sidecar.bus.publisher import NotTakenError, Publisher, PublisherStatus

TIMEOUT_S = 20.0

Taken = tuple[str, Priority, Mapping[str, Any]]


class FakeBroker:
    """Takes notifications, or fails as it is told to."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.taken: list[Taken] = []
        self.attempts = 0
        self.made = 0
        self.is_open = False
        self.fault: Exception | None = None
        self.hang: threading.Event | None = None
        # The broker has it, and the answer is lost.
        self.loses_answers = False

    def make_notifier(self) -> "FakeBroker":
        assert not self.is_open, "the one before was not closed"
        self.made += 1
        self.is_open = True
        return self

    def notify(self, event_type: str, priority: Priority, payload: Mapping[str, Any]) -> None:
        hang = self.hang
        with self.changed:
            self.attempts += 1
            self.changed.notify_all()
        if hang is not None:
            assert hang.wait(TIMEOUT_S)
        with self.changed:
            if self.fault is None or self.loses_answers:
                self.taken.append((event_type, priority, payload))
                self.changed.notify_all()
            if self.fault is not None:
                raise self.fault

    def close(self) -> None:
        self.is_open = False

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, TIMEOUT_S)

    def numbers(self) -> list[Any]:
        return [payload["arrivals"] for _, _, payload in self.taken if "arrivals" in payload]


def make_event(number: int) -> dict[str, Any]:
    return {"id": f"e-{number}", "time": "2026-11-21T07:31:38.440Z", "type": "arrived", "arrivals": number}


class Rig:
    def __init__(self, directory: Path, limit: int = 1000) -> None:
        self.path, self.limit = directory / "outbox.db", limit
        self.broker = FakeBroker()
        self.changes = 0
        self.outbox, self.publisher = self._make()

    def _make(self) -> tuple[Outbox, Publisher]:
        outbox = Outbox(self.path, self.limit)
        return outbox, Publisher(outbox, "alpha", self.broker.make_notifier, self._count)

    def _count(self) -> None:
        with self.broker.changed:
            self.changes += 1
            self.broker.changed.notify_all()

    def start(self) -> None:
        self.publisher.start()

    def append(self, *numbers: int) -> None:
        for number in numbers:
            self.publisher.append(make_event(number))

    def wait_empty(self) -> None:
        self.broker.wait_for(lambda: self.publisher.status().waiting == 0)

    def stop(self) -> None:
        assert self.publisher.stop(TIMEOUT_S)
        self.outbox.close()

    def restart(self) -> None:
        self.stop()
        self.outbox, self.publisher = self._make()
        self.start()


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(module, "BACKOFF_MIN_S", 0.001)
    monkeypatch.setattr(module, "BACKOFF_MAX_S", 0.01)
    rig = Rig(tmp_path)
    yield rig
    if rig.publisher._thread.ident is not None:
        rig.stop()
    assert not rig.broker.is_open


def test_each_event_goes_out_with_its_heading_and_its_host(rig: Rig) -> None:
    rig.start()
    rig.publisher.append(make_event(1))
    rig.publisher.append({"id": "e-2", "time": "now", "type": "daemon", "what": "libvirt-lost"})
    rig.wait_empty()
    assert rig.broker.taken == [
        ("sidecar.arrived", Priority.INFO, {**make_event(1), "host": "alpha"}),
        (
            "sidecar.daemon.libvirt-lost",
            Priority.WARN,
            {"id": "e-2", "time": "now", "type": "daemon", "what": "libvirt-lost", "host": "alpha"},
        ),
    ]
    assert rig.publisher.status() == PublisherStatus(waiting=0, notified=2, dropped=0)
    assert rig.broker.made == 1


def test_what_waits_from_an_earlier_run_goes_first(rig: Rig) -> None:
    rig.append(1, 2)
    rig.start()
    rig.append(3)
    rig.wait_empty()
    assert rig.broker.numbers() == [1, 2, 3]


def test_an_event_is_tried_until_it_is_taken(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.broker.fault = NotTakenError("connection refused")
    rig.start()
    rig.append(1, 2, 3)
    rig.broker.wait_for(lambda: rig.broker.attempts >= 20)
    assert rig.broker.taken == []
    assert rig.publisher.status() == PublisherStatus(waiting=3, notified=0, dropped=0)
    rig.broker.fault = None
    rig.wait_empty()
    assert rig.broker.numbers() == [1, 2, 3]
    assert caplog.messages == [
        "notifications: the broker did not take one: connection refused",
        "notifications: in order again",
    ]


def test_everything_is_made_anew_after_a_failure(rig: Rig) -> None:
    rig.broker.fault = NotTakenError("timed out")
    rig.start()
    rig.append(1)
    rig.broker.wait_for(lambda: rig.broker.attempts >= 3)
    rig.broker.fault = None
    rig.append(2, 3)
    rig.wait_empty()
    assert rig.broker.made == rig.broker.attempts - 2


def test_a_lost_answer_repeats_one_event_and_no_other(rig: Rig) -> None:
    rig.broker.fault, rig.broker.loses_answers = NotTakenError("reset"), True
    rig.start()
    rig.append(1, 2, 3)
    rig.broker.wait_for(lambda: rig.broker.attempts >= 3)
    rig.broker.fault = None
    rig.wait_empty()
    numbers = rig.broker.numbers()
    assert numbers == sorted(numbers)
    assert sorted(set(numbers)) == [1, 2, 3]
    assert (numbers.count(2), numbers.count(3)) == (1, 1)


@pytest.mark.parametrize("fault", [RuntimeError("secret"), KeyError("secret"), OSError("secret")])
def test_a_fault_of_ours_is_tried_again_and_its_text_is_not_logged(
    rig: Rig, fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    rig.broker.fault = fault
    rig.start()
    rig.append(1)
    rig.broker.wait_for(lambda: rig.broker.attempts >= 3)
    rig.broker.fault = None
    rig.wait_empty()
    assert rig.broker.numbers() == [1]
    assert type(fault).__name__ in caplog.text
    assert "secret" not in caplog.text


def test_a_notifier_that_cannot_be_made_is_tried_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[None] = []

    def fail() -> FakeBroker:
        with rig.broker.changed:
            attempts.append(None)
            rig.broker.changed.notify_all()
        if len(attempts) < 5:
            raise NotTakenError("no route")
        return rig.broker.make_notifier()

    monkeypatch.setattr(rig.publisher, "_make_notifier", fail)
    rig.start()
    rig.append(1)
    rig.wait_empty()
    assert (rig.broker.numbers(), len(attempts)) == ([1], 5)


def test_while_the_broker_hangs_events_are_kept(rig: Rig) -> None:
    hang = rig.broker.hang = threading.Event()
    rig.start()
    rig.append(1)
    rig.broker.wait_for(lambda: rig.broker.attempts == 1)
    rig.append(*range(2, 200))
    assert rig.publisher.status().waiting == 199
    assert not rig.publisher.stop(0.0)
    hang.set()


def test_a_restart_at_any_point_goes_on_where_it_was(rig: Rig) -> None:
    rig.start()
    for number in range(0, 100, 5):
        rig.append(*range(number, number + 5))
        rig.restart()
    rig.wait_empty()
    assert rig.broker.numbers() == list(range(100))


def test_what_was_given_up_is_told_before_the_next(tmp_path: Path, rig: Rig) -> None:
    rig.outbox.close()
    rig.limit = 3
    rig.outbox, rig.publisher = rig._make()
    rig.append(*range(10))
    rig.start()
    rig.wait_empty()
    (told, priority, gap), *rest = rig.broker.taken
    assert (told, priority) == ("sidecar.daemon.dropped", Priority.ERROR)
    assert (gap["dropped"], gap["total"], gap["id"], gap["host"]) == (7, 7, "e-6", "alpha")
    assert [payload["arrivals"] for _, _, payload in rest] == [7, 8, 9]
    assert rig.publisher.status() == PublisherStatus(waiting=0, notified=3, dropped=7)
    rig.restart()
    rig.append(10)
    rig.wait_empty()
    assert rig.broker.numbers() == [7, 8, 9, 10]
    assert len(rig.broker.taken) == 5


def test_what_was_given_up_is_told_until_it_is_taken(rig: Rig) -> None:
    rig.outbox.close()
    rig.limit = 1
    rig.outbox, rig.publisher = rig._make()
    rig.append(0, 1)
    rig.broker.fault = NotTakenError("down")
    rig.start()
    rig.broker.wait_for(lambda: rig.broker.attempts >= 3)
    rig.append(2, 3)
    rig.broker.fault = None
    rig.wait_empty()
    assert [payload["total"] for kind, _, payload in rig.broker.taken if kind == "sidecar.daemon.dropped"][-1] == 3
    assert rig.broker.numbers() == [3]


def test_whoever_wants_to_know_is_told_of_each_change(rig: Rig) -> None:
    rig.append(1)
    assert rig.changes == 1
    rig.start()
    rig.broker.wait_for(lambda: rig.changes == 2)
    assert rig.publisher.status() == PublisherStatus(waiting=0, notified=1, dropped=0)
