"""What is shown of the fleet, and what another host's summary may say."""

from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given

from sidecar.api.views import ChannelView, DomainView, FleetHostView, OldestAgreementView
from sidecar.engine.fleet_views import read_answer, read_terms, view_caps, view_fleet, view_summary
from sidecar.engine.settings import FleetLevels
from sidecar.protocol.known_fleet import FleetMemory, KnownFleet
from sidecar.protocol.releases import Release
from sidecar.protocol.roster import KnownHost
from sidecar.protocol.states import Dialect
from sidecar.record.policy import Offer
from tests.engine.lone_bridge import OFFER, SEEN, summarize
from tests.engine.lone_host import EPOCH
from tests.protocol.offers import describe_offer, make_offer
from tests.protocol.test_host_offer import JSON

TEN = Release(10, 0)


def channel(dialect: str, version: str, since: str, state: str = "agreed") -> ChannelView:
    return ChannelView(dialect, dialect, state, version, version, "4", since, None)


def domain(name: str, *channels: ChannelView) -> DomainView:
    return DomainView(name, name, "running", "h", "u", "r", "start", 1, "t", True, channels, None)


class TestSummary:
    def test_without_guests(self) -> None:
        summary = view_summary(OFFER, ())
        assert (summary.host, summary.guests, summary.oldest) == (OFFER, 0, {})

    def test_the_oldest_is_the_lowest_version_and_of_several_the_one_that_stands_longest(self) -> None:
        domains = (
            domain("a", channel("ovirt", "3", "t1"), channel("qga", "10.0", "t1")),
            domain("b", channel("ovirt", "1", "t3"), channel("qga", "9.2", "t2")),
            domain("c", channel("ovirt", "1", "t2")),
            domain("d"),
        )
        assert view_summary(OFFER, domains).guests == 4
        assert view_summary(OFFER, domains).oldest == {
            "ovirt": OldestAgreementView("1", "c", "t2"),
            "qga": OldestAgreementView("9.2", "b", "t2"),
        }

    @pytest.mark.parametrize("state", ["waiting", "unversioned", "lost", "absent"])
    def test_what_is_not_agreed_is_no_agreement(self, state: str) -> None:
        domains = (domain("a", channel("ovirt", "0", "t0", state)), domain("b", channel("ovirt", "3", "t1")))
        assert view_summary(OFFER, domains).oldest == {"ovirt": OldestAgreementView("3", "b", "t1")}


class TestAnswer:
    def test_what_a_host_shows_is_read(self) -> None:
        host = replace(OFFER, hostname="gamma")
        summary = view_summary(host, (domain("a", channel("ovirt", "3", "2026-11-21T07:00:00.000Z")),))
        answer = read_answer(asdict(summary))
        assert (answer.guests, answer.oldest) == (1, summary.oldest)
        assert answer.offer.hostname == "gamma"

    def test_what_is_not_known_is_ignored(self) -> None:
        agreed = ("3", "vm1", SEEN)
        document = summarize(describe_offer(), 2, ovirt=agreed, newer=agreed)
        document["newer"] = {}
        assert read_answer(document).oldest == {"ovirt": OldestAgreementView(*agreed)}

    @pytest.mark.parametrize("more", [{"guests": None, "oldest": {}}, {}])
    def test_of_a_host_that_knows_no_summary_there_is_its_offer(self, more: dict[str, Any]) -> None:
        answer = read_answer({"host": describe_offer("gamma"), **more})
        assert (answer.offer.hostname, answer.guests, answer.oldest) == ("gamma", None, {})

    def test_a_domains_name_is_cleaned(self) -> None:
        document = summarize(describe_offer(), 2, ovirt=("3", "a\x1b[31m\x00", SEEN))
        assert read_answer(document).oldest["ovirt"].domain == "a\ufffd[31m\ufffd"

    @pytest.mark.parametrize(
        "document",
        [
            None,
            [],
            {},
            summarize({}),
            summarize(describe_offer("a b")),
            summarize(describe_offer(), -1),
            summarize(describe_offer(), True),
            summarize(describe_offer(), 2**31),
            summarize(describe_offer()) | {"oldest": None},
            summarize(describe_offer(), 1, ovirt=("3\n", "vm1", SEEN)),
            summarize(describe_offer(), 1, ovirt=("x", "vm1", SEEN)),
            summarize(describe_offer(), 1, qga=("7.2", "x" * 256, SEEN)),
            summarize(describe_offer(), 1, qga=("7.2", "vm1", "yesterday")),
        ],
    )
    def test_what_is_no_summary(self, document: object) -> None:
        with pytest.raises(ValueError, match=r"^no host's ") as caught:
            read_answer(document)
        assert str(caught.value).isprintable()

    @given(JSON)
    def test_anything_is_refused_in_one_line(self, document: Any) -> None:
        for word in (document, summarize(document), summarize(describe_offer()) | {"oldest": {"ovirt": document}}):
            with pytest.raises(ValueError, match=r"^no host's ") as caught:
                read_answer(word)
            assert str(caught.value).isprintable()

    def test_terms_are_after_the_cap(self) -> None:
        answer = read_answer(summarize(describe_offer(ovirt=2, qga="7.2", supported=(4, "10.0"))))
        assert read_terms(answer.offer) == Offer(2, Release(7, 2))


