"""When what is said: pure, with the time told."""

import itertools

import pytest

from sidecar.bus.fleet_agenda import (
    AGAIN_S,
    ANSWERS_LIMIT,
    FORGOTTEN_S,
    GAP_S,
    GREET_AGAIN_FIRST_S,
    GREET_AGAIN_HOST_S,
    GREETING_SPREAD_LIMIT_S,
    HOSTS_LIMIT,
    NEWS_S,
    PING_S,
    REFRESH_FIRST_S,
    REFRESH_LIMIT_S,
    REPEAT_DOUBLINGS,
    REPEAT_FIRST_S,
    REPEAT_HOST_S,
    SILENCE_S,
    Cast,
    FleetAgenda,
)

OFFER, OTHER = {"hostname": "alpha", "daemon": "1"}, {"hostname": "alpha", "daemon": "2"}
PING = Cast("alpha", "ping", {"token": "t"})


def greet(away_s: float | None = None) -> Cast:
    return Cast(None, "announce", {"offer": OFFER, "answer_to": "alpha", "token": "t", "away_s": away_s})


GREETING = greet()


def announce(offer: object = OFFER, server: str | None = None, token: str | None = None) -> Cast:
    return Cast(server, "announce", {"offer": offer, "answer_to": None, "token": token})


def make(*, draws_high: bool = False) -> FleetAgenda:
    return FleetAgenda("alpha", "t", lambda low, high: high if draws_high else low)


def is_greeting(casts: list[Cast]) -> bool:
    return any(cast.server is None and cast.values.get("answer_to") for cast in casts)


def settle(agenda: FleetAgenda, hosts: int) -> None:
    """Greeted at 0, and heard itself, among so many others."""
    agenda.hosts = hosts
    agenda.change_offer(OFFER, 0.0)
    agenda.start(0.0)
    agenda.take_due(0.0)
    agenda.receive_own_announcement(OFFER, "t", 0.0)


@pytest.fixture
def settled() -> FleetAgenda:
    """Greeted at 0, and heard itself."""
    agenda = make()
    agenda.change_offer(OFFER, 0.0)
    agenda.start(0.0)
    assert agenda.take_due(0.0) == [PING, GREETING]
    agenda.receive_own_announcement(OFFER, "t", 0.0)
    return agenda


def test_says_nothing_before_it_hears() -> None:
    agenda = make()
    agenda.change_offer(OFFER, 0.0)
    assert agenda.deadline is None
    assert agenda.take_due(100.0) == []


def test_only_pings_without_an_offer() -> None:
    agenda = make()
    agenda.start(0.0)
    assert agenda.take_due(0.0) == [PING]
    assert agenda.deadline == PING_S
    agenda.change_offer(OFFER, 1.0)
    assert agenda.take_due(1.0) == [GREETING]


def test_pings_from_time_to_time(settled: FleetAgenda) -> None:
    assert settled.deadline == PING_S
    assert settled.take_due(PING_S - 0.1) == []
    assert settled.take_due(PING_S) == [PING]
    assert settled.deadline == 2 * PING_S


def test_greets_until_it_hears_itself() -> None:
    agenda = make()
    agenda.change_offer(OFFER, 0.0)
    agenda.start(0.0)
    assert GREETING in agenda.take_due(0.0)
    assert GREETING not in agenda.take_due(REPEAT_FIRST_S - 0.1)
    assert GREETING in agenda.take_due(REPEAT_FIRST_S)
    assert GREETING not in agenda.take_due(3 * REPEAT_FIRST_S - 0.1)  # twice as long each time
    assert GREETING in agenda.take_due(3 * REPEAT_FIRST_S)
    agenda.receive_own_announcement(OFFER, "t", 3 * REPEAT_FIRST_S + 1)
    assert agenda.take_due(20 * REPEAT_FIRST_S) == [PING]


def test_announces_a_change_until_it_hears_that(settled: FleetAgenda) -> None:
    settled.change_offer(OTHER, 1.0)
    assert settled.deadline == 1.0
    assert settled.take_due(1.0) == [announce(OTHER)]
    settled.receive_own_announcement(OFFER, None, 1.5)  # an older one that was under way
    assert announce(OTHER) in settled.take_due(1.0 + REPEAT_FIRST_S)
    settled.receive_own_announcement(OTHER, None, 12.0)
    assert announce(OTHER) not in settled.take_due(30.0)


def test_what_is_not_to_be_announced_is_what_who_asks_hears(settled: FleetAgenda) -> None:
    settled.change_offer(OTHER, 1.0, announce=False)
    assert settled.take_due(1.0) == []
    settled.receive_greeting("beta", "b", None, 2.0)
    assert settled.take_due(2.0) == [announce(OTHER, server="beta", token="b")]
    # And what is said to all later.
    later = REFRESH_FIRST_S
    assert announce(OTHER) in settled.take_due(later)
    settled.receive_own_announcement(OTHER, None, later)
    assert announce(OTHER) not in settled.take_due(later + REPEAT_FIRST_S)


