"""The reader on its own; what bad input does to a session is in ``test_ovirt_bad_input``."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.protocol.bad_input import BadInput, BadInputCode
from sidecar.protocol.ovirt_messages import GUEST_TO_HOST
from sidecar.protocol.ovirt_reader import (
    REPLY_ID_LIMIT,
    Completion,
    Event,
    Heartbeat,
    MessageReceived,
    OvirtReader,
)
from sidecar.protocol.ovirt_tools import Applications, GuestTools
from sidecar.protocol.tools import Source, ToolsReport, ToolsVersion, Tristate

TOLD = b'"major": 1, "minor": 4, "micro": 0, "build": 12, "installed": true, "notUpgradable": true, "updated": 7'
LISTED = b'["kernel-6.1.0", "ovirt-guest-agent-common-1.0.16-1.el7"]'
GUEST_TOOLS = GuestTools(ToolsReport(Source.GUEST_TOOLS, ToolsVersion(1, 4, 0, 12), upgradable=Tristate.FALSE), 7)
APPLICATIONS = Applications(ToolsReport(Source.APPLICATIONS, ToolsVersion(1, 0, 16, 1)))
BEAT = b'{"__name__": "heartbeat", "apiVersion": 3}\n'


def test_every_message_of_the_table_is_an_event() -> None:
    reader = OvirtReader()
    rest = b'"reply_id": "a-1", "applications": %s, %s' % (LISTED, TOLD)
    lines = b"".join(b'{"__name__": "%s", %s}\n' % (name.encode(), rest) for name in GUEST_TO_HOST)
    special: dict[str, Event] = {
        "heartbeat": Heartbeat(None),
        "completion": Completion("a-1"),
        "guest-tools": GUEST_TOOLS,
        "applications": APPLICATIONS,
    }
    wanted = [special.get(name, MessageReceived(name)) for name in GUEST_TO_HOST]
    assert reader.receive_data(lines) == wanted
    assert reader.bad_input == {}


def test_events_come_in_the_order_of_the_lines() -> None:
    events = OvirtReader().receive_data(b'{"__name__": "host-name"}\nbad\n' + BEAT + b'{"__name__": "new"}\n' + BEAT)
    assert [type(event) for event in events] == [MessageReceived, BadInput, Heartbeat, BadInput, Heartbeat]


def test_a_heartbeat_with_a_bad_version_is_two_events_the_reason_first() -> None:
    line = BEAT.replace(b"3", b"true")
    reader = OvirtReader()
    assert reader.receive_data(line) == [
        BadInput(BadInputCode.BAD_VERSION, "apiVersion b'true' is no version"),
        Heartbeat(None),
    ]
    assert reader.receive_data(line) == [Heartbeat(None)]


def test_a_new_connection_forgets_half_a_line_and_counts_on() -> None:
    reader = OvirtReader()
    reader.receive_data(b"bad\n" + BEAT[:10])
    reader.start_anew()
    assert reader.receive_data(b"bad\n" + BEAT) == [Heartbeat(3)]
    assert reader.bad_input == {BadInputCode.BAD_MESSAGE: 2}


def completion(reply_id: str) -> bytes:
    return b'{"__name__": "completion", "reply_id": %s}\n' % reply_id.encode()


@pytest.mark.parametrize("reply_id", ["", "a-1", "5", "\u00fc\U0001f600", "\x00", "x" * 128, "\U0001f600" * 128])
def test_a_completion_says_what_it_answers(reply_id: str) -> None:
    reader = OvirtReader()
    assert reader.receive_data(completion(json.dumps(reply_id))) == [Completion(reply_id)]
    assert reader.receive_data(completion(json.dumps(reply_id, ensure_ascii=False))) == [Completion(reply_id)]
    assert reader.bad_input == {}


def test_ours_are_far_below_the_limit() -> None:
    assert REPLY_ID_LIMIT == 128


@pytest.mark.parametrize(
    "line",
    [
        b'{"__name__": "completion"}\n',
        b'{"__name__": "completion", "replyId": "a-1"}\n',
        *map(completion, ["null", "5", "true", "1.5", "[]", '["a-1"]', '{"id": "a-1"}', '"\\ud800"', "nan", "01"]),
        completion('"' + "x" * 129 + '"'),
        completion('"' + "x" * 500_000 + '"'),
    ],
    ids=range(14),
)
def test_a_completion_of_nothing_is_told_once_and_the_next_line_is_read(line: bytes) -> None:
    reader = OvirtReader()
    bad, *others = reader.receive_data(line + BEAT + line + completion('"a-1"'))
    assert isinstance(bad, BadInput)
    assert bad.code is BadInputCode.BAD_MESSAGE
    assert bad.detail.isascii()
    assert len(bad.detail) < 250
    assert others == [Heartbeat(3), Completion("a-1")]
    assert reader.bad_input == {BadInputCode.BAD_MESSAGE: 2}


# What is read of a message's content.


@pytest.mark.parametrize(
    "line",
    [
        b'{"__name__": "guest-tools"}\n',
        b'{"__name__": "guest-tools", %s}\n' % TOLD.replace(b"true", b'"yes"'),
        b'{"__name__": "guest-tools", %s}\n' % TOLD.replace(b"7", b"[" * 900 + b"]" * 900),
        b'{"__name__": "guest-tools", %s, "major": "\\ud800"}\n' % TOLD,
        b'{"__name__": "applications"}\n',
        b'{"__name__": "applications", "applications": [\xff]}\n',
        b'{"__name__": "applications", "applications": ["\xff"]}\n',
        b'{"__name__": "applications", "applications": ["a", {"name": "\\u001b[31m"}]}\n',
    ],
    ids=range(8),
)
def test_content_that_cannot_be_used_is_told_once_and_the_next_line_is_read(line: bytes) -> None:
    reader = OvirtReader()
    bad, *others = reader.receive_data(line + BEAT + line + BEAT)
    assert isinstance(bad, BadInput)
    assert bad.code is BadInputCode.BAD_MESSAGE
    assert bad.detail.isascii()
    assert bad.detail.isprintable()
    assert len(bad.detail) < 250
    assert others == [Heartbeat(3)] * 2
    assert reader.bad_input == {BadInputCode.BAD_MESSAGE: 2}


def test_a_complaint_names_the_message() -> None:
    (bad,) = OvirtReader().receive_data(b'{"__name__": "guest-tools"}\n')
    assert isinstance(bad, BadInput)
    assert bad.detail.startswith("guest-tools: ValidationError: ")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
CONTENT = st.dictionaries(
    st.sampled_from(["major", "minor", "micro", "build", "installed", "notUpgradable", "updated", "applications"])
    | st.text(max_size=5),
    JSON,
    max_size=8,
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["guest-tools", "applications"]), CONTENT, st.booleans())
def test_whatever_the_content_the_next_line_is_read(name: str, content: dict[str, object], ascii_only: bool) -> None:
    line = json.dumps({**content, "__name__": name}, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    first, last = OvirtReader().receive_data(line + b"\n" + BEAT)
    assert isinstance(first, BadInput | GuestTools | Applications)
    assert last == Heartbeat(3)
