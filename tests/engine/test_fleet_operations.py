"""The operations that know other hosts: what they show, whom they ask, and what they say when nobody answers."""

from typing import Any

import pytest

from sidecar.api.problems import ProblemError
from sidecar.engine.settings import FleetLevels
from sidecar.protocol.states import Dialect
from tests.engine.lone_bridge import (
    ANYBODY,
    OFFER,
    ROOT,
    SEEN,
    ask,
    gamma_bus,
    make_bridge,
    make_fleet,
    refused,
    summarize,
)
from tests.engine.lone_host import LoneHost, now
from tests.engine.lone_talk import Talk, talking
from tests.fakes.fleet_bus import FakeFleetBus
from tests.protocol.offers import describe_offer

pytestmark = pytest.mark.looptime


async def ask_fleet(talk: Talk, bus: FakeFleetBus, name: str, **arguments: object) -> Any:
    return await ask(make_bridge(talk.host, fleet=make_fleet(talk.host, bus)), name, ROOT, **arguments)


async def refused_fleet(talk: Talk, bus: FakeFleetBus, name: str, **arguments: object) -> str:
    return await refused(make_bridge(talk.host, fleet=make_fleet(talk.host, bus)), name, ROOT, **arguments)


def no_bus() -> FakeFleetBus:
    bus = FakeFleetBus()
    bus.configured = bus.connected = False
    return bus


class TestSummary:
    async def test_of_this_host(self) -> None:
        async with talking() as talk:
            view = await ask(make_bridge(talk.host), "summary", ANYBODY)
            assert (view.host, view.guests) == (OFFER, 1)
            agreed = {dialect: (oldest.version, oldest.domain) for dialect, oldest in view.oldest.items()}
            assert agreed == {"ovirt": ("3", "vm1"), "qga": ("7.2", "vm1")}

    async def test_before_libvirt_has_told(self) -> None:
        async with LoneHost().running(connected=False) as host:
            assert await refused(make_bridge(host), "summary") == "libvirt-unavailable"


class TestFleet:
    async def test_all_answer(self) -> None:
        async with talking() as talk:
            begun = now()
            view = await ask_fleet(talk, gamma_bus(), "fleet")
            assert now() == begun
            assert view.complete
            told = [(host.hostname, host.answered, host.guests) for host in view.hosts]
            assert told == [("beta", True, 1), ("gamma", True, 0)]
            assert set(view.caps) == {"ovirt", "qga"}

    async def test_who_does_not_answer_is_shown_with_what_it_said_last(self) -> None:
        async with talking() as talk:
            bus = gamma_bus()
            fleet = make_fleet(talk.host, bus, FleetLevels(auto=frozenset({Dialect.OVIRT})))
            fleet.receive_offer(describe_offer("alpha", ovirt=3))
            begun = now()
            view = await ask(make_bridge(talk.host, fleet=fleet), "fleet", timeout=2)
            assert now() - begun == pytest.approx(2.0)
            assert not view.complete
            told = [(host.hostname, host.answered, host.guests) for host in view.hosts]
            assert told == [("alpha", False, None), ("beta", True, 1), ("gamma", True, 0)]
            assert (view.caps["ovirt"].lowest, view.caps["ovirt"].held_by, view.caps["ovirt"].auto) == (
                3,
                "alpha",
                True,
            )

    async def test_with_the_bus_down_there_is_what_is_known(self) -> None:
        async with talking() as talk:
            bus = gamma_bus()
            bus.connected = False
            view = await ask_fleet(talk, bus, "fleet")
            assert (view.complete, view.problem) == (False, "there is no connection to the message bus")
            told = [(host.hostname, host.answered) for host in view.hosts]
            assert told == [("beta", True), ("gamma", False)]
            assert view.hosts[1].last_seen == SEEN

    async def test_a_host_that_is_alone(self) -> None:
        async with talking() as talk:
            view = await ask_fleet(talk, FakeFleetBus(), "fleet")
            assert (view.complete, [host.hostname for host in view.hosts]) == (True, ["beta"])
            assert view.problem is None

    async def test_with_the_bus_down_nobody_says_that_it_is_alone(self) -> None:
        async with talking() as talk:
            bus = FakeFleetBus()
            bus.connected = False
            view = await ask_fleet(talk, bus, "fleet")
            assert (view.complete, [host.hostname for host in view.hosts]) == (False, ["beta"])
            assert view.problem == "there is no connection to the message bus"

    async def test_a_host_of_an_older_api_answers(self) -> None:
        async with talking() as talk:
            bus = gamma_bus()
            bus.summaries["gamma"] = {"host": describe_offer("gamma"), "guests": None, "oldest": {}}
            view = await ask_fleet(talk, bus, "fleet")
            assert view.complete
            told = [(host.hostname, host.answered, host.guests) for host in view.hosts]
            assert told == [("beta", True, 1), ("gamma", True, None)]
            (guest,) = (await ask_fleet(talk, bus, "fleet_preflight", host="beta")).guests
            assert guest.keeps == ("gamma",)

    async def test_without_a_bus(self) -> None:
        async with talking() as talk:
            for name, arguments in (
                ("fleet", {}),
                ("fleet_forget", {"host": "gamma"}),
                ("fleet_preflight", {"host": "beta"}),
                ("fleet_preflight", {"host": "gamma"}),
                ("preflight_to", {"domain": "vm1", "host": "gamma"}),
            ):
                assert await refused_fleet(talk, no_bus(), name, **arguments) == "bus-unavailable"
            with pytest.raises(ProblemError, match=r"no message bus is configured: \[bus\] url"):
                await ask_fleet(talk, no_bus(), "fleet")


