"""A bridge over the lone host: the real operations and engine, fakes around them, in virtual time."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from sidecar.api.operations import Access
from sidecar.api.problems import ProblemError
from sidecar.api.versions import API_VERSION, ApiVersion
from sidecar.api.views import DialectOffer, DoctorView, HostView
from sidecar.engine.bridge import Bridge, Caller
from sidecar.engine.fleet import Fleet
from sidecar.engine.operations import Operations
from sidecar.engine.settings import FleetLevels
from sidecar.protocol.host_offer import HostOffer
from sidecar.protocol.known_fleet import FleetMemory
from sidecar.protocol.roster import KnownHost
from tests.engine.lone_host import LoneHost
from tests.fakes.fleet_bus import FakeFleetBus, FakeStore
from tests.protocol.offers import describe_offer

ROOT = Caller(uid=0, pid=4711, access=Access.FULL)
ANYBODY = Caller(uid=1000, pid=4712, access=Access.READ)

OFFER = HostView(
    hostname="beta",
    host_uuid="5c0f0000-0000-4000-8000-00000000000b",
    daemon="0.1.0",
    bridge=str(API_VERSION),
    dialects={"ovirt": DialectOffer(4, "max"), "qga": DialectOffer("10.0", "max")},
    aliases={"ovirt": {"ovirt-4.5": 3}, "qga": {"debian-12": "7.2"}},
)


# When the other hosts were seen last.
SEEN = "2026-11-20T07:00:00.000Z"


async def examine(domain: str | None) -> DoctorView:
    """Nothing is wrong with anything."""
    return DoctorView(True, (domain or "host",), ())


def summarize(offer: Mapping[str, object], guests: int = 0, **oldest: tuple[str, str, str]) -> dict[str, object]:
    """What a host with this offer says of itself; `oldest` by dialect: version, domain, since."""
    names = ("version", "domain", "since")
    told = {dialect: dict(zip(names, agreed, strict=True)) for dialect, agreed in oldest.items()}
    return {"host": offer, "guests": guests, "oldest": told}


def make_fleet(host: LoneHost, bus: FakeFleetBus, levels: FleetLevels | None = None) -> Fleet:
    """All that answer on the bus are known since yesterday."""
    offers = [HostOffer.parse(summary["host"]) for summary in bus.summaries.values()]
    memory = FleetMemory(hosts=tuple(KnownHost(offer, SEEN, 0.0) for offer in offers))
    store = FakeStore(json.dumps(memory.render()))
    return Fleet(host.surroundings, levels or FleetLevels(), lambda: OFFER, lambda: None, bus, store)


def gamma_bus() -> FakeFleetBus:
    """A fleet of this host and gamma, which is the same."""
    bus, offer = FakeFleetBus(), describe_offer("gamma")
    bus.summaries = {"gamma": summarize(offer)}
    forecast = {"host": "gamma", "guests": [], "unanswered": []}
    bus.results = {("gamma", "host"): offer, ("gamma", "fleet_preflight"): forecast}
    return bus


def make_bridge(host: LoneHost, version: ApiVersion = API_VERSION, *, fleet: Fleet | None = None) -> Bridge:
    """Without `fleet` that of `gamma_bus`."""
    fleet = fleet or make_fleet(host, gamma_bus())
    return Bridge(Operations(host.engine, host.surroundings, lambda: OFFER, examine, fleet), version)


async def ask(bridge: Bridge, name: str, caller: Caller = ROOT, **arguments: object) -> Any:
    """The result; the argument `for` is spelt `for_`."""
    return await bridge.call(name, {key.rstrip("_"): value for key, value in arguments.items()}, caller)


async def refused(bridge: Bridge, name: str, caller: Caller = ROOT, **arguments: object) -> str:
    """The code of the problem that it must end in."""
    with pytest.raises(ProblemError) as caught:
        await ask(bridge, name, caller, **arguments)
    assert caught.value.problem.detail.isprintable()
    return caught.value.problem.code
