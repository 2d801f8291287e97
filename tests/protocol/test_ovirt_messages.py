import json
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.errors import MessageNotAllowedError
from sidecar.protocol.ovirt_messages import (
    GUEST_TO_HOST,
    HOST_TO_GUEST,
    LIMITS_BYTES,
    Direction,
    Message,
    refuse,
    render_message,
)

# Written out again, from the agents and VDSM of each version, so that a slip in the table shows.
SINCE_FROM_GUEST = {
    "heartbeat": 0,
    "host-name": 0,
    "os-version": 0,
    "network-interfaces": 0,
    "applications": 0,
    "active-user": 0,
    "disks-usage": 0,
    "fqdn": 0,
    "session-startup": 0,
    "session-shutdown": 0,
    "session-logon": 0,
    "session-logoff": 0,
    "session-lock": 0,
    "session-unlock": 0,
    "memory-stats": 0,
    "echo": 0,
    "uninstalled": 0,
    "number-of-cpus": 1,
    "timezone": 2,
    "os-info": 2,
    "containers": 3,
    "completion": 3,
    "guest-tools": 4,
}
SINCE_FROM_HOST = {
    "refresh": 0,
    "api-version": 0,
    "lock-screen": 0,
    "log-off": 0,
    "login": 0,
    "shutdown": 0,
    "hibernate": 0,
    "echo": 0,
    "set-number-of-cpus": 1,
    "lifecycle-event": 3,
}
TABLES = [
    pytest.param(GUEST_TO_HOST, SINCE_FROM_GUEST, Direction.GUEST_TO_HOST, id="guest-to-host"),
    pytest.param(HOST_TO_GUEST, SINCE_FROM_HOST, Direction.HOST_TO_GUEST, id="host-to-guest"),
]
ROWS = [
    pytest.param(table, name, since, id=f"{side}-{name}")
    for side, table, expected in (
        ("guest", GUEST_TO_HOST, SINCE_FROM_GUEST),
        ("host", HOST_TO_GUEST, SINCE_FROM_HOST),
    )
    for name, since in expected.items()
]


@pytest.mark.parametrize(("table", "expected", "direction"), TABLES)
def test_table_is_the_protocols(table: Mapping[str, Message], expected: dict[str, int], direction: Direction) -> None:
    assert {name: message.since for name, message in table.items()} == expected
    for name, message in table.items():
        assert (message.name, message.direction) == (name, direction)
        assert len(message.why) > 10


@pytest.mark.parametrize(("table", "expected", "direction"), TABLES)
def test_table_cannot_be_changed(table: dict[str, Message], expected: object, direction: object) -> None:
    with pytest.raises(TypeError):
        table["evil"] = table["echo"]


@pytest.mark.parametrize("version", range(5))
@pytest.mark.parametrize(("table", "name", "since"), ROWS)
def test_every_row_at_every_version(table: Mapping[str, Message], name: str, since: int, version: int) -> None:
    if version >= since:
        assert refuse(table, name, version) is None
        assert json.loads(render_message(table, name, version)) == {"__name__": name}
    else:
        refusal = refuse(table, name, version)
        assert refusal is not None
        assert (refusal.code, refusal.required, refusal.agreed) == ("version-too-low", str(since), str(version))
        with pytest.raises(MessageNotAllowedError, match=f"needs oVirt API version {since}, in force is {version}"):
            render_message(table, name, version)


@pytest.mark.parametrize("name", ["", "Heartbeat", "refresh ", "self-destruct", "__name__", "\ud800", "x\ny"])
@pytest.mark.parametrize("table", [GUEST_TO_HOST, HOST_TO_GUEST])
def test_unknown_is_refused_at_any_version(table: Mapping[str, Message], name: str) -> None:
    for version in (0, 4, 2**31 - 1):
        with pytest.raises(MessageNotAllowedError) as caught:
            render_message(table, name, version)
        assert str(caught.value).isascii()
        assert "\n" not in str(caught.value)


def test_directions_do_not_mix() -> None:
    for table, name in ((HOST_TO_GUEST, "heartbeat"), (GUEST_TO_HOST, "refresh")):
        refusal = refuse(table, name, 4)
        assert refusal is not None
        assert refusal.code == "not-in-table"


def test_arguments_cannot_smuggle_in_another_message() -> None:
    with pytest.raises(MessageNotAllowedError):
        render_message(HOST_TO_GUEST, "echo", 0, {"__name__": "lifecycle-event"})


@pytest.mark.parametrize(
    "arguments",
    [
        {"a": float("nan")},
        {"a": float("inf")},
        {"a": object()},
        {"a": b"bytes"},
        {"a": "x" * LIMITS_BYTES[Direction.HOST_TO_GUEST]},
    ],
)
def test_arguments_that_are_no_json_or_too_large(arguments: dict[str, object]) -> None:
    with pytest.raises(MessageNotAllowedError) as caught:
        render_message(HOST_TO_GUEST, "echo", 0, arguments)
    assert caught.value.refusal.code == "bad-arguments"
    assert "xxx" not in str(caught.value)


def test_the_wire_is_one_ascii_line() -> None:
    line = render_message(HOST_TO_GUEST, "shutdown", 0, {"message": "Gr\u00fc\u00dfe\nzwei \U0001f600", "timeout": 30})
    assert line == (b'{"__name__": "shutdown", "message": "Gr\\u00fc\\u00dfe\\nzwei \\ud83d\\ude00", "timeout": 30}\n')


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(max_size=8).filter(lambda key: key != "__name__"), st.text(max_size=8) | st.integers()))
def test_arguments_survive_the_wire(arguments: dict[str, object]) -> None:
    line = render_message(HOST_TO_GUEST, "echo", 0, arguments)
    assert line.isascii()
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == {"__name__": "echo", **arguments}
