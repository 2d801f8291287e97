"""Events that the broker has not taken yet."""

import contextlib
import json
import logging
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.strategies import integers

from sidecar.bus.outbox import MEMORY_LIMIT, Entry, Outbox
from sidecar.bus.outbox_file import OutboxFile
from tests.bus.outbox_rig import NOW, append_all, drain, make_event, open_outbox, take


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "outbox.db"


class Disk:
    """A file that cannot be written while ``fault`` stands."""

    def __init__(self) -> None:
        self.fault: Exception | None = None

    def open(self, path: Path, wait_s: float) -> OutboxFile:
        disk = self

        class File(OutboxFile):
            @contextlib.contextmanager
            def changes(self) -> Iterator[None]:
                with super().changes():
                    yield
                    if disk.fault is not None:
                        raise disk.fault

        return File(path, wait_s)


def make_full_error() -> sqlite3.Error:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


def test_events_come_out_as_they_went_in(path: Path) -> None:
    outbox = open_outbox(path)
    events = [make_event(number) for number in range(20)]
    for event in events:
        outbox.append(event)
    assert outbox.waiting == 20
    assert drain(outbox) == events
    assert (outbox.waiting, outbox.dropped, outbox.last_id) == (0, 0, "e-19")


def test_an_event_comes_again_until_it_is_discarded(path: Path) -> None:
    outbox = open_outbox(path)
    outbox.append(make_event(1))
    outbox.append(make_event(2))
    assert outbox.peek() == outbox.peek() == Entry(1, make_event(1))
    outbox.discard(2)  # not the one that is held
    assert outbox.peek() == Entry(1, make_event(1))
    outbox.discard(1)
    outbox.discard(1)
    assert outbox.peek() == Entry(2, make_event(2))


def test_the_newest_id_is_known_when_nothing_waits(path: Path) -> None:
    outbox = open_outbox(path)
    assert outbox.last_id is None
    outbox.append(make_event(1))
    drain(outbox)
    outbox.close()
    again = open_outbox(path)
    assert again.last_id == "e-1"
    assert again.peek() is None
    again.append(make_event(2))
    assert again.peek() == Entry(2, make_event(2))


def test_the_oldest_are_given_up_and_told(path: Path) -> None:
    outbox = open_outbox(path, limit=3)
    assert outbox.find_gap() is None
    for number in range(10):
        outbox.append(make_event(number))
    assert (outbox.waiting, outbox.dropped) == (3, 7)
    gap = outbox.find_gap()
    assert gap is not None
    assert gap.document == {
        "what": "dropped",
        "dropped": 7,
        "total": 7,
        "id": "e-6",
        "time": make_event(6)["time"],
        "type": "daemon",
        "domain": None,
        "uuid": None,
    }
    assert [document["arrivals"] for document in drain(outbox)] == [7, 8, 9]


def test_a_gap_is_told_until_it_was_told(path: Path) -> None:
    outbox = open_outbox(path, limit=1)
    for number in range(3):
        outbox.append(make_event(number))
    first = outbox.find_gap()
    assert first is not None
    outbox.append(make_event(3))  # one more, while it was on its way
    outbox.note_told(first)
    outbox.close()
    again = open_outbox(path, limit=1)
    second = again.find_gap()
    assert second is not None
    assert (second.document["dropped"], second.document["total"], again.dropped) == (1, 3, 3)
    again.note_told(second)
    again.close()
    assert open_outbox(path, limit=1).find_gap() is None


def test_what_is_on_its_way_is_not_given_up(path: Path) -> None:
    outbox = open_outbox(path, limit=2)
    outbox.append(make_event(0))
    assert outbox.peek() is not None
    for number in range(1, 6):
        outbox.append(make_event(number))
    outbox.discard(1)
    assert outbox.dropped == 3
    assert [document["arrivals"] for document in drain(outbox)] == [4, 5]


def test_a_lower_limit_holds_from_the_start(path: Path) -> None:
    outbox = open_outbox(path)
    for number in range(10):
        outbox.append(make_event(number))
    outbox.close()
    again = open_outbox(path, limit=4)
    assert (again.waiting, again.dropped) == (4, 6)


# A disk that does not do it.


