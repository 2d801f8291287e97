"""Which offers the daemon is told."""

from sidecar.bus import heard_offers
from sidecar.bus.heard_offers import APART_S, HOSTS_LIMIT, REPEAT_S, HeardOffers

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
        heard.hear(f"made-up-{number}", A, 1.0)
        if number % 1000 == 0:
            assert not heard.hear("beta", A, 1.0)
    assert len(heard) == HOSTS_LIMIT == heard_offers.HOSTS_LIMIT


def test_what_is_held_of_a_name_that_is_dropped_is_dropped() -> None:
    heard = HeardOffers()
    heard.hear("beta", A, 0.0)
    heard.hear("beta", B, 0.1)
    for number in range(HOSTS_LIMIT):
        heard.hear(f"made-up-{number}", A, 0.2)
    assert heard.deadline is None
