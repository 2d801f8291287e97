"""Which offers the daemon is told."""

from sidecar.bus import heard_offers
from sidecar.bus.heard_offers import (
    APART_S,
    HOSTS_LIMIT,
    NEW_APART_S,
    NEW_BURST,
    NEW_WAIT_S,
    REPEAT_S,
    HeardOffers,
)

A, B, C = ({"hostname": "beta", "daemon": version} for version in "abc")


def test_what_is_new_is_told_at_once_and_what_is_known_is_not() -> None:
    heard = HeardOffers()
    assert heard.hear("beta", A, 0.0)
    assert not heard.hear("beta", dict(A), 5.0)
    assert heard.hear("beta", B, 6.0)
    assert heard.hear("gamma", A, 6.0)
    assert heard.deadline is None


def test_what_is_known_is_told_again_after_a_while() -> None:
    heard = HeardOffers()
    heard.hear("beta", A, 0.0)
    assert not heard.hear("beta", A, REPEAT_S - 1)
    assert heard.hear("beta", A, REPEAT_S)
    assert not heard.hear("beta", A, REPEAT_S + 1)


def test_of_many_changes_only_the_last_is_told() -> None:
    heard = HeardOffers()
    heard.hear("beta", A, 0.0)
    assert not heard.hear("beta", B, 0.1)
    assert not heard.hear("beta", C, 0.2)
    assert heard.deadline == APART_S
    assert heard.take_due(APART_S - 0.1) == []
    assert heard.take_due(APART_S) == [C]
    assert heard.deadline is None
    assert not heard.hear("beta", C, APART_S + 5)


def test_a_change_that_is_taken_back_is_not_told() -> None:
    heard = HeardOffers()
    heard.hear("beta", A, 0.0)
    heard.hear("beta", B, 0.1)
    assert not heard.hear("beta", A, 0.2)
    assert heard.take_due(10.0) == []


def test_what_was_held_and_is_outdated_is_not_told_any_more() -> None:
    heard = HeardOffers()
    heard.hear("beta", A, 0.0)
    heard.hear("beta", B, 0.1)
    assert heard.hear("beta", C, APART_S + 0.1)
    assert heard.take_due(10.0) == []


def test_a_forgotten_host_is_new() -> None:
    heard = HeardOffers()
    heard.hear("beta", A, 0.0)
    heard.hear("beta", B, 0.1)
    heard.forget("beta")
    assert heard.take_due(10.0) == []
    assert heard.hear("beta", A, 10.0)


def test_names_are_bounded_and_those_in_use_stay() -> None:
    heard = HeardOffers()
    heard.hear("beta", A, 0.0)
    for number in range(2 * HOSTS_LIMIT):
        now = number * NEW_APART_S
        heard.hear(f"made-up-{number}", A, now)
        if number % 1000 == 0:
            assert not heard.hear("beta", A, now)
    assert len(heard) == HOSTS_LIMIT == heard_offers.HOSTS_LIMIT


def test_what_is_held_of_a_name_that_is_dropped_is_dropped() -> None:
    heard = HeardOffers()
    heard.hear("beta", A, 0.0)
    heard.hear("beta", B, 0.1)
    for number in range(HOSTS_LIMIT):
        heard.hear(f"made-up-{number}", A, 1000.0 + number * NEW_APART_S)
    assert heard.deadline is None


class TestManyNewNames:
    def test_a_fleet_is_told_at_once_and_then_one_after_the_other(self) -> None:
        heard = HeardOffers()
        told = [heard.hear(f"host-{number}", {"n": number}, 0.0) for number in range(NEW_BURST + 300)]
        assert told == [True] * NEW_BURST + [False] * 300
        assert heard.deadline == NEW_APART_S
        assert [offer["n"] for offer in heard.take_due(1.0)] == list(range(NEW_BURST, NEW_BURST + 128))
        assert len(heard.take_due(10.0)) == 172
        assert heard.deadline is None
        # It is known from then on.
        assert not heard.hear(f"host-{NEW_BURST + 299}", {"n": NEW_BURST + 299}, 12.0)
        assert heard.hear("late", A, 12.0)

    def test_what_it_said_last_is_told_when_its_turn_comes(self) -> None:
        heard = HeardOffers()
        for number in range(NEW_BURST):
            heard.hear(f"made-up-{number}", A, 0.0)
        assert not heard.hear("beta", A, 0.0)
        assert not heard.hear("beta", B, 0.0)
        assert heard.take_due(1.0) == [B]

    def test_a_host_that_is_known_does_not_wait(self) -> None:
        heard = HeardOffers()
        heard.hear("beta", A, 0.0)
        for number in range(3 * NEW_BURST):
            heard.hear(f"made-up-{number}", A, 5.0)
        assert heard.hear("beta", B, 5.0)

    def test_those_that_wait_are_bounded_and_new_again_later(self) -> None:
        heard = HeardOffers()
        for number in range(HOSTS_LIMIT):
            heard.hear(f"made-up-{number}", A, 0.0)
        limit = NEW_BURST + int(NEW_WAIT_S / NEW_APART_S)
        assert len(heard) == limit
        assert not heard.hear("beta", A, 0.0)
        heard.take_due(NEW_WAIT_S)
        assert heard.hear("beta", A, NEW_WAIT_S + 1.0)
