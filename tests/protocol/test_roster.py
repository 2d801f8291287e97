"""Which hosts count, and until when."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sidecar.protocol.roster as module
from sidecar.protocol.releases import Release
from sidecar.protocol.roster import HOSTS_LIMIT, UNSEEN_LIMIT_S, ConnectedTime, KnownHost, Roster, Sight
from tests.protocol.offers import make_offer

WEEK_S = 7 * 24 * 3600.0
INFINITY = float("inf")


def known(hostname: str, seen_s: float = 0.0, ovirt: int = 4, qga: str = "10.0") -> KnownHost:
    return KnownHost(make_offer(hostname, ovirt, qga), "2026-11-21T07:00:00.000Z", seen_s)


class TestRoster:
    def test_nobody_is_known_at_first(self) -> None:
        roster = Roster()
        assert not roster.hosts
        assert (roster.lowest_ovirt, roster.lowest_qga, roster.next_expiry_s) == (None, None, INFINITY)
        assert roster.expire(1e9) == ()

    def test_a_word_of_a_host_is_news_or_not(self) -> None:
        roster = Roster()
        assert roster.see(known("a")) is Sight.JOINED
        assert roster.see(known("a", 1.0)) is Sight.SEEN
        assert roster.see(known("a", 2.0, ovirt=3)) is Sight.CHANGED
        assert roster.hosts == {"a": known("a", 2.0, ovirt=3)}
        other = known("a", 3.0, ovirt=3)
        other = replace(other, offer=replace(other.offer, host_uuid="5c0f0000-0000-4000-8000-00000000000b"))
        assert roster.see(other) is Sight.CHANGED

    def test_the_lowest_is_each_dialects_own(self) -> None:
        roster = Roster()
        roster.see(known("a", ovirt=3, qga="10.0"))
        roster.see(known("b", ovirt=4, qga="7.2"))
        assert (roster.lowest_ovirt, roster.lowest_qga) == (3, Release(7, 2))
        roster.see(known("c", ovirt=3))
        assert roster.forget("a")
        assert roster.lowest_ovirt == 3
        roster.see(known("c", ovirt=4))
        assert roster.lowest_ovirt == 4
        assert not roster.forget("a")

    def test_a_week_unseen_is_the_end(self) -> None:
        assert UNSEEN_LIMIT_S == WEEK_S
        roster = Roster()
        for name, seen_s in (("a", 0.0), ("b", 10.0), ("a", 20.0), ("c", 30.0)):
            roster.see(known(name, seen_s))
        assert roster.next_expiry_s == 10.0 + WEEK_S
        assert roster.expire(9.9 + WEEK_S) == ()
        assert roster.expire(20.0 + WEEK_S) == ("b", "a")
        assert set(roster.hosts) == {"c"}

    def test_one_host_too_many_is_refused_and_changes_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert HOSTS_LIMIT == 16_384
        monkeypatch.setattr(module, "HOSTS_LIMIT", 2)
        roster = Roster()
        roster.see(known("a"))
        roster.see(known("b"))
        assert roster.see(known("c", ovirt=0)) is Sight.REFUSED
        assert (set(roster.hosts), roster.lowest_ovirt) == ({"a", "b"}, 4)
        assert roster.see(known("b", ovirt=2)) is Sight.CHANGED
        roster.forget("a")
        assert roster.see(known("c")) is Sight.JOINED

    @given(
        st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4) | st.none(), st.sampled_from(["2.3", "7.2"]))),
    )
    def test_the_lowest_is_the_lowest_of_those_that_are_there(self, words: list[tuple[str, int | None, str]]) -> None:
        roster = Roster()
        for number, (name, ovirt, qga) in enumerate(words):
            if ovirt is None:
                roster.forget(name)
            else:
                roster.see(known(name, float(number), ovirt, qga))
            offers = [host.offer for host in roster.hosts.values()]
            assert roster.lowest_ovirt == min((offer.ovirt.supported for offer in offers), default=None)
            assert roster.lowest_qga == min((offer.qga.supported for offer in offers), default=None)


class TestConnectedTime:
    def test_counts_while_connected(self) -> None:
        time = ConnectedTime(100.0)
        assert (time.at(50.0), time.connected, time.when(101.0)) == (100.0, False, INFINITY)
        time.connect(10.0)
        time.connect(15.0)
        assert (time.at(17.0), time.connected, time.when(110.0)) == (107.0, True, 20.0)
        time.disconnect(20.0)
        time.disconnect(25.0)
        assert (time.at(1000.0), time.connected) == (110.0, False)
        time.connect(1000.0)
        assert time.at(1001.0) == 111.0

    def test_a_clock_that_goes_back_makes_nobody_younger(self) -> None:
        time = ConnectedTime()
        time.connect(100.0)
        assert time.at(50.0) == 0.0
        time.disconnect(50.0)
        assert time.at(1000.0) == 0.0