def test_it_may_break_while_it_is_used(path: Path) -> None:
    disk = Disk()
    outbox = Outbox(path, 100, lambda: NOW, disk.open)
    outbox.append(make_event(1))
    assert outbox.peek() is not None
    disk.fault = sqlite3.DatabaseError("database disk image is malformed")
    disk.fault.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    outbox.append(make_event(2))
    disk.fault = None
    outbox.discard(1)  # of the file that is set aside: nothing of the new one's
    told, event = drain(outbox)
    assert (told["what"], event) == ("outbox-broken", make_event(2))
    assert outbox.last_id == "e-2"


def test_a_row_that_is_no_json_is_given_up(path: Path) -> None:
    outbox = open_outbox(path)
    for number in range(3):
        outbox.append(make_event(number))
    outbox.close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("UPDATE events SET document = 'rubbish' WHERE number = 1")
    again = open_outbox(path)
    assert [document["arrivals"] for document in drain(again)] == [1, 2]
    assert again.dropped == 1


def test_a_full_disk_keeps_events_in_memory(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    disk = Disk()
    outbox = Outbox(path, 100, lambda: NOW, disk.open)
    outbox.append(make_event(0))
    disk.fault = make_full_error()
    for number in range(1, 10):
        outbox.append(make_event(number))
    assert outbox.waiting == 10
    assert [record.message for record in caplog.records] == [f"outbox {str(path)!a}: database or disk is full"]
    assert [take(outbox).document["arrivals"] for _ in range(4)] == [0, 1, 2, 3]
    disk.fault = None
    outbox.append(make_event(10))
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING]
    outbox.close()
    assert [document["arrivals"] for document in drain(open_outbox(path))] == list(range(4, 11))


def test_what_is_too_much_for_memory_is_counted(path: Path) -> None:
    disk = Disk()
    outbox = Outbox(path, 10_000, lambda: NOW, disk.open)
    disk.fault = make_full_error()
    for number in range(MEMORY_LIMIT + 7):
        outbox.append(make_event(number))
    assert (outbox.waiting, outbox.dropped) == (MEMORY_LIMIT, 7)
    disk.fault = None
    assert drain(outbox)[0]["arrivals"] == 7
    outbox.close()
    assert open_outbox(path).dropped == 7


def test_what_is_held_in_memory_is_not_given_up(path: Path) -> None:
    disk = Disk()
    outbox = Outbox(path, 10_000, lambda: NOW, disk.open)
    disk.fault = make_full_error()
    outbox.append(make_event(0))
    held = outbox.peek()
    append_all(outbox, range(1, MEMORY_LIMIT + 1))
    assert held is not None
    outbox.discard(held.number)
    assert outbox.dropped == 1
    assert take(outbox).document["arrivals"] == 2


def test_what_is_held_in_memory_may_go_to_the_disk(path: Path) -> None:
    disk = Disk()
    outbox = Outbox(path, 2, lambda: NOW, disk.open)
    disk.fault = make_full_error()
    outbox.append(make_event(0))
    held = outbox.peek()
    disk.fault = None
    for number in range(1, 4):
        outbox.append(make_event(number))
    assert held is not None
    outbox.discard(held.number)
    assert outbox.dropped == 1
    assert [document["arrivals"] for document in drain(outbox)] == [2, 3]


def test_a_disk_that_is_not_there_yet(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "state" / "outbox.db")
    outbox.append(make_event(0))
    outbox.close()
    (tmp_path / "state").rename(tmp_path / "away")
    (tmp_path / "state").write_text("in the way")
    again = open_outbox(tmp_path / "state" / "outbox.db")
    again.append(make_event(1))
    held = again.peek()
    assert held is not None
    assert (again.last_id, held.document) == ("e-1", make_event(1))
    (tmp_path / "state").unlink()
    (tmp_path / "away").rename(tmp_path / "state")
    again.append(make_event(2))
    # That was another's number; the event is sent once more rather than another not at all.
    again.discard(held.number)
    assert drain(again) == [make_event(number) for number in range(3)]
    assert again.last_id == "e-2"