def test_an_announcement_that_comes_back_is_not_repeated_for_what_nobody_was_to_be_told(settled: FleetAgenda) -> None:
    settled.change_offer(OTHER, 1.0)
    assert settled.take_due(1.0) == [announce(OTHER)]
    settled.change_offer(OFFER, 1.1, announce=False)
    settled.receive_own_announcement(OTHER, None, 1.2)
    assert announce(OFFER) not in settled.take_due(1.0 + REPEAT_FIRST_S)


def test_the_same_offer_is_said_again(settled: FleetAgenda) -> None:
    settled.change_offer(dict(OFFER), 1.0)
    assert settled.take_due(1.0) == [announce()]
    settled.receive_own_announcement(OFFER, None, 1.0)
    assert announce() not in settled.take_due(60.0)


def test_a_host_that_was_forgotten_and_is_there_says_so_when_all_have_heard_that(settled: FleetAgenda) -> None:
    settled.receive_own_forgetting(1.0)
    assert settled.take_due(1.0) == []
    assert settled.take_due(1.0 + FORGOTTEN_S) == [announce()]


def test_a_host_that_was_forgotten_is_news(settled: FleetAgenda) -> None:
    settled.receive_own_forgetting(5.0)
    settled.take_due(5.0 + FORGOTTEN_S)
    settled.receive_own_announcement(OFFER, None, 10.0)
    later = 10.0 + NEWS_S + 10.0
    settled.receive_greeting("beta", "b", 10.0, later)
    assert announce(server="beta", token="b") in settled.take_due(later)


def test_connected_as_long_as_something_comes_back(settled: FleetAgenda) -> None:
    assert settled.is_connected(SILENCE_S - 0.1)
    assert not settled.is_connected(SILENCE_S)
    settled.receive_echo(50.0)
    assert settled.is_connected(50.0)
    assert not make().is_connected(0.0)


def test_greets_anew_after_a_gap(settled: FleetAgenda) -> None:
    echoes = range(1, 12)
    for number in echoes:
        settled.receive_echo(number * GAP_S)
        assert settled.take_due(number * GAP_S) == [PING]
    settled.receive_echo(13 * GAP_S)
    assert greet(away_s=2 * GAP_S) in settled.take_due(13 * GAP_S)
    settled.receive_own_announcement(OFFER, "t", 16 * GAP_S)  # late itself, but it is the greeting
    assert not is_greeting(settled.take_due(17 * GAP_S))


def test_soon_after_a_greeting_its_answers_may_be_missing_as_well(settled: FleetAgenda) -> None:
    settled.receive_echo(2 * GAP_S)
    assert greet(away_s=None) in settled.take_due(GREET_AGAIN_FIRST_S)


def test_greets_anew_only_so_often(settled: FleetAgenda) -> None:
    settled.receive_echo(2 * GAP_S)
    assert settled.take_due(GREET_AGAIN_FIRST_S - 0.1) == [PING]
    assert GREETING in settled.take_due(GREET_AGAIN_FIRST_S)
    settled.hosts = 200
    settled.receive_own_announcement(OFFER, "t", 61.0)
    settled.receive_echo(61.0 + 2 * GAP_S)
    due = 61.0 + 200 * GREET_AGAIN_HOST_S
    assert not is_greeting(settled.take_due(due - 0.1))
    assert is_greeting(settled.take_due(due))


def test_a_fleet_does_not_greet_all_at_once() -> None:
    agenda = make(draws_high=True)
    settle(agenda, 10_000)
    later = 10_000 * GREET_AGAIN_HOST_S + 1.0
    agenda.receive_echo(later)
    assert not is_greeting(agenda.take_due(later + GREETING_SPREAD_LIMIT_S - 0.1))
    assert is_greeting(agenda.take_due(later + GREETING_SPREAD_LIMIT_S))


@pytest.mark.parametrize(("hosts", "spread_s"), [(20, 0.08), (200, 8.0), (1000, 200.0)])
def test_greetings_are_spread_by_what_they_cost_the_broker(hosts: int, spread_s: float) -> None:
    agenda = make(draws_high=True)
    settle(agenda, hosts)
    later = hosts * GREET_AGAIN_HOST_S + 61.0
    agenda.receive_echo(later)
    assert not is_greeting(agenda.take_due(later + spread_s - 0.01))
    assert is_greeting(agenda.take_due(later + spread_s + 0.01))


@pytest.mark.parametrize(("hosts", "first_s"), [(0, REPEAT_FIRST_S), (200, 200 * REPEAT_HOST_S)])
def test_repeats_more_and_more_seldom(hosts: int, first_s: float) -> None:
    agenda = make()
    agenda.hosts = hosts
    agenda.change_offer(OFFER, 0.0)
    agenda.start(0.0)
    now = 0.0
    times: list[float] = []
    while len(times) < REPEAT_DOUBLINGS + 3:
        if is_greeting(agenda.take_due(now)):
            times.append(now)
        deadline = agenda.deadline
        assert deadline is not None
        now = deadline
    rests = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert rests == [first_s * 2 ** min(number, REPEAT_DOUBLINGS) for number in range(len(rests))]


