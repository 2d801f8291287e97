"""What is known of the fleet, in whichever order it comes to be known."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.protocol.auto_cap import RAISE_S
from sidecar.protocol.known_fleet import FleetMemory, KnownFleet
from sidecar.protocol.releases import Release
from sidecar.protocol.roster import UNSEEN_LIMIT_S, KnownHost, Sight
from sidecar.protocol.states import Dialect
from tests.protocol.offers import describe_offer, make_offer

SEEN = "2026-11-21T07:00:00.000Z"
TEN = Release(10, 0)
INFINITY = float("inf")


def new_fleet(memory: FleetMemory | None = None, ovirt: int = 4, qga: Release = TEN) -> KnownFleet:
    return KnownFleet(ovirt, qga, memory or FleetMemory())


class TestCaps:
    def test_without_a_fleet_the_own_maximum_holds(self) -> None:
        fleet = new_fleet(ovirt=3)
        assert (fleet.ovirt, fleet.qga) == (3, TEN)
        fleet.set_maxima(4, TEN, 1.0)
        assert fleet.ovirt == 4

    def test_a_host_with_less_lowers_its_dialect(self) -> None:
        fleet = new_fleet()
        assert fleet.see(make_offer("a", ovirt=3), SEEN, 0.0) is Sight.JOINED
        assert (fleet.ovirt, fleet.qga) == (3, TEN)
        fleet.see(make_offer("b", qga="7.2"), SEEN, 0.0)
        assert (fleet.ovirt, fleet.qga) == (3, Release(7, 2))

    def test_a_host_with_more_does_not_raise_what_this_one_supports(self) -> None:
        fleet = new_fleet(ovirt=2, qga=Release(5, 2))
        fleet.see(make_offer("a"), SEEN, 0.0)
        assert (fleet.ovirt, fleet.qga) == (2, Release(5, 2))

    def test_what_this_one_supports_is_no_cap_of_the_fleet(self) -> None:
        fleet = new_fleet(ovirt=2, qga=Release(5, 2))
        fleet.connect(0.0)
        fleet.see(make_offer("a", ovirt=3), SEEN, 0.0)
        assert (fleet.ovirt, fleet.qga, fleet.deadline) == (2, Release(5, 2), UNSEEN_LIMIT_S + 1.0)
        fleet.set_maxima(4, TEN, 1.0)
        assert (fleet.ovirt, fleet.qga) == (3, TEN)
        fleet.set_maxima(1, TEN, 2.0)
        fleet.set_maxima(4, TEN, 3.0)
        assert (fleet.ovirt, fleet.qga) == (3, TEN)

    def test_a_raise_that_this_one_does_not_take_part_in_is_none_of_it(self) -> None:
        fleet = new_fleet(ovirt=2)
        fleet.connect(0.0)
        fleet.see(make_offer("a", ovirt=3), SEEN, 0.0)
        fleet.see(make_offer("b", ovirt=4), SEEN, 0.0)
        fleet.forget("a", 10.0)
        assert (fleet.find_raise(Dialect.OVIRT), fleet.deadline) == (INFINITY, 10.0 + RAISE_S)
        fleet.set_maxima(4, TEN, 20.0)
        assert (fleet.ovirt, fleet.find_raise(Dialect.OVIRT)) == (3, 10.0 + RAISE_S)
        assert fleet.find_raise(Dialect.QGA) == INFINITY
        fleet.set_maxima(2, TEN, 30.0)
        fleet.tick(10.0 + RAISE_S)
        fleet.set_maxima(4, TEN, 10.0 + RAISE_S)
        assert (fleet.ovirt, fleet.find_raise(Dialect.OVIRT)) == (4, INFINITY)

    def test_it_is_what_a_host_supports_that_counts_and_not_what_the_fleet_capped_it_to(self) -> None:
        fleet = new_fleet()
        document = describe_offer("a", ovirt=2, qga="7.2", supported=(4, "10.0"))
        fleet.see(make_offer("b").parse(document), SEEN, 0.0)
        assert (fleet.ovirt, fleet.qga) == (4, TEN)

    def test_forgotten_it_rises_an_hour_later(self) -> None:
        fleet = new_fleet()
        fleet.connect(0.0)
        fleet.see(make_offer("a", ovirt=3), SEEN, 1.0)
        fleet.see(make_offer("b"), SEEN, 2.0)
        assert fleet.forget("a", 10.0)
        assert (fleet.ovirt, fleet.lowest_ovirt, fleet.deadline) == (3, 4, 3610.0)
        assert fleet.tick(3609.0) == ()
        assert fleet.ovirt == 3
        fleet.tick(3610.0)
        assert fleet.ovirt == 4
        assert not fleet.forget("a", 3611.0)

    def test_who_is_cut_off_counts_everybody_for_as_long_as_it_takes(self) -> None:
        fleet = new_fleet()
        fleet.connect(0.0)
        fleet.see(make_offer("a", ovirt=3), SEEN, 0.0)
        fleet.disconnect(10.0)
        assert fleet.deadline == INFINITY
        assert fleet.tick(10 * UNSEEN_LIMIT_S) == ()
        fleet.connect(10 * UNSEEN_LIMIT_S)
        assert fleet.tick(11 * UNSEEN_LIMIT_S - 11.0) == ()
        assert fleet.ovirt == 3
        assert fleet.tick(11 * UNSEEN_LIMIT_S - 10.0) == ("a",)
        assert fleet.ovirt == 3

    def test_the_holder_is_named(self) -> None:
        fleet = new_fleet()
        assert fleet.find_holder(Dialect.OVIRT) is None
        for name, ovirt in (("c", 3), ("b", 3), ("a", 4)):
            fleet.see(make_offer(name, ovirt=ovirt), SEEN, 0.0)
        assert (fleet.find_holder(Dialect.OVIRT), fleet.find_holder(Dialect.QGA)) == ("b", None)
        fleet.set_maxima(3, TEN, 0.0)
        assert fleet.find_holder(Dialect.OVIRT) is None


class TestMemory:
    def restart(self, fleet: KnownFleet, now: float, ovirt: int = 4) -> KnownFleet:
        document = json.loads(json.dumps(fleet.snapshot(now).render()))
        return new_fleet(FleetMemory.parse(document), ovirt)

    def test_hosts_ages_and_caps_outlive_a_restart(self) -> None:
        fleet = new_fleet()
        fleet.connect(0.0)
        fleet.see(make_offer("a", ovirt=3), SEEN, 0.0)
        fleet.see(make_offer("b", qga="7.2"), SEEN, 100.0)
        fleet.forget("a", 200.0)
        assert fleet.find_raise(Dialect.OVIRT) == 200.0 + RAISE_S
        again = self.restart(fleet, 1000.0)
        assert again.hosts == {"b": KnownHost(make_offer("b", qga="7.2"), SEEN, 100.0)}
        assert (again.ovirt, again.qga) == (3, Release(7, 2))
        # Another boot's clock, and the hour begins anew.
        again.connect(5.0)
        assert again.find_raise(Dialect.OVIRT) == 5.0 + RAISE_S
        assert again.tick(5.0 + UNSEEN_LIMIT_S - 901.0) == ()
        assert again.tick(5.0 + UNSEEN_LIMIT_S - 899.0) == ("b",)

    def test_a_program_that_supports_less_now_is_capped_at_once(self) -> None:
        fleet = new_fleet()
        fleet.see(make_offer("a"), SEEN, 0.0)
        assert self.restart(fleet, 1.0, ovirt=2).ovirt == 2

    def test_what_a_new_program_supports_needs_no_hour(self) -> None:
        fleet = new_fleet(ovirt=2)
        fleet.connect(0.0)
        fleet.see(make_offer("a"), SEEN, 0.0)
        assert self.restart(fleet, 1.0, ovirt=4).ovirt == 4
        assert self.restart(self.restart(fleet, 1.0, ovirt=1), 1.0, ovirt=3).ovirt == 3

    def test_a_cap_without_any_host_is_dropped(self) -> None:
        fleet = new_fleet()
        fleet.connect(0.0)
        fleet.see(make_offer("a", ovirt=3, qga="7.2"), SEEN, 0.0)
        fleet.forget("a", 1.0)
        assert (fleet.ovirt, fleet.qga) == (3, Release(7, 2))
        again = self.restart(fleet, 2.0)
        assert (again.ovirt, again.qga) == (4, TEN)

    def test_hosts_are_in_the_order_in_which_they_were_seen(self) -> None:
        memory = FleetMemory(50.0, None, None, (KnownHost(make_offer("a"), SEEN, 40.0),))
        document = memory.render()
        document["hosts"].append({"offer": make_offer("b").document, "last_seen": SEEN, "seen_s": 20.0})
        document["hosts"].append({"offer": make_offer("c").document, "last_seen": SEEN, "seen_s": 1e9})
        read = FleetMemory.parse(document)
        assert [(host.offer.hostname, host.seen_s) for host in read.hosts] == [("b", 20.0), ("a", 40.0), ("c", 50.0)]

    @pytest.mark.parametrize(
        "change",
        [
            {"format": 2},
            {"format": None},
            {"connected_s": -1},
            {"connected_s": float("nan")},
            {"connected_s": float("inf")},
            {"caps": {"ovirt": 3}},
            {"caps": {"ovirt": -1, "qga": None}},
            {"caps": {"ovirt": None, "qga": "x"}},
            {"hosts": None},
            {"hosts": [1]},
            {"hosts": [{"offer": {}, "last_seen": SEEN, "seen_s": 0}]},
            {"hosts": [{"offer": describe_offer(), "last_seen": "now\n", "seen_s": 0}]},
            {"hosts": [{"offer": describe_offer(), "last_seen": SEEN, "seen_s": "0"}]},
        ],
    )
    def test_a_broken_document(self, change: dict[str, Any]) -> None:
        good = dict(FleetMemory().render())
        assert FleetMemory.parse(good) == FleetMemory()
        with pytest.raises(ValueError, match=r"^no roster of ours: ") as caught:
            FleetMemory.parse(good | change)
        assert str(caught.value).isprintable()

    @pytest.mark.parametrize("document", [None, [], "x", 3, {}])
    def test_what_is_no_document(self, document: object) -> None:
        with pytest.raises(ValueError, match=r"^no roster of ours: "):
            FleetMemory.parse(document)


WORDS = st.one_of(
    st.tuples(st.just("see"), st.sampled_from("abc"), st.integers(0, 5), st.sampled_from(["2.3", "7.2", "10.0"])),
    st.tuples(st.just("forget"), st.sampled_from("abc")),
    st.tuples(st.just("become"), st.integers(0, 5), st.sampled_from(["2.3", "7.2", "10.0"])),
    st.tuples(st.sampled_from(["connect", "disconnect", "tick", "restart"])),
)
PAUSES = st.sampled_from([0.0, 1.0, RAISE_S / 2, RAISE_S - 1, RAISE_S, UNSEEN_LIMIT_S / 2, UNSEEN_LIMIT_S])


class Trial:
    """Tells a fleet what happens, and looks after each word whether the rules hold."""

    def __init__(self) -> None:
        self.fleet, self.now = new_fleet(), 0.0
        self.own: tuple[int, Release] = (4, TEN)
        self.ovirt, self.qga = self.own
        self.changed_at = {Dialect.OVIRT: -INFINITY, Dialect.QGA: -INFINITY}
        self.connected_since = INFINITY

    def tell(self, word: tuple[Any, ...], pause: float = 0.0) -> None:
        self.now += pause
        match word:
            case ("see", name, ovirt, qga):
                self.fleet.see(make_offer(name, ovirt, qga), SEEN, self.now)
            case ("forget", name):
                self.fleet.forget(name, self.now)
            case ("become", ovirt, qga):
                # A raise of its own is at once; what the others leave it is judged from here on.
                self.own = (ovirt, Release.parse(qga))
                self.fleet.set_maxima(*self.own, self.now)
                self.ovirt, self.qga = self.fleet.ovirt, self.fleet.qga
            case ("connect",):
                self.fleet.connect(self.now)
                self.connected_since = min(self.connected_since, self.now)
            case ("disconnect",):
                self.fleet.disconnect(self.now)
                self.connected_since = INFINITY
            case ("restart",):
                known = bool(self.fleet.hosts)
                self.fleet = new_fleet(FleetMemory.parse(self.fleet.snapshot(self.now).render()), *self.own)
                self.connected_since = INFINITY
                if not known:
                    self.ovirt, self.qga = self.own
        self.judge()
        self.fleet.tick(self.now)
        self.judge()
        # A deadline that has been kept is over: otherwise the engine's timer would spin.
        assert self.fleet.deadline > self.now

    def judge(self) -> None:
        fleet = self.fleet
        assert fleet.ovirt <= self.own[0]
        assert fleet.qga <= self.own[1]
        for host in fleet.hosts.values():
            assert fleet.ovirt <= host.offer.ovirt.supported
            assert fleet.qga <= host.offer.qga.supported
        for dialect, raised, changed in (
            (Dialect.OVIRT, fleet.ovirt > self.ovirt, fleet.ovirt != self.ovirt),
            (Dialect.QGA, fleet.qga > self.qga, fleet.qga != self.qga),
        ):
            if raised:
                assert self.now >= max(self.connected_since, self.changed_at[dialect]) + RAISE_S
            if changed:
                self.changed_at[dialect] = self.now
        self.ovirt, self.qga = fleet.ovirt, fleet.qga


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(WORDS, PAUSES), max_size=40))
def test_whatever_happens(words: list[tuple[tuple[Any, ...], float]]) -> None:
    trial = Trial()
    for word, pause in words:
        trial.tell(word, pause)
    # In the end, when nothing changes any more, the cap is the fleet's.
    trial.tell(("connect",))
    for _ in range(3):
        trial.tell(("tick",), RAISE_S)
    assert (trial.fleet.ovirt, trial.fleet.qga) == (trial.fleet.lowest_ovirt, trial.fleet.lowest_qga)


def test_an_offer_changes_nothing_but_its_host() -> None:
    fleet = new_fleet()
    fleet.see(make_offer("a"), SEEN, 0.0)
    before = dict(fleet.hosts)
    fleet.see(replace(make_offer("b"), daemon="0.3.0"), SEEN, 1.0)
    assert {name: fleet.hosts[name] for name in before} == before
