"""Hosts that talk, without a broker: what one says, the others hear in its thread."""

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from sidecar.api.link import Word
from sidecar.api.problems import ProblemCode, ProblemError
from sidecar.bus import fleet_agenda, fleet_talk
from sidecar.bus.fleet_agenda import Cast
from sidecar.bus.fleet_talk import METHODS, FleetTalk
from sidecar.bus.message_values import DOCUMENT_LIMIT_BYTES
from sidecar.errors import BusDownError
from tests.bus.bus_rig import make_offer, make_summary
from tests.lab.waiting import wait_for

LIMIT_S = 20.0


class Ether:
    """The broker: takes what is said to those who are there, or hangs, or refuses."""

    def __init__(self) -> None:
        self.hosts: list[Station] = []
        self.casts: list[tuple[str, Cast]] = []
        self.is_broken = False
        self.gate = threading.Event()
        self.gate.set()

    def carry(self, sender: str, cast: Cast) -> None:
        self.gate.wait()
        if self.is_broken:
            raise OSError("broken")
        self.casts.append((sender, cast))
        for host in list(self.hosts):
            if cast.server in {None, host.talk.hostname}:
                host.talk.receive(cast.method, cast.values)


class Station:
    """One host: its talk, and its daemon's ear."""

    def __init__(self, ether: Ether, hostname: str, offer: Mapping[str, Any] | None = None) -> None:
        self.told: list[tuple[Word, dict[str, Any]]] = []
        self.changed = threading.Condition()
        self.summarize: Callable[[], Any] = lambda: make_summary(hostname)
        self.talk = FleetTalk(
            hostname, lambda cast: ether.carry(hostname, cast), self._tell, lambda: self.summarize(), self._notify
        )
        self.talk.change_offer(offer or make_offer(hostname))
        ether.hosts.append(self)

    def start(self) -> "Station":
        self.talk.start()
        self.wait(lambda: self.talk.connected)
        return self

    def seen(self) -> list[Any]:
        return [values["offer"] for word, values in self.told if word is Word.SEEN]

    def forgotten(self) -> list[Any]:
        return [values["hostname"] for word, values in self.told if word is Word.FORGOTTEN]

    def wait(self, condition: Callable[[], Any]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, LIMIT_S)

    def _tell(self, word: Word, **values: Any) -> None:
        with self.changed:
            self.told.append((word, values))
            self.changed.notify_all()

    def _notify(self) -> None:
        with self.changed:
            self.changed.notify_all()


@pytest.fixture
def ether() -> Iterator[Ether]:
    made = Ether()
    yield made
    made.gate.set()


@pytest.fixture
def alpha(ether: Ether) -> Station:
    return Station(ether, "alpha").start()


@pytest.fixture
def beta(ether: Ether, alpha: Station) -> Station:
    return Station(ether, "beta").start()


def test_hosts_get_to_know_each_other(alpha: Station, beta: Station) -> None:
    alpha.wait(lambda: alpha.seen() == [make_offer("beta")])
    beta.wait(lambda: beta.seen() == [make_offer("alpha")])


def test_a_changed_offer_is_told_to_all(alpha: Station, beta: Station) -> None:
    alpha.wait(alpha.seen)
    beta.talk.change_offer(make_offer("beta", daemon="2"))
    alpha.wait(lambda: alpha.seen()[-1] == make_offer("beta", daemon="2"))


def test_collects_from_all_and_not_from_itself(alpha: Station, beta: Station) -> None:
    assert alpha.talk.collect(["beta"], LIMIT_S) == [make_summary("beta")]
    assert beta.talk.collect(["alpha"], LIMIT_S) == [make_summary("alpha")]


@pytest.mark.parametrize("error", [ProblemError(ProblemCode.LIBVIRT_UNAVAILABLE, "no"), TimeoutError()])
def test_a_host_without_a_summary_does_not_answer(alpha: Station, beta: Station, error: Exception) -> None:
    def fail() -> Any:
        raise error

    beta.summarize = fail
    assert alpha.talk.collect(["beta"], 0.2) == []
    beta.summarize = lambda: make_summary("beta")
    assert alpha.talk.collect(["beta"], LIMIT_S) == [make_summary("beta")]


@pytest.mark.parametrize("code", [ProblemCode.UNSUPPORTED_VERSION, ProblemCode.UNKNOWN_OPERATION])
def test_a_host_that_knows_no_summaries_says_what_it_offers(alpha: Station, beta: Station, code: str) -> None:
    def refuse() -> Any:
        raise ProblemError(code, "1.3")

    beta.summarize = refuse
    wanted = {"host": make_offer("beta"), "guests": None, "oldest": {}}
    assert alpha.talk.collect(["beta"], LIMIT_S) == [wanted]


