"""What of the libraries' log is left."""

import logging
import sys

import pytest

from sidecar.bus.log_sieve import AGAIN_S, APART_S, KINDS_LIMIT, LINE_LIMIT, LogSieve

FOREIGN = "oslo.messaging._drivers.impl_rabbit"


class Sieve:
    """One, with a clock that is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("sidecar.bus.log_sieve.time.monotonic", lambda: self.now)
        self._sieve = LogSieve()

    def log(self, message: str, *arguments: object, name: str = FOREIGN, level: int = logging.ERROR) -> str | None:
        """What is logged of it."""
        record = logging.LogRecord(name, level, __file__, 1, message, arguments, None)
        record.exc_info = sys.exc_info() if sys.exc_info()[0] else None
        return logging.Formatter().format(record) if self._sieve.filter(record) else None


@pytest.fixture
def sieve(monkeypatch: pytest.MonkeyPatch) -> Sieve:
    return Sieve(monkeypatch)


def test_our_own_lines_are_left_alone(sieve: Sieve) -> None:
    for _ in range(3):
        assert sieve.log("see //a:b@c", name="sidecar.bus.process", level=logging.DEBUG) == "see //a:b@c"


def test_a_line_a_minute_and_the_same_one_every_ten(sieve: Sieve) -> None:
    line = "[96e31f78-27ac-49b2-b156-5c2df0a5bd77] server 127.0.0.1:%d is unreachable. Trying again in %d seconds."
    assert sieve.log(line, 5672, 1)
    assert sieve.log("ACCESS_REFUSED") is None
    sieve.now += APART_S
    assert sieve.log(line.replace("96e31f78", "e8eaa5c4"), 5673, 2) is None
    assert sieve.log("ACCESS_REFUSED")
    sieve.now += AGAIN_S
    assert sieve.log(line, 5672, 1)
    assert sieve.log("something", name="amqp")


@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG])
def test_their_chatter_is_nobodys(sieve: Sieve, level: int) -> None:
    assert sieve.log("connected", level=level) is None


def test_what_comes_once_more_is_no_news(sieve: Sieve) -> None:
    class DuplicateMessageError(Exception):
        pass

    try:
        raise DuplicateMessageError
    except DuplicateMessageError:
        assert sieve.log("ignoring duplicate message %s", None, name="oslo_messaging._drivers.amqpdriver") is None
    assert sieve.log("something else", name="oslo_messaging._drivers.amqpdriver")


def test_no_passwords_no_tracebacks_and_no_payloads_at_length(sieve: Sieve) -> None:
    try:
        raise KeyError("x")
    except KeyError:
        logged = sieve.log("amqp://user:secret@broker:5672/\nand %s", "y" * 1000)
    assert logged is not None
    assert "secret" not in logged
    assert "Traceback" not in logged
    assert "\n" not in logged
    assert "//***@broker" in logged
    assert logged.endswith("(KeyError)")
    assert len(logged) < LINE_LIMIT + 80


@pytest.mark.parametrize(
    "url",
    [
        "rabbit://u:secret@one:5671,u:secret2@two:5671/v",
        "rabbit://u:secret@one:5671,u:sec/ret@two:5671,u:se@cret@three/v",
        "rabbit://u:secret@one,rabbit://u:secret@two",
    ],
)
def test_no_password_of_any_node(sieve: Sieve, url: str) -> None:
    logged = sieve.log(f"cannot use {url} and more")
    assert logged is not None
    assert not {"secret", "sec", "ret"} & set(logged.replace("/", "@").replace(":", "@").split("@"))
    assert "secret" not in logged
    assert logged.endswith("and more")


def test_kinds_are_bounded(sieve: Sieve) -> None:
    for number in range(2 * KINDS_LIMIT):
        assert sieve.log("x" * (1 + number % 200), name=f"lib{'y' * number}")
    assert len(sieve._sieve._told_at) <= KINDS_LIMIT
