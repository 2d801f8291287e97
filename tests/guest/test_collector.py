"""The thread that looks things up: what hangs in it, fails in it, and is asked of it twice."""

import select
import threading
from collections.abc import Callable

import pytest

from sidecar.errors import ReportError
from sidecar.guest.collector import Collector, Finding

PATIENCE_S = 10.0


class Lookups:
    """What a collector looks up: each name in vain until the test lets it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.answer: Callable[[str], object] = lambda name: {"name": name}

    def __call__(self, name: str) -> object:
        self.asked.append(name)
        self.begun.release()
        assert self.go.acquire(timeout=PATIENCE_S)
        return self.answer(name)

    def await_beginning(self) -> None:
        assert self.begun.acquire(timeout=PATIENCE_S)

    def let_go(self, times: int = 1) -> None:
        self.go.release(times)


@pytest.fixture
def lookups() -> Lookups:
    return Lookups()


@pytest.fixture
def collector(lookups: Lookups) -> Collector:
    return Collector(lookups)


def take(collector: Collector, number: int) -> list[Finding]:
    """So many findings, as they come."""
    found: list[Finding] = []
    while len(found) < number:
        assert select.select([collector.fd], [], [], PATIENCE_S)[0]
        found += collector.take()
    return found


def is_quiet(collector: Collector) -> bool:
    return not select.select([collector.fd], [], [], 0)[0]


def test_finds_in_the_order_of_asking(collector: Collector, lookups: Lookups) -> None:
    lookups.let_go(3)
    collector.want(["a", "b", "c"])
    assert take(collector, 3) == [Finding(name, {"name": name}, only_news=False) for name in "abc"]
    assert is_quiet(collector)


def test_nobody_waits_for_what_hangs(collector: Collector, lookups: Lookups) -> None:
    collector.want(["hangs", "b"])
    lookups.await_beginning()
    assert is_quiet(collector)
    for _ in range(1000):
        collector.want(["hangs", "b", "c"])
    lookups.let_go(4)
    assert [finding.name for finding in take(collector, 4)] == ["hangs", "b", "hangs", "c"]
    assert lookups.asked == ["hangs", "b", "hangs", "c"]


def test_what_is_asked_while_it_is_looked_up_is_looked_up_again(collector: Collector, lookups: Lookups) -> None:
    collector.want(["a"])
    lookups.await_beginning()
    collector.want(["a"])
    lookups.let_go(2)
    assert len(take(collector, 2)) == 2


@pytest.mark.parametrize(
    ("asked", "only_news"), [([True], True), ([False], False), ([True, True], True), ([True, False], False),
                             ([False, True], False)]
)  # fmt: skip
def test_whoever_wants_it_anyway_counts(
    asked: list[bool], only_news: bool, collector: Collector, lookups: Lookups
) -> None:
    collector.want(["first"])
    lookups.await_beginning()
    for one in asked:
        collector.want(["a"], only_news=one)
    lookups.let_go(2)
    assert take(collector, 2)[1] == Finding("a", {"name": "a"}, only_news)


def test_what_cannot_be_looked_up_is_said_once_until_it_can(caplog: pytest.LogCaptureFixture) -> None:
    answer: object = None

    def look_up(name: str) -> object:
        if name == "a" and isinstance(answer, Exception):
            raise answer
        return answer if name == "a" else "looked"

    collector = Collector(look_up)
    steps: list[tuple[object, list[Finding]]] = [
        (ReportError("one"), []),
        (ReportError("one"), []),
        (ReportError("two"), []),
        (None, []),  # nobody knows
        (ReportError("two"), []),
        ({}, [Finding("a", {}, only_news=False)]),
        (ZeroDivisionError("three"), []),
    ]
    for result, found in steps:
        answer = result
        collector.want(["a", "mark"])
        assert take(collector, 1 + len(found))[: len(found)] == found
    said = [message.partition("\n")[0] for message in caplog.messages]
    assert said == ["a: cannot be told: one", *["a: cannot be told: two"] * 2, "a: cannot be told"]
