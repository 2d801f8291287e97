from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.protocol.budget import Budget


def test_allows_the_limit_and_no_more() -> None:
    budget = Budget(3, 60.0)
    assert [budget.take(now) for now in (0.0, 1.0, 2.0, 3.0)] == [True, True, True, False]


def test_a_refused_use_costs_nothing() -> None:
    budget = Budget(1, 60.0)
    assert budget.take(0.0)
    assert not budget.take(59.9)
    assert budget.take(60.0)


def test_next_free_is_the_moment_from_which_take_succeeds() -> None:
    budget = Budget(2, 10.0)
    assert budget.next_free() == float("-inf")
    budget.take(5.0)
    assert budget.next_free() == float("-inf")
    budget.take(6.0)
    assert budget.next_free() == 15.0
    assert not budget.take(14.999)
    assert budget.take(15.0)
    assert budget.next_free() == 16.0


def test_used_counts_the_window_only() -> None:
    budget = Budget(3, 10.0)
    budget.take(0.0)
    budget.take(5.0)
    assert [budget.used(now) for now in (5.0, 9.9, 10.0, 15.0)] == [2, 2, 1, 0]


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 7), st.lists(st.floats(0, 30), max_size=60))
def test_no_window_holds_more_than_the_limit(limit: int, gaps: list[float]) -> None:
    budget, now, taken = Budget(limit, 60.0), 0.0, []
    for gap in gaps:
        now += gap
        if budget.take(now):
            taken.append(now)
    for start in taken:
        assert sum(start <= use < start + 60.0 for use in taken) <= limit


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 7), st.lists(st.floats(0, 30), max_size=60))
def test_refuses_only_a_full_window(limit: int, gaps: list[float]) -> None:
    budget, now, taken = Budget(limit, 60.0), 0.0, []
    for gap in gaps:
        now += gap
        if budget.take(now):
            taken.append(now)
        else:
            assert sum(now < use + 60.0 for use in taken) == limit
