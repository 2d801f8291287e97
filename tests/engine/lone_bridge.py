"""A bridge over the lone host: the real operations and engine, fakes around them, in virtual time."""

from typing import Any

import pytest

from sidecar.api.operations import Access
from sidecar.api.problems import ProblemError
from sidecar.api.versions import API_VERSION, ApiVersion
from sidecar.api.views import DialectOffer, DoctorView, HostView
from sidecar.engine.bridge import Bridge, Caller
from sidecar.engine.operations import Operations
from tests.engine.lone_host import LoneHost

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


async def examine(domain: str | None) -> DoctorView:
    """Nothing is wrong with anything."""
    return DoctorView(True, (domain or "host",), ())


def make_bridge(host: LoneHost, version: ApiVersion = API_VERSION) -> Bridge:
    operations = Operations(host.engine, host.surroundings, lambda: OFFER, examine)
    return Bridge(operations, version)


async def ask(bridge: Bridge, name: str, caller: Caller = ROOT, **arguments: object) -> Any:
    """The result; the argument `for` is spelt `for_`."""
    return await bridge.call(name, {key.rstrip("_"): value for key, value in arguments.items()}, caller)


async def refused(bridge: Bridge, name: str, caller: Caller = ROOT, **arguments: object) -> str:
    """The code of the problem that it must end in."""
    with pytest.raises(ProblemError) as caught:
        await ask(bridge, name, caller, **arguments)
    assert caught.value.problem.detail.isprintable()
    return caught.value.problem.code