def test_answers_who_greets_once(settled: FleetAgenda) -> None:
    settled.receive_greeting("beta", "old", None, 1.0)
    settled.receive_greeting("beta", "b", None, 1.0)
    settled.receive_greeting("gamma", "c", None, 1.0)
    assert settled.take_due(1.0) == [announce(server="beta", token="b"), announce(server="gamma", token="c")]
    assert settled.take_due(1.0) == []


@pytest.mark.parametrize(("hosts", "spread_s"), [(0, 0.0), (200, 1.0), (2000, 10.0), (100_000, 10.0)])
def test_answers_are_spread(settled: FleetAgenda, hosts: int, spread_s: float) -> None:
    agenda = make(draws_high=True)
    settle(agenda, hosts)
    agenda.receive_greeting("beta", "b", None, 1.0)
    answer = announce(server="beta", token="b")
    if spread_s:
        assert answer not in agenda.take_due(1.0 + spread_s - 0.01)
    assert answer in agenda.take_due(1.0 + spread_s)


def test_who_knows_what_is_offered_needs_no_answer(settled: FleetAgenda) -> None:
    """The news of this host, its offer, came to all at 0."""
    settled.receive_greeting("beta", "b", 20.0, NEWS_S + 20.1)
    assert settled.take_due(NEWS_S + 20.1) == [PING]
    settled.receive_greeting("beta", "b", 20.0, NEWS_S + 20.0)
    assert settled.take_due(NEWS_S + 20.1) == [announce(server="beta", token="b")]


def test_another_offer_is_news(settled: FleetAgenda) -> None:
    settled.change_offer(OTHER, 5.0)
    assert settled.take_due(5.0) == [announce(OTHER)]
    settled.receive_own_announcement(OTHER, None, 5.0)
    again = 5.0 + AGAIN_S
    for number in range(1, 7):
        settled.receive_own_announcement(OTHER, None, again * number / 6)
    assert announce(OTHER) in settled.take_due(again), "for who came back a little later"
    settled.receive_own_announcement(OTHER, None, again)
    later = 5.0 + NEWS_S + 15.0
    settled.receive_greeting("beta", "b", 15.0, later + 0.1)
    settled.receive_greeting("gamma", "c", 15.0, later)
    answers = [cast for cast in settled.take_due(later + 0.1) if cast.method == "announce"]
    assert answers == [announce(OTHER, server="gamma", token="c")]


def test_no_more_hosts_are_waited_for_than_a_fleet_has() -> None:
    rests = []
    for hosts in (HOSTS_LIMIT, 100 * HOSTS_LIMIT):
        agenda = make()
        agenda.hosts = hosts
        agenda.change_offer(OFFER, 0.0)
        agenda.start(0.0)
        agenda.take_due(0.0)
        due = REPEAT_HOST_S * HOSTS_LIMIT
        rests.append([is_greeting(agenda.take_due(now)) for now in (due - 0.1, due)])
    assert rests == [[False, True]] * 2


def test_who_has_not_been_heard_answers_everybody() -> None:
    agenda = make()
    agenda.change_offer(OFFER, 0.0)
    agenda.start(0.0)
    agenda.take_due(0.0)
    agenda.receive_greeting("beta", "b", 0.0, 5.0)
    assert announce(server="beta", token="b") in agenda.take_due(5.0)


def test_many_are_answered_by_one_word_to_all(settled: FleetAgenda) -> None:
    for number in range(ANSWERS_LIMIT + 1):
        settled.receive_greeting(f"host-{number}", "x", None, 1.0)
    assert settled.take_due(1.0) == [announce()]


def test_who_hears_an_announcement_needs_no_answer() -> None:
    agenda = make(draws_high=True)
    agenda.hosts = 200
    agenda.change_offer(OFFER, 0.0)
    agenda.start(0.0)
    agenda.receive_greeting("beta", "b", None, 0.0)
    assert agenda.take_due(0.5) == [PING, GREETING]
    agenda.receive_own_announcement(OFFER, "t", 0.5)
    assert agenda.take_due(5.0) == []


@pytest.mark.parametrize(
    ("hosts", "wanted_s"), [(0, REFRESH_FIRST_S), (200, REFRESH_FIRST_S), (1000, 3000.0), (10_000, REFRESH_LIMIT_S)]
)
def test_announces_itself_from_time_to_time(hosts: int, wanted_s: float) -> None:
    agenda = FleetAgenda("alpha", "t", lambda low, high: (low + high) / 2)
    settle(agenda, hosts)
    assert announce() not in agenda.take_due(wanted_s - 1)
    assert announce() in agenda.take_due(wanted_s + 1)
    agenda.receive_own_announcement(OFFER, None, wanted_s + 1)
    assert announce() not in agenda.take_due(wanted_s + 30)


def test_the_deadline_is_when_something_is_due(settled: FleetAgenda) -> None:
    now = 0.0
    for _ in range(200):
        deadline = settled.deadline
        assert deadline is not None
        assert deadline >= now
        now = deadline
        assert settled.take_due(now)
        settled.receive_own_announcement(OFFER, None, now)
