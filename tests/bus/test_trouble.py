"""What goes wrong again and again, in the log."""

import logging

import pytest

from sidecar.bus.trouble import AGAIN_S, Trouble


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def trouble(clock: Clock) -> Trouble:
    return Trouble(logging.getLogger("test"), "broker", clock)


def test_it_is_said_once_and_that_it_is_over(trouble: Trouble, caplog: pytest.LogCaptureFixture) -> None:
    trouble.end()
    for _ in range(100):
        trouble.note("down")
    trouble.end()
    trouble.end()
    trouble.note("down")
    assert caplog.messages == ["broker: down", "broker: in order again", "broker: down"]


def test_another_reason_is_said_once_a_minute(trouble: Trouble, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    trouble.note("down")
    clock.now += AGAIN_S - 1
    trouble.note("refused")
    clock.now += 1
    trouble.note("refused")
    trouble.note("slow")
    clock.now += 10 * AGAIN_S
    trouble.note("refused")
    assert caplog.messages == ["broker: down", "broker: refused"]