def test_what_is_not_announced_is_told_who_greets(ether: Ether, alpha: Station, beta: Station) -> None:
    alpha.wait(alpha.seen)
    beta.talk.change_offer(make_offer("beta", daemon="2"), announce=False)
    gamma = Station(ether, "gamma").start()
    gamma.wait(lambda: make_offer("beta", daemon="2") in gamma.seen())
    assert alpha.seen()[0] == make_offer("beta")
    assert {"offer": make_offer("beta", daemon="2"), "answer_to": None, "token": None} not in [
        cast.values for _, cast in ether.casts
    ]


def test_a_daemon_is_not_asked_for_every_collection(alpha: Station, beta: Station) -> None:
    asked = []

    def summarize() -> Any:
        asked.append(1)
        return make_summary("beta")

    beta.summarize = summarize
    began_at = time.monotonic()
    for _ in range(50):
        assert alpha.talk.collect(["beta"], LIMIT_S)
    assert len(asked) <= 1 + (time.monotonic() - began_at) / fleet_talk.SUMMARY_AGE_S


def test_forgetting_reaches_all_and_oneself_before_it_is_done(alpha: Station, beta: Station) -> None:
    alpha.wait(alpha.seen)
    alpha.talk.forget("beta", LIMIT_S)
    assert alpha.forgotten() == ["beta"]
    beta.wait(lambda: beta.forgotten() == ["beta"])
    # It lives after all, and whatever it announces is news.
    alpha.talk.receive("announce", {"offer": make_offer("beta")})
    alpha.wait(lambda: alpha.seen() == [make_offer("beta")] * 2)


def test_a_living_host_that_is_forgotten_makes_itself_known(
    alpha: Station, beta: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_agenda, "FORGOTTEN_S", 0.0)
    alpha.wait(alpha.seen)
    alpha.talk.forget("beta", LIMIT_S)
    alpha.wait(lambda: alpha.seen() == [make_offer("beta")] * 2)


def test_a_broker_that_hangs_costs_no_more_than_the_time(ether: Ether, alpha: Station) -> None:
    ether.gate.clear()
    probe = alpha.talk.begin_probe()
    with pytest.raises(TimeoutError):
        alpha.talk.forget("beta", 0.05)
    with pytest.raises(TimeoutError):
        alpha.talk.collect([], 0.05)
    for _ in range(2 * fleet_talk.QUEUE_LIMIT):  # nothing piles up
        with pytest.raises((TimeoutError, BusDownError)):
            alpha.talk.forget("beta", 0.0)
    # What does not even wait was not said, and is not going to be.
    with pytest.raises(BusDownError, match="nothing was asked"):
        alpha.talk.forget("beta", LIMIT_S)
    with pytest.raises(BusDownError):
        alpha.talk.collect([], LIMIT_S)
    assert alpha.talk._rounds._rounds.keys() == {probe}
    assert not alpha.talk.end_probe(probe)
    ether.gate.set()
    wait_for(lambda: alpha.talk._casts.empty(), LIMIT_S, "everything to be said")
    alpha.talk.forget("gamma", LIMIT_S)
    # What was given up meanwhile is not said any more.
    assert alpha.forgotten() == ["gamma"]


def test_what_was_given_up_is_not_said_when_the_broker_is_back(ether: Ether, alpha: Station) -> None:
    ether.gate.clear()
    with pytest.raises(TimeoutError):
        alpha.talk.forget("beta", 0.05)  # its thread waits for the broker now
    ether.gate.set()
    alpha.talk.forget("gamma", LIMIT_S)
    assert [cast.values["hostname"] for _, cast in ether.casts if cast.method == "forget"] == ["gamma"]


def test_what_must_not_be_late_is_tried_once_each_time(ether: Ether, alpha: Station) -> None:
    alpha.talk.forget("gamma", LIMIT_S)
    alpha.talk.collect([], LIMIT_S)
    assert {cast.method for _, cast in ether.casts if not cast.patient} == {"forget", "collect"}


def test_a_probe_comes_back_where_the_broker_does_its_work(ether: Ether, alpha: Station) -> None:
    first, second = alpha.talk.begin_probe(), alpha.talk.begin_probe()
    alpha.talk.forget("gamma", LIMIT_S)  # behind them
    assert alpha.talk.end_probe(first)
    ether.is_broken = True
    third = alpha.talk.begin_probe()
    with pytest.raises(TimeoutError):
        alpha.talk.forget("gamma", 0.05)
    assert not alpha.talk.end_probe(third)
    assert alpha.talk.end_probe(second)


