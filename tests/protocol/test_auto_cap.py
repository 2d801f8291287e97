"""The cap that follows the other hosts: down at once, up after an hour."""

import pytest

from sidecar.protocol.auto_cap import RAISE_S, AutoCap
from sidecar.protocol.releases import Release

INFINITY = float("inf")


class Cap:
    """One for oVirt's dialect; `lowest` None: there is no other host."""

    def __init__(self, cap: int | None = None) -> None:
        self.auto = AutoCap[int](cap)

    def follow(self, lowest: int | None, now: float, *, connected: bool = True) -> int | None:
        self.auto.follow(lowest, now, connected=connected)
        return self.auto.cap


def test_without_a_fleet_nothing_is_kept() -> None:
    cap = Cap()
    assert cap.follow(None, 0) is None
    assert cap.follow(None, RAISE_S) is None
    assert cap.auto.raise_at == INFINITY


@pytest.mark.parametrize("connected", [True, False])
def test_lowered_at_once(connected: bool) -> None:
    cap = Cap()
    assert cap.follow(4, 0, connected=connected) == 4
    assert cap.follow(2, 0, connected=connected) == 2
    assert cap.follow(0, 0, connected=connected) == 0


def test_raised_after_an_hour() -> None:
    assert RAISE_S == 3600
    cap = Cap(2)
    assert cap.follow(2, 0) == 2
    assert cap.auto.raise_at == INFINITY
    assert cap.follow(4, 100) == 2
    assert cap.auto.raise_at == 3700
    assert cap.follow(4, 3699) == 2
    assert cap.follow(4, 3700) == 4
    assert cap.auto.raise_at == INFINITY


def test_what_it_would_rise_to_has_to_stand_unchanged() -> None:
    cap = Cap(1)
    cap.follow(3, 0)
    assert cap.follow(4, 3000) == 1
    assert cap.auto.raise_at == 6600
    assert cap.follow(3, 6000) == 1
    assert cap.auto.raise_at == 9600
    assert cap.follow(1, 9000) == 1
    assert cap.auto.raise_at == INFINITY
    assert cap.follow(3, 9600) == 1
    assert cap.follow(3, 13_200) == 3


def test_nothing_rises_on_a_partial_view_and_the_hour_begins_anew() -> None:
    cap = Cap(2)
    cap.follow(4, 0)
    assert cap.follow(4, 3599, connected=False) == 2
    assert cap.auto.raise_at == INFINITY
    assert cap.follow(4, 10_000, connected=False) == 2
    assert cap.follow(4, 10_001) == 2
    assert cap.follow(4, 13_600) == 2
    assert cap.follow(4, 13_601) == 4


def test_that_the_last_host_is_gone_is_a_raise_like_any_other() -> None:
    cap = Cap(2)
    assert cap.follow(None, 0) == 2
    assert cap.follow(None, 3599) == 2
    assert cap.follow(None, 3600) is None


def test_that_the_last_host_is_gone_has_to_stand_like_any_other_target() -> None:
    cap = Cap(2)
    cap.follow(None, 0)
    assert cap.follow(4, 1800) == 2
    assert cap.follow(None, 3600) == 2
    assert cap.auto.raise_at == 7200
    assert cap.follow(None, 5000, connected=False) == 2
    assert cap.auto.raise_at == INFINITY


def test_a_fleet_that_was_gone_and_is_back_lowers_again() -> None:
    cap = Cap(2)
    cap.follow(None, 0)
    assert cap.follow(2, 1800) == 2
    assert cap.follow(None, 1801) == 2
    assert cap.auto.raise_at == 5401


def test_a_clock_that_goes_back_raises_nothing_earlier() -> None:
    cap = Cap(2)
    cap.follow(4, 10_000)
    assert cap.follow(4, 0) == 2
    assert cap.follow(4, 13_599) == 2
    assert cap.follow(4, 13_600) == 4


def test_releases_are_compared_as_numbers() -> None:
    cap = AutoCap[Release](Release(10, 0))
    cap.follow(Release(9, 2), 0, connected=True)
    assert cap.cap == Release(9, 2)
