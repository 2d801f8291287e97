"""What is due when."""

import pytest

from sidecar.guest.schedule import TOGETHER_S, Schedule

NEVER = float("inf")


def test_due_at_once_and_then_each_period() -> None:
    schedule = Schedule({"a": 10.0}, 100.0)
    assert schedule.deadline == 100.0
    assert schedule.take_due(99.0) == []
    assert schedule.take_due(100.0) == ["a"]
    assert schedule.deadline == 110.0
    assert schedule.take_due(109.4) == []
    assert schedule.take_due(110.0) == ["a"]
    assert schedule.deadline == 120.0


def test_a_period_of_zero_is_never_due() -> None:
    schedule = Schedule({"never": 0.0, "a": 10.0}, 0.0)
    assert schedule.take_due(1000.0) == ["a"]
    assert Schedule({"never": 0.0}, 0.0).deadline == NEVER
    assert Schedule({"never": 0.0}, 0.0).take_due(1e9) == []


def test_what_is_nearly_due_goes_along() -> None:
    schedule = Schedule({"a": 10.0, "b": 10.0 + TOGETHER_S}, 0.0)
    schedule.take_due(0.0)
    assert schedule.deadline == 10.0
    assert schedule.take_due(10.0) == ["a", "b"]
    assert schedule.deadline == 20.0


def test_a_late_look_is_not_made_up_for() -> None:
    schedule = Schedule({"a": 10.0}, 0.0)
    assert schedule.take_due(1005.0) == ["a"]
    assert schedule.take_due(1005.0) == []
    assert schedule.deadline == 1015.0


@pytest.mark.parametrize("period", [0.01, 0.3, 0.6, 2.0])
def test_a_short_period_is_not_due_again_at_once(period: float) -> None:
    schedule = Schedule({"a": period}, 0.0)
    now, looks = 0.0, 0
    while now < 100 * period:
        looks += len(schedule.take_due(now))
        assert schedule.deadline > now
        now = schedule.deadline
    assert 99 <= looks <= 101
