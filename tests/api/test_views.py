"""Reading views out of a daemon's documents, older and newer ones."""

import dataclasses
import json
from typing import Any

import pytest

from sidecar.api import views
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
    VersionView,
    read_view,
)

CHANNEL = ChannelView("c", "ovirt", "agreed", "3", "3", "4", "2026-11-21T00:00:00.000Z", None)
FORECAST = ChannelForecastView("c", "ovirt", "agreed", "3", "2", (LostMessageView("echo", "host to guest", "3", True),))
HOST = HostView("h", "u", "0.1", "1.3", {"ovirt": DialectOffer(3, "auto", 4)}, {"ovirt": {"ovirt-4.5": 3}})
OLDEST = {"ovirt": OldestAgreementView("1", "vm1", "2026-11-21T00:00:00.000Z")}
EXAMPLES: list[Any] = [
    HostView("h", "u", "0.1", "1.2", {"ovirt": DialectOffer(4, "max")}, {"ovirt": {"ovirt-4.5": 3}}),
    DomainView("d", "u", "running", "h", "hu", "r", "start", 1, "t", True, (CHANNEL,), None),
    DomainView(
        "d", "u", "running", "h", "hu", "r", "start", 1, "t", True, (), ToolsView("qga", "7.2", "u", "u", "old")
    ),
    MessageView("m", "qga", "2.3", "p", False, None, "not-enabled", "w", "2.3", "7.2", None),
    SentView("m", "c", {"a": [1, None]}),
    GuestView("d", "u", (FactView("os", "c", "ovirt", "t", 1.5, False, {"x": 1}),)),
    PreflightView("d", "u", "h", False, None, (FORECAST,)),
    DoctorView(False, ("hook",), (FindingView("c", None, None, "p", "a"),)),
    VersionView("1.0", "1.2", True, None),
    SummaryView(HOST, 2, OLDEST),
    FleetView(
        False,
        (
            FleetHostView("h", "u", "0.1", "1.3", HOST.dialects, True, "t", 2, OLDEST),
            FleetHostView("i", "u", "0.1", "1.3", HOST.dialects, False, "t", None, {}),
        ),
        {"ovirt": FleetCapView(3, "i", 3, True, None), "qga": FleetCapView("7.2", "i", "10.0", False, None)},
    ),
    FleetView(False, (), {}, "there is no connection"),
    ForgottenView("h"),
    FleetForecastView(
        "h",
        (GuestForecastView("vm1", "u", ("i",), (LossView(("j", "k"), None, (FORECAST,)), LossView(("l",), "no", ()))),),
        ("m",),
    ),
]


@pytest.mark.parametrize("view", EXAMPLES, ids=lambda view: type(view).__name__)
def test_there_and_back(view: Any) -> None:
    document = json.loads(json.dumps(dataclasses.asdict(view)))
    assert read_view(type(view), document) == view


@pytest.mark.parametrize("view", EXAMPLES, ids=lambda view: type(view).__name__)
def test_keys_of_a_newer_daemon_are_ignored(view: Any) -> None:
    document = add_keys(json.loads(json.dumps(dataclasses.asdict(view))))
    read = read_view(type(view), document)
    assert {field.name for field in dataclasses.fields(read)} == {field.name for field in dataclasses.fields(view)}


def add_keys(value: Any) -> Any:
    if isinstance(value, list):
        return [add_keys(item) for item in value]
    if isinstance(value, dict):
        return {**{key: add_keys(item) for key, item in value.items()}, "newer": {"x": []}}
    return value


def test_a_key_that_an_older_daemon_does_not_have_is_none() -> None:
    assert read_view(HostView, {"hostname": "h", "dialects": {"qga": {"maximum": "7.2"}}}).bridge is None
    assert read_view(DoctorView, {"healthy": True}).findings == ()
    assert read_view(DomainView, {"name": "d"}).tools is None


def test_every_view_is_tried_here() -> None:
    known = {name for name, kind in vars(views).items() if dataclasses.is_dataclass(kind)}
    tried = {type(view).__name__ for view in EXAMPLES} | {type(v).__name__ for v in (CHANNEL, FORECAST)}
    tried |= {"DialectOffer", "ToolsView", "FactView", "FindingView", "LostMessageView", "OldestAgreementView"}
    tried |= {"FleetHostView", "FleetCapView", "GuestForecastView", "LossView"}
    assert known == tried
