"""How much the log takes."""

import logging

import pytest

from sidecar.guest.log_limit import LINES_LIMIT, LINES_WINDOW_S, LogLimit


class Log:
    """A handler's filter, and what went through."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lines: list[str] = []
        self._limit = LogLimit(lambda: self.now)

    def say(self, text: str, *values: object) -> None:
        record = logging.LogRecord("any", logging.INFO, "any.py", 1, text, values, None)
        if self._limit.filter(record):
            self.lines.append(record.getMessage())


@pytest.fixture
def log() -> Log:
    return Log()


def test_what_is_said_now_and_then_goes_through(log: Log) -> None:
    for number in range(10 * LINES_LIMIT):
        log.now += LINES_WINDOW_S / LINES_LIMIT
        log.say("%d%% of %s", number, "all")
    assert log.lines == [f"{number}% of all" for number in range(10 * LINES_LIMIT)]


def test_what_never_ends_is_cut_and_counted(log: Log) -> None:
    for number in range(10_000):
        log.say("version %d", number)
    assert len(log.lines) == LINES_LIMIT
    log.now = LINES_WINDOW_S
    log.say("version %d", 7)
    log.say("version %d", 8)
    assert log.lines[LINES_LIMIT:] == [f"version 7 ({10_000 - LINES_LIMIT} lines like it were left out)", "version 8"]


def test_one_kind_takes_nothing_from_another(log: Log) -> None:
    for number in range(10_000):
        log.say("%s: noise", f"any text {number}")
        log.say("%s: refused: %s", "login", f"any text {number}")
    assert len(log.lines) == 2 * LINES_LIMIT
    log.say("%s: refused: %s", "shutdown", "why")
    log.say("other noise")
    assert log.lines[-2:] == ["shutdown: refused: why", "other noise"]