class TestPreflight:
    async def test_the_host_is_asked_for_its_offer(self) -> None:
        async with talking() as talk:
            bus = gamma_bus()
            bus.results["gamma", "host"] = describe_offer("gamma", ovirt=2, qga="10.0", supported=(4, "10.0"))
            view = await ask_fleet(talk, bus, "preflight_to", domain="vm1", host="gamma", timeout=3)
            assert bus.calls == [("gamma", "host", {}, 3)]
            assert (view.destination, view.nothing_lost) == ("gamma", False)
            assert [channel.there for channel in view.channels] == ["2", "7.2"]
            offer = bus.results["gamma", "host"]
            assert view == await ask_fleet(talk, bus, "preflight", domain="vm1", offer=offer)

    async def test_this_host_needs_no_bus(self) -> None:
        async with talking() as talk:
            view = await ask_fleet(talk, no_bus(), "preflight_to", domain="vm1", host="beta")
            assert (view.destination, view.nothing_lost) == ("beta", True)

    async def test_a_host_that_nobody_has_heard_of_may_answer(self) -> None:
        async with talking() as talk:
            bus = gamma_bus()
            bus.results["new", "host"] = describe_offer("new")
            assert (await ask_fleet(talk, bus, "preflight_to", domain="vm1", host="new")).nothing_lost

    async def test_nobody_answers(self) -> None:
        async with talking() as talk:
            bus = gamma_bus()
            del bus.results["gamma", "host"]
            assert await refused_fleet(talk, bus, "preflight_to", domain="vm1", host="gamma") == "host-unreachable"
            assert await refused_fleet(talk, bus, "preflight_to", domain="vm1", host="nobody") == "host-not-found"

    async def test_the_domain_is_looked_for_first(self) -> None:
        async with talking() as talk:
            bus = gamma_bus()
            assert await refused_fleet(talk, bus, "preflight_to", domain="vm2", host="gamma") == "domain-not-found"
            assert bus.calls == []


class TestForget:
    async def test_all_are_told(self) -> None:
        async with talking() as talk:
            bus = gamma_bus()
            assert (await ask_fleet(talk, bus, "fleet_forget", host="gamma")).hostname == "gamma"
            assert bus.forgotten == ["gamma"]

    async def test_who_cannot_be_forgotten(self) -> None:
        async with talking() as talk:
            bus = gamma_bus()
            assert await refused_fleet(talk, bus, "fleet_forget", host="nobody") == "host-not-found"
            assert await refused_fleet(talk, bus, "fleet_forget", host="beta") == "bad-request"
            bus.connected = False
            assert await refused_fleet(talk, bus, "fleet_forget", host="gamma") == "bus-unavailable"
            assert bus.forgotten == []


class TestEvacuation:
    async def test_of_this_host(self) -> None:
        async with talking() as talk:
            bus = gamma_bus()
            bus.summaries["alpha"] = summarize(describe_offer("alpha", ovirt=2))
            fleet = make_fleet(talk.host, bus)
            fleet.receive_offer(describe_offer("silent"))
            view = await ask(make_bridge(talk.host, fleet=fleet), "fleet_preflight", host="beta")
            assert (view.host, view.unanswered) == ("beta", ("silent",))
            (guest,) = view.guests
            assert (guest.name, guest.keeps, [loss.hosts for loss in guest.losing]) == ("vm1", ("gamma",), [("alpha",)])

    async def test_another_host_is_asked(self) -> None:
        async with talking() as talk:
            bus = gamma_bus()
            view = await ask_fleet(talk, bus, "fleet_preflight", host="gamma", timeout=3)
            assert (view.host, view.guests, view.unanswered) == ("gamma", (), ())
            assert bus.calls == [("gamma", "fleet_preflight", {"host": "gamma", "timeout": 3}, 8.0)]

    async def test_nobody_answers(self) -> None:
        async with talking() as talk:
            bus = gamma_bus()
            bus.results["gamma", "fleet_preflight"] = {"host": "gamma"}
            assert await refused_fleet(talk, bus, "fleet_preflight", host="gamma") == "host-unreachable"
            assert await refused_fleet(talk, bus, "fleet_preflight", host="nobody") == "host-not-found"
            bus.connected = False
            assert await refused_fleet(talk, bus, "fleet_preflight", host="beta") == "bus-unavailable"

    async def test_an_older_host_is_told_of_in_its_words(self) -> None:
        async with talking() as talk:
            bus = gamma_bus()
            bus.results["gamma", "fleet_preflight"] = ProblemError("unsupported-version", "this daemon serves 1.2")
            bridge = make_bridge(talk.host, fleet=make_fleet(talk.host, bus))
            with pytest.raises(ProblemError, match=r"^host gamma: this daemon serves 1.2$"):
                await ask(bridge, "fleet_preflight", host="gamma")
