"""What an event is called among the notifications, and how loud it is."""

from collections.abc import Mapping
from typing import Any

import pytest

from sidecar.api.events import EventType
from sidecar.bus.priorities import THREATS, TROUBLES, Heading, Priority, choose_heading
from sidecar.protocol.states import Reason, State


@pytest.mark.parametrize(
    ("document", "event_type", "priority"),
    [
        ({"type": "arrived"}, "sidecar.arrived", "info"),
        ({"type": "left"}, "sidecar.left", "info"),
        ({"type": "agreement", "channels": []}, "sidecar.agreement", "info"),
        ({"type": "tools", "tools": None}, "sidecar.tools", "info"),
        ({"type": "refusal", "code": "version-too-low"}, "sidecar.refusal", "warn"),
        ({"type": "channel", "channel": {"state": "agreed", "reason": None}}, "sidecar.channel", "info"),
        ({"type": "channel", "channel": {"state": "agreed", "reason": "inferred"}}, "sidecar.channel", "info"),
        ({"type": "channel", "channel": {"state": "agreed", "reason": "flapping"}}, "sidecar.channel", "warn"),
        ({"type": "channel", "channel": {"state": "waiting", "reason": "not-heard"}}, "sidecar.channel", "info"),
        ({"type": "channel", "channel": {"state": "waiting", "reason": "socket-busy"}}, "sidecar.channel", "warn"),
        ({"type": "channel", "channel": {"state": "waiting", "reason": "socket-foreign"}}, "sidecar.channel", "error"),
        ({"type": "channel", "channel": {"state": "unversioned", "reason": "host-capped"}}, "sidecar.channel", "info"),
        ({"type": "channel", "channel": {"state": "lost", "reason": "port-closed"}}, "sidecar.channel", "warn"),
        ({"type": "channel", "channel": {"state": "absent", "reason": "not-opened"}}, "sidecar.channel", "warn"),
        ({"type": "daemon", "what": "started"}, "sidecar.daemon.started", "info"),
        ({"type": "daemon", "what": "libvirt-connected"}, "sidecar.daemon.libvirt-connected", "info"),
        ({"type": "daemon", "what": "libvirt-lost"}, "sidecar.daemon.libvirt-lost", "warn"),
        ({"type": "daemon", "what": "missed", "missed": 3}, "sidecar.daemon.missed", "error"),
        ({"type": "daemon", "what": "missed", "missed": None}, "sidecar.daemon.missed", "warn"),
        ({"type": "daemon", "what": "dropped", "dropped": 3}, "sidecar.daemon.dropped", "error"),
        ({"type": "daemon", "what": "outbox-broken"}, "sidecar.daemon.outbox-broken", "error"),
        ({"type": "daemon", "what": "cap-changed", "old": "4", "new": "2"}, "sidecar.daemon.cap-changed", "warn"),
        ({"type": "daemon", "what": "cap-changed", "old": 2, "new": 4}, "sidecar.daemon.cap-changed", "info"),
        ({"type": "daemon", "what": "cap-changed", "old": "9.2", "new": "10.0"}, "sidecar.daemon.cap-changed", "info"),
        ({"type": "daemon", "what": "cap-changed", "old": "10.0", "new": "9.2"}, "sidecar.daemon.cap-changed", "warn"),
        ({"type": "daemon", "what": "cap-changed", "old": "max", "new": 2}, "sidecar.daemon.cap-changed", "warn"),
    ],
)
def test_each_event_has_its_heading(document: Mapping[str, Any], event_type: str, priority: str) -> None:
    assert choose_heading(document) == Heading(event_type, Priority(priority))


def test_every_type_has_one() -> None:
    for kind in EventType:
        assert choose_heading({"type": kind, "what": "started"}).event_type.startswith(f"sidecar.{kind}")


@pytest.mark.parametrize(
    ("document", "event_type"),
    [
        ({"type": "invented"}, "sidecar.invented"),
        ({"type": "daemon", "what": "invented"}, "sidecar.daemon.invented"),
        ({"type": "channel", "channel": "no row"}, "sidecar.channel"),
        ({"type": "channel"}, "sidecar.channel"),
        ({"type": "daemon"}, "sidecar.daemon.None"),
        ({}, "sidecar.None"),
    ],
)
def test_what_nobody_knows_goes_out_all_the_same(document: Mapping[str, Any], event_type: str) -> None:
    assert choose_heading(document) == Heading(event_type, Priority.INFO)


def test_the_words_are_those_of_the_record() -> None:
    assert set(Reason) >= TROUBLES | THREATS
    assert not TROUBLES & THREATS
    loud = {state for state in State if choose_heading(_row(state)).priority != Priority.INFO}
    assert loud == {State.LOST, State.ABSENT}


def _row(state: State) -> dict[str, Any]:
    return {"type": "channel", "channel": {"state": state, "reason": None}}
