"""Operations behind the real bridge: they give samples, or fail as a test wants it, and note what they were asked."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from sidecar.api.events import Event
from sidecar.api.operations import OPERATIONS
from sidecar.api.versions import API_VERSION, ApiVersion
from sidecar.api.views import (
    ChannelForecastView,
    ChannelView,
    DialectOffer,
    DoctorView,
    DomainView,
    FactView,
    FindingView,
    FleetCapView,
    FleetForecastView,
    FleetHostView,
    FleetView,
    ForgottenView,
    GuestForecastView,
    GuestView,
    HostView,
    LossView,
    LostMessageView,
    MessageView,
    OldestAgreementView,
    PreflightView,
    SentView,
    SummaryView,
    ToolsView,
)
from sidecar.engine.bridge import Bridge
from sidecar.engine.clocks import utc_now
from sidecar.engine.event_log import EventLog
from sidecar.engine.following import EventFilter
from sidecar.engine.operations import Operations
from sidecar.errors import SidecarError

SINCE = "2026-11-21T07:31:38.489Z"
UUID = "5c0f0000-0000-4000-8000-00000000000b"
CHANNEL = ChannelView("ovirt-guest-agent.0", "ovirt", "agreed", "3", "3", "4", SINCE, None)
DOMAIN = DomainView(
    name='vm <1> & "ü" \r\n\t/ \U0001f600',
    uuid=UUID,
    activity="running",
    host="beta",
    host_uuid=UUID,
    run="run-1",
    arrival="migration",
    arrivals=2,
    arrived=SINCE,
    recorded=True,
    channels=(CHANNEL,),
    tools=ToolsView("guest-tools", "1.4.0-12", "false", "true", "current"),
)
ARRIVING = DomainView("vm2", UUID, "incoming", None, None, "run-2", None, None, None, False, (), None)
MESSAGE = MessageView("refresh", "ovirt", "0", "asks for news", True, CHANNEL.name, None, None, None, None, None)
REFUSED = MessageView(
    "guest-x", "qga", "9.1", "does x", False, None, "version-too-low", "too old", "9.1", "7.2", "inferred"
)

# What an agent may have answered: every kind of JSON value.
REPLY: dict[str, Any] = {
    "bytes": 2**40,
    "small": -1,
    "share": 0.25,
    "on": True,
    "nothing": None,
    "names": ["a", ""],
    "deep": {"x": []},
}

DIALECTS = {"ovirt": DialectOffer(3, "auto", 4), "qga": DialectOffer("10.0", "7.2")}
HOST = HostView("beta", UUID, "0.1", "1.2", DIALECTS, {"ovirt": {}})
OLDEST = {"ovirt": OldestAgreementView("1", "vm1", SINCE)}
FORECAST = ChannelForecastView(
    CHANNEL.name, "ovirt", "agreed", "4", "3", (LostMessageView("m", "guest-to-host", "4", True),)
)

SAMPLES: Mapping[str, object] = {
    "host": HOST,
    "list": (DOMAIN, ARRIVING),
    "show": DOMAIN,
    "guest": GuestView("vm1", UUID, (FactView("memory-stats", CHANNEL.name, "ovirt", SINCE, 1.5, False, REPLY),)),
    "messages": (MESSAGE, REFUSED),
    "can_send": REFUSED,
    "send": SentView("guest-info", "org.qemu.guest_agent.0", REPLY),
    "renegotiate": ARRIVING,
    "wait": DOMAIN,
    "events": (Event("1-1", SINCE, "agreement", "vm1", UUID, {"version": "3", "before": None}),),
    "preflight": PreflightView("vm1", UUID, "alpha", False, None, (FORECAST,)),
    "doctor": DoctorView(False, ("the hook",), (FindingView("hook-missing", None, None, "no hook", "install it"),)),
    "summary": SummaryView(HOST, 2, OLDEST),
    "preflight_to": PreflightView("vm1", UUID, "alpha", False, "no", ()),
    "fleet": FleetView(
        False,
        (
            FleetHostView("alpha", UUID, "0.1", "1.3", DIALECTS, True, SINCE, 2, OLDEST),
            FleetHostView("beta", UUID, "0.1", "1.3", DIALECTS, False, SINCE, None, {}),
        ),
        {"ovirt": FleetCapView(3, "beta", 3, True, SINCE), "qga": FleetCapView("7.2", "beta", "10.0", False, None)},
    ),
    "fleet_forget": ForgottenView("alpha"),
    "fleet_preflight": FleetForecastView(
        "alpha", (GuestForecastView("vm1", UUID, ("beta",), (LossView(("gamma",), "no", (FORECAST,)),)),), ("delta",)
    ),
}

# A value for every argument that the table knows.
ARGUMENTS: Mapping[str, Any] = {
    "domain": "vm1",
    "message": "guest-info",
    "channel": "org.qemu.guest_agent.0",
    "arguments": {"path": "/etc", "count": 2**40},
    "timeout": 2.5,
    "for": "lost",
    "after": "1-1",
    "offer": {"hostname": "alpha"},
    "version": "1.0",
    "host": "alpha",
}


class FakeOperations:
    """`calls` are names and arguments; `failure` is raised by every operation once it is set."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.samples = dict(SAMPLES)
        self.failure: Exception | None = None
        self.events_log = EventLog(utc_now)
        self.hold: Callable[[], Awaitable[object]] | None = None

    def __getattr__(self, name: str) -> Callable[..., Awaitable[object]]:
        if name not in OPERATIONS:
            raise AttributeError(name)

        async def operation(**values: Any) -> object:
            self.calls.append((name, values))
            if self.hold is not None:
                await self.hold()
            if self.failure is not None:
                raise self.failure
            return self.samples[name]

        return operation

    def follow(self, domain: str | None, after: str | None) -> EventFilter:
        self.calls.append(("follow", {"domain": domain, "after": after}))
        if isinstance(self.failure, SidecarError):
            raise self.failure
        return EventFilter(self.events_log.follow(after), domain)

    def bridge(self, version: ApiVersion = API_VERSION) -> Bridge:
        return Bridge(cast("Operations", self), version)
