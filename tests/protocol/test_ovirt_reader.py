"""The reader on its own; what bad input does to a session is in ``test_ovirt_bad_input``."""

import json

import pytest

from sidecar.protocol.ovirt_messages import GUEST_TO_HOST
from sidecar.protocol.ovirt_reader import (
    REPLY_ID_LIMIT,
    BadInput,
    BadInputCode,
    Completion,
    Event,
    Heartbeat,
    MessageReceived,
    OvirtReader,
)

BEAT = b'{"__name__": "heartbeat", "apiVersion": 3}\n'


def test_every_message_of_the_table_is_an_event() -> None:
    reader = OvirtReader()
    lines = b"".join(b'{"__name__": "%s", "reply_id": "a-1"}\n' % name.encode() for name in GUEST_TO_HOST)
    special: dict[str, Event] = {"heartbeat": Heartbeat(None), "completion": Completion("a-1")}
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