def test_what_is_no_json_is_given_up(path: Path) -> None:
    outbox = open_outbox(path)
    outbox.append({"id": "e-1", "value": float("nan")})
    outbox.append({"id": "e-2", "value": object()})
    outbox.append(make_event(3))
    assert outbox.dropped == 2
    assert drain(outbox) == [make_event(3)]


def test_threads_may_share_it(path: Path) -> None:
    outbox = open_outbox(path, limit=10_000)
    threads = [
        threading.Thread(target=append_all, args=(outbox, range(part * 1000, part * 1000 + 200))) for part in range(4)
    ]
    for thread in threads:
        thread.start()
    sent: list[int] = []
    while len(sent) < 800:
        if outbox.peek() is not None:
            sent.append(take(outbox).document["arrivals"])
    for thread in threads:
        thread.join()
    for part in range(4):
        assert [number for number in sent if number // 1000 == part] == [part * 1000 + n for n in range(200)]
    assert outbox.waiting == 0


class Life(RuleBasedStateMachine):
    """Whatever is done, and wherever it is killed: nothing is lost, and only what was not acknowledged comes twice."""

    @initialize(limit=integers(1, 6))
    def begin(self, limit: int) -> None:
        self.limit = limit
        self.directory = Path(tempfile.mkdtemp())
        self.places = 0
        self.disk = Disk()
        self.outbox = self._open()
        self.appended = 0
        self.sent: list[int] = []
        self.repeated = 0
        self.is_held = False
        self.told = 0

    def _open(self) -> Outbox:
        place = self.directory / str(self.places) / "outbox.db"
        return Outbox(place, self.limit, lambda: NOW, self.disk.open)

    @rule(count=integers(1, 4))
    def append(self, count: int) -> None:
        for _ in range(count):
            self.outbox.append(make_event(self.appended))
            self.appended += 1

    @rule()
    def send(self) -> None:
        entry = self.outbox.peek()
        if entry is not None:
            self.sent.append(entry.document["arrivals"])
            self.outbox.discard(entry.number)

    @rule()
    def fail_to_send(self) -> None:
        self.outbox.peek()

    @rule(count=integers(1, 4))
    def append_while_sending(self, count: int) -> None:
        entry = self.outbox.peek()
        self.append(count)
        if entry is not None:
            self.sent.append(entry.document["arrivals"])
            self.outbox.discard(entry.number)

    @rule()
    def tell(self) -> None:
        gap = self.outbox.find_gap()
        if gap is not None:
            self.told += gap.document["dropped"]
            self.outbox.note_told(gap)

    @precondition(lambda self: self.disk.fault is None)
    @rule()
    def fill_disk(self) -> None:
        self.disk.fault = make_full_error()

    @precondition(lambda self: self.disk.fault is not None)
    @rule()
    def free_disk(self) -> None:
        self.disk.fault = None
        self.append(1)  # brings to the disk what waits in memory

    @precondition(lambda self: self.disk.fault is None)
    @rule()
    def kill(self) -> None:
        """What is on the disk at any moment is taken over by the next process."""
        before, old = self.directory / str(self.places), self.outbox
        self.places += 1
        shutil.copytree(before, self.directory / str(self.places))
        old.close()
        self.outbox = self._open()

    @invariant()
    def nothing_is_lost(self) -> None:
        assert len(self.sent) + self.outbox.waiting + self.outbox.dropped >= self.appended
        assert self.sent == sorted(set(self.sent))
        if self.disk.fault is None:
            assert self.outbox.waiting <= self.limit + 1
            assert len(self.sent) + self.outbox.waiting + self.outbox.dropped == self.appended
        assert self.outbox.last_id == (f"e-{self.appended - 1}" if self.appended else None)

    def teardown(self) -> None:
        if not hasattr(self, "outbox"):
            return
        self.disk.fault = None
        self.outbox.append(make_event(self.appended))
        rest = [document["arrivals"] for document in drain(self.outbox)]
        gap = self.outbox.find_gap()
        told = self.told + (0 if gap is None else gap.document["dropped"])
        self.outbox.close()
        shutil.rmtree(self.directory)
        assert self.sent + rest == sorted({*self.sent, *rest})
        assert len(self.sent) + len(rest) + told == self.appended + 1
        assert json.dumps(rest)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