def test_a_broker_that_refuses_is_tried_again(ether: Ether, alpha: Station) -> None:
    ether.is_broken = True
    with pytest.raises(TimeoutError):
        alpha.talk.forget("beta", 0.05)
    ether.is_broken = False
    alpha.talk.forget("beta", LIMIT_S)


def test_another_machine_of_our_name_is_told(ether: Ether, alpha: Station) -> None:
    twin = make_offer("alpha", host_uuid="another")
    Station(ether, "alpha", twin).talk.start()
    alpha.wait(lambda: twin in alpha.seen())
    assert make_offer("alpha") not in alpha.seen()


def test_an_answer_that_is_not_for_this_process_is_not_believed(alpha: Station) -> None:
    stale = {"offer": make_offer("gamma"), "answer_to": None, "token": "of a process before"}
    alpha.talk.receive("announce", stale)
    alpha.talk.receive("announce", {**stale, "offer": make_offer("delta"), "token": None})
    alpha.wait(alpha.seen)
    assert alpha.seen() == [make_offer("delta")]


def test_a_ping_of_a_process_before_is_no_echo(ether: Ether) -> None:
    deaf = Station(ether, "alpha")
    deaf.talk.receive("ping", {"token": "of a process before"})
    assert not deaf.talk.connected


def test_a_host_that_announces_all_the_time_is_told_once_a_second(alpha: Station) -> None:
    began_at = time.monotonic()
    for number in range(1000):
        alpha.talk.receive("announce", {"offer": make_offer("gamma", daemon=str(number))})
    alpha.wait(lambda: alpha.seen()[-1:] == [make_offer("gamma", daemon="999")])
    assert len(alpha.seen()) <= 3 + (time.monotonic() - began_at)


def _nest(depth: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for _ in range(depth):
        made = {"a": made}
    return made


GOOD: Mapping[str, Mapping[str, Any]] = {
    "announce": {"offer": make_offer("beta"), "answer_to": "beta", "token": "t", "away_s": 12.5},
    "ping": {"token": "t"},
    "collect": {"id": "1", "reply_to": "beta"},
    "collected": {"id": "1", "summary": make_summary("beta")},
    "forget": {"hostname": "beta", "token": "t"},
}
RUBBISH: tuple[Any, ...] = (
    *(5, True, math.nan, [], [{}], "", "x" * 70_000, "a\nb", "\ud800", b"x", {}, {"hostname": None}, {"hostname": []}),
    *({"hostname": "x" * 256}, {"hostname": "be\x00ta"}, {"hostname": "beta", "x": math.nan}, _nest(3000)),
    *({"hostname": "beta", "x": "y" * DOCUMENT_LIMIT_BYTES}, {"host": "beta"}, {"host": {"hostname": 1}}),
)


def test_good_examples_are_good(ether: Ether, alpha: Station, caplog: pytest.LogCaptureFixture) -> None:
    assert set(GOOD) == set(METHODS)
    for method, values in GOOD.items():
        alpha.talk.receive(method, values)
    assert caplog.text == ""
    alpha.wait(lambda: alpha.seen() and alpha.forgotten())


@pytest.mark.parametrize(("method", "key"), [(method, key) for method, values in GOOD.items() for key in values])
def test_rubbish_is_dropped_with_one_line(
    ether: Ether, alpha: Station, caplog: pytest.LogCaptureFixture, method: str, key: str
) -> None:
    for rubbish in RUBBISH:
        alpha.talk.receive(method, {**GOOD[method], key: rubbish})
    for rubbish in ({}, {"what": 1}):
        alpha.talk.receive(method, rubbish)
    # Some of it is none: any short text is a token.
    assert all(offer["hostname"] == "beta" for offer in alpha.seen())
    assert len(caplog.records) == 1
    assert "x" * 100 not in caplog.text
    alpha.talk.forget("gamma", LIMIT_S)


def test_a_host_greets_for_itself_alone(ether: Ether, alpha: Station) -> None:
    for number in range(20):
        alpha.talk.receive("announce", {"offer": make_offer("beta"), "answer_to": f"victim-{number}", "token": "t"})
    alpha.talk.forget("gamma", LIMIT_S)
    assert [cast for _, cast in ether.casts if cast.server not in {None, "alpha"}] == []


def test_more_collections_than_can_be_answered(ether: Ether, alpha: Station, caplog: pytest.LogCaptureFixture) -> None:
    gate = threading.Event()

    def summarize() -> Any:
        assert gate.wait(LIMIT_S)
        return make_summary("alpha")

    alpha.summarize = summarize
    for number in range(2 * fleet_talk.QUEUE_LIMIT):
        alpha.talk.receive("collect", {"id": str(number), "reply_to": "beta"})
    assert "more than can be answered" in caplog.text
    # And they delay nothing else.
    alpha.talk.forget("gamma", LIMIT_S)
    gate.set()
