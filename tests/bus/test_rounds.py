"""What was said to every host, and what comes of it."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from sidecar.bus.rounds import Rounds

LIMIT_S = 20.0


def test_ends_as_soon_as_all_have_answered() -> None:
    rounds = Rounds()
    number = rounds.begin(["beta", "gamma"])
    with ThreadPoolExecutor() as pool:
        finished = pool.submit(rounds.finish, number, LIMIT_S)
        rounds.receive_answer(number, "beta", 1)
        rounds.receive_echo(number)
        rounds.receive_answer(number, "delta", 2)  # nobody knew it
        assert not finished.done()
        rounds.receive_answer(number, "gamma", 3)
        assert sorted(finished.result(LIMIT_S)) == [1, 2, 3]


def test_takes_what_came_when_the_time_is_over() -> None:
    rounds = Rounds()
    number = rounds.begin(["beta", "gamma"])
    rounds.receive_echo(number)
    rounds.receive_answer(number, "beta", 1)
    rounds.receive_answer(number, "beta", 2)
    assert rounds.finish(number, 0.01) == [2]


def test_fails_when_not_even_our_own_message_came() -> None:
    rounds = Rounds()
    number = rounds.begin()
    rounds.receive_answer(number, "beta", 1)
    with pytest.raises(TimeoutError):
        rounds.finish(number, 0.01)


def test_nobody_expected() -> None:
    rounds = Rounds()
    number = rounds.begin()
    rounds.receive_echo(number)
    assert rounds.finish(number, LIMIT_S) == []


def test_what_is_late_or_made_up_is_nobodys() -> None:
    rounds = Rounds()
    number, other = rounds.begin(), rounds.begin()
    rounds.receive_echo(number)
    rounds.finish(number, LIMIT_S)
    rounds.receive_answer(number, "beta", 1)
    rounds.receive_echo("made up")
    rounds.receive_answer("made up", "beta", 1)
    rounds.receive_echo(other)
    assert rounds.finish(other, LIMIT_S) == []


def test_answers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.bus.rounds.ANSWERS_LIMIT", 2)
    rounds = Rounds()
    number = rounds.begin()
    for name in ("beta", "gamma", "delta"):
        rounds.receive_answer(number, name, name)
    rounds.receive_echo(number)
    assert rounds.finish(number, LIMIT_S) == ["beta", "gamma"]


def test_the_size_of_answers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.bus.rounds.ANSWERS_LIMIT_BYTES", 100)
    rounds = Rounds()
    number = rounds.begin()
    rounds.receive_answer(number, "beta", "x" * 60)
    rounds.receive_answer(number, "gamma", "y" * 60)
    # One instead of an earlier one is no more.
    rounds.receive_answer(number, "beta", "z" * 60)
    rounds.receive_answer(number, "delta", "d")
    rounds.receive_echo(number)
    assert rounds.finish(number, LIMIT_S) == ["z" * 60, "d"]
