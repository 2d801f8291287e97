"""The reader on its own; what bad input does to a session is in ``test_ovirt_bad_input``."""

from sidecar.protocol.ovirt_messages import GUEST_TO_HOST
from sidecar.protocol.ovirt_reader import BadInput, BadInputCode, Heartbeat, MessageReceived, OvirtReader

BEAT = b'{"__name__": "heartbeat", "apiVersion": 3}\n'


def test_every_message_of_the_table_is_an_event() -> None:
    reader = OvirtReader()
    lines = b"".join(b'{"__name__": "%s"}\n' % name.encode() for name in GUEST_TO_HOST)
    wanted = [Heartbeat(None) if name == "heartbeat" else MessageReceived(name) for name in GUEST_TO_HOST]
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