class TestFleet:
    def test_who_answered_and_who_did_not_by_name(self) -> None:
        own = view_summary(OFFER, (domain("a", channel("ovirt", "3", "t1")),))
        hosts = {name: KnownHost(make_offer(name, ovirt=3), SEEN, 0.0) for name in ("gamma", "alpha")}
        answers = {
            name: read_answer(summarize(describe_offer(name), 7, qga=("7.2", "vm9", SEEN))) for name in ("gamma", "new")
        }
        view = view_fleet(own, hosts, answers, {}, EPOCH)
        assert not view.complete
        moment = "2026-11-21T07:00:00.000Z"
        told = [(host.hostname, host.answered, host.last_seen, host.guests, dict(host.oldest)) for host in view.hosts]
        assert told == [
            ("alpha", False, SEEN, None, {}),
            ("beta", True, moment, 1, {"ovirt": OldestAgreementView("3", "a", "t1")}),
            ("gamma", True, moment, 7, {"qga": OldestAgreementView("7.2", "vm9", SEEN)}),
            ("new", True, moment, 7, {"qga": OldestAgreementView("7.2", "vm9", SEEN)}),
        ]
        assert [host.dialects["ovirt"].maximum for host in view.hosts] == [3, 4, 4, 4]
        offer = make_offer("alpha", ovirt=3)
        assert view.hosts[0] == FleetHostView(
            "alpha", offer.host_uuid, "0.1.0", "1.3", offer.dialects, False, SEEN, None, {}
        )

    def test_complete_with_every_answer(self) -> None:
        answers = {"gamma": read_answer(summarize(describe_offer()))}
        hosts = {"gamma": KnownHost(make_offer(), SEEN, 0.0)}
        assert view_fleet(view_summary(OFFER, ()), hosts, answers, {}, EPOCH).complete
        assert view_fleet(view_summary(OFFER, ()), {}, {}, {}, EPOCH).complete

    def test_incomplete_where_nobody_could_be_asked(self) -> None:
        view = view_fleet(view_summary(OFFER, ()), {}, {}, {}, EPOCH, "there is no connection")
        assert (view.complete, view.problem) == (False, "there is no connection")


class TestCaps:
    def known(self, *offers: tuple[str, int, str]) -> KnownFleet:
        hosts = tuple(KnownHost(make_offer(*offer), SEEN, 0.0) for offer in offers)
        return KnownFleet(4, TEN, FleetMemory(hosts=hosts))

    def test_the_lowest_and_who_holds_it(self) -> None:
        known = self.known(("gamma", 3, "10.0"), ("delta", 4, "10.0"))
        caps = view_caps(OFFER, FleetLevels(auto=frozenset({Dialect.OVIRT})), known, EPOCH, 0.0)
        assert set(caps) == {"ovirt", "qga"}
        ovirt, qga = caps["ovirt"], caps["qga"]
        assert (ovirt.lowest, ovirt.held_by, ovirt.maximum, ovirt.auto, ovirt.raise_at) == (3, "gamma", 4, True, None)
        assert (qga.lowest, qga.held_by, qga.maximum, qga.auto, qga.raise_at) == ("10.0", "beta", "10.0", False, None)

    def test_when_it_rises(self) -> None:
        known = self.known(("gamma", 3, "7.2"))
        known.connect(1000.0)
        known.forget("gamma", 1000.0)
        caps = view_caps(OFFER, FleetLevels(auto=frozenset({Dialect.OVIRT})), known, EPOCH, 1600.0)
        assert EPOCH + timedelta(seconds=3000) == EPOCH.replace(minute=50)
        assert (caps["ovirt"].lowest, caps["ovirt"].raise_at) == (4, "2026-11-21T07:50:00.000Z")
        assert caps["qga"].raise_at is None

    def test_what_would_not_rise_here_has_no_time(self) -> None:
        known = self.known(("gamma", 3, "7.2"))
        known.connect(1000.0)
        known.forget("gamma", 1000.0)
        known.set_maxima(2, TEN, 1000.0)
        caps = view_caps(OFFER, FleetLevels(auto=frozenset(Dialect)), known, EPOCH, 1600.0)
        assert (caps["ovirt"].lowest, caps["ovirt"].raise_at) == (2, None)
        assert (caps["qga"].lowest, caps["qga"].raise_at) == ("10.0", "2026-11-21T07:50:00.000Z")
