import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.protocol.bad_input import BadInput, BadInputCode
from sidecar.protocol.framing import LINE_LIMIT_BYTES
from sidecar.protocol.ovirt_reader import Heartbeat, MessageReceived
from sidecar.protocol.states import ChannelView, Port, Reason, State
from tests.protocol.host_sessions import GOOD, agreed, api_version, connected, heartbeat, sent

NO_OFFERS = {
    "null": b"null",
    "text": b'"3"',
    "text-blanks": b'" 3 "',
    "text-float": b'"3.0"',
    "float": b"2.9",
    "float-whole": b"3.0",
    "exponent": b"3e0",
    "true": b"true",
    "false": b"false",
    "negative": b"-5",
    "minus-one": b"-1",
    "above-int32": b"2147483648",
    "above-int64": b"9223372036854775808",
    "huge": b"1" + b"0" * 400,
    "huge-exponent": b"1e400",
    "list": b"[3]",
    "object": b'{"apiVersion": 3}',
    "deep": b"[" * 200 + b"]" * 200,
}
OFFERS = {
    "zero": (b"0", 0),
    "minus-zero": (b"-0", 0),
    "three": (b"3", 3),
    "blanks": (b"  3\t", 3),
    "above-ours": (b"99", 99),
    "limit": (b"2147483647", 2**31 - 1),
}
BAD_LINES = {
    "nan": b'{"__name__": "heartbeat", "apiVersion": NaN}',
    "infinity": b'{"__name__": "heartbeat", "apiVersion": Infinity}',
    "minus-infinity": b'{"__name__": "heartbeat", "apiVersion": -Infinity}',
    "leading-zero": b'{"__name__": "heartbeat", "apiVersion": 03}',
    "plus": b'{"__name__": "heartbeat", "apiVersion": +3}',
    "arabic-digit": '{"__name__": "heartbeat", "apiVersion": \u0663}'.encode(),
    "fullwidth-digit": '{"__name__": "heartbeat", "apiVersion": \uff13}'.encode(),
    "list": b'["heartbeat", 3]',
    "text": b'"heartbeat"',
    "number": b"3",
    "null": b"null",
    "empty-object": b"{}",
    "no-name": b'{"apiVersion": 3}',
    "name-null": b'{"__name__": null, "apiVersion": 3}',
    "name-number": b'{"__name__": 3}',
    "name-list": b'{"__name__": ["heartbeat"], "apiVersion": 3}',
    "no-json": b"hello",
    "two-objects": b'{"__name__": "heartbeat", "apiVersion": 3} {}',
    "cut-short": b'{"__name__": "heartbeat", "apiVersion": 3',
    "bad-utf8": b'{"__name__": "heart\xffbeat"}',
    "bad-utf8-bare": b"\xff\xfe\xc3",
    "bom": b'\xef\xbb\xbf{"__name__": "heartbeat", "apiVersion": 3}',
    "utf16": '{"__name__": "heartbeat"}'.encode("utf-16-le"),
    "nul": b"\x00",
    "nul-after": b'{"__name__": "heartbeat", "apiVersion": 3}\x00',
    "lone-surrogate-name": b'{"__name__": "\\ud800"}',
    "lone-surrogate-raw": b'{"__name__": "\xed\xa0\x80"}',
    "deep-list": b"[" * 100_000,
    "deep-argument": b'{"__name__": "heartbeat", "apiVersion": ' + b"[" * 100_000,
    "deep-closed": b'{"__name__": "heartbeat", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep-objects": b'{"__name__": "heartbeat", "x": ' + b'{"a":' * 100_000,
}
UNKNOWN_LINES = {
    "unknown": b'{"__name__": "self-destruct"}',
    "empty-name": b'{"__name__": ""}',
    "escaped-nul": b'{"__name__": "heartbeat\\u0000", "apiVersion": 3}',
    "ours": b'{"__name__": "api-version", "apiVersion": 3}',
    "case": b'{"__name__": "Heartbeat", "apiVersion": 3}',
    "long": b'{"__name__": "' + b"h" * 500_000 + b'"}',
    "newline": b'{"__name__": "a\\nb\\u001b[31m"}',
}
COMPLAINTS = {
    **{f"message-{key}": ("bad-message", line) for key, line in BAD_LINES.items()},
    **{f"unknown-{key}": ("unknown-message", line) for key, line in UNKNOWN_LINES.items()},
    "too-long": ("line-too-long", b"x" * LINE_LIMIT_BYTES),
    **{
        f"version-{key}": ("bad-version", b'{"__name__": "heartbeat", "free-ram": "1", "apiVersion": ' + raw + b"}")
        for key, raw in NO_OFFERS.items()
    },
}


@pytest.mark.parametrize(("raw", "offer"), OFFERS.values(), ids=OFFERS)
def test_what_is_an_offer(raw: bytes, offer: int) -> None:
    session = connected()
    events = session.receive_data(b'{"__name__":"heartbeat","apiVersion":' + raw + b"}\n", 1.0)
    assert events == [Heartbeat(offer)]
    assert session.view.guest == offer


@pytest.mark.parametrize("raw", NO_OFFERS.values(), ids=NO_OFFERS)
def test_what_is_no_offer_is_a_heartbeat_without_one(raw: bytes) -> None:
    session = agreed(3)
    line = b'{"__name__": "heartbeat", "free-ram": "1", "apiVersion": ' + raw + b"}\n"
    first, *events = session.receive_data(line * 3, 100.0)
    assert isinstance(first, BadInput)
    assert first.code == "bad-version"
    assert events == [Heartbeat(None)] * 3
    assert session.bad_input == {"bad-version": 3}
    assert session.view == ChannelView(State.UNVERSIONED, 0, None, 4, Reason.NO_VERSION)
    assert session.deadline == 220.0  # it is alive
    assert sent(session) == []


@pytest.mark.parametrize(("code", "line"), COMPLAINTS.values(), ids=COMPLAINTS)
def test_a_bad_line_costs_one_event_and_the_next_good_line_is_read(code: str, line: bytes) -> None:
    session = connected()
    events = session.receive_data(line + b"\n" + GOOD + heartbeat(2), 1.0)
    complaints = [event for event in events if isinstance(event, BadInput)]
    assert [complaint.code for complaint in complaints] == [code]
    assert complaints[0].detail.isascii()
    assert complaints[0].detail.isprintable()
    assert len(complaints[0].detail) <= 400
    assert events[-2:] == [MessageReceived("host-name"), Heartbeat(2)]
    assert session.view.version == 2
    assert sent(session)[-1] == api_version(2)

    events = session.receive_data((line + b"\n") * 3 + GOOD, 2.0)
    assert not any(isinstance(event, BadInput) for event in events)
    assert events[-1] == MessageReceived("host-name")
    assert session.bad_input == {code: 4}


@pytest.mark.parametrize("line", [*BAD_LINES.values(), *UNKNOWN_LINES.values()], ids=[*BAD_LINES, *UNKNOWN_LINES])
def test_a_bad_line_decides_nothing(line: bytes) -> None:
    session = agreed(3)
    before = session.view, session.deadline
    session.receive_data(line + b"\n", 50.0)
    assert (session.view, session.deadline) == before
    assert sent(session) == []


def test_one_event_a_code_and_session_also_after_a_reconnect() -> None:
    session = connected()
    codes = []
    for _ in range(2):
        for code, line in COMPLAINTS.values():
            for event in session.receive_data(line + b"\n", 1.0):
                if isinstance(event, BadInput):
                    assert event.code == code
                    codes.append(code)
        session.disconnect(2.0)
        session.connect(2.0)
    assert sorted(codes) == sorted(BadInputCode)
    assert session.bad_input == {
        code: 2 * sum(code == other for other, _ in COMPLAINTS.values()) for code in set(codes)
    }


@pytest.mark.parametrize(
    "line",
    [
        heartbeat(3)[:-1] + b"\r\n",
        b"\n\r\n  \n" + heartbeat(3),
        b'{"apiVersion":3,"__name__":"heartbeat"}\n',
        b'{"__name__":"heartbeat","memory-stat":"none","free-ram":[],"apiVersion":3}\n',
        b'{"__name__":"heartbeat","apiVersion":3,"x":1e999999,"y":"\xff","z":{"a":[null]}}\n',
        b'{"__name__":"\\u0068eartbeat","api\\u0056ersion":3}\n',
        b'{"__name__":"heartbeat","apiVersion":"x","apiVersion":3}\n',
        b"\x85\n" + heartbeat(3),
    ],
    ids=["crlf", "empty-lines", "no-free-ram", "odd-arguments", "odd-extras", "escapes", "twice", "nel"],
)
def test_odd_but_usable(line: bytes) -> None:
    session = connected()
    events = session.receive_data(line, 1.0)
    assert Heartbeat(3) in events
    assert session.view.version == 3


def test_empty_lines_are_no_bad_input() -> None:
    session = connected()
    assert session.receive_data(b"\n\r\n \t \n\n", 1.0) == []
    assert session.bad_input == {}


def test_an_endless_line_costs_bounded_memory_and_one_event() -> None:
    session = connected()
    tracemalloc.start()
    events = [event for _ in range(64) for event in session.receive_data(b"x" * 65536, 1.0)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * LINE_LIMIT_BYTES
    assert [event.code for event in events if isinstance(event, BadInput)] == ["line-too-long"]
    session.receive_data(b"x\n" + heartbeat(3), 2.0)
    assert session.view.version == 3


SCRAPS = st.sampled_from(
    [
        *(line + b"\n" for line in BAD_LINES.values() if len(line) < 1000),
        heartbeat(0),
        heartbeat(3),
        heartbeat(None),
        GOOD,
        b"\n",
        b"\r\n",
        b'{"__name__":',
        b'"heartbeat"',
        b"}",
        b"\\ud800",
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=40) | SCRAPS, max_size=20), st.integers(0, 4), st.sampled_from(Port))
def test_no_bytes_raise(pieces: list[bytes], maximum: int, port: Port) -> None:
    session = connected(maximum, port)
    for now, piece in enumerate(pieces):
        for event in session.receive_data(piece, float(now)):
            if isinstance(event, BadInput):
                assert event.detail.isascii()
        assert (session.view.state is State.AGREED) == (session.view.version >= 1)
        assert session.view.version <= maximum
    session.receive_data(b"\n" + GOOD, 99.0)
    assert session.receive_data(GOOD, 100.0) == [MessageReceived("host-name")]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([heartbeat(0), heartbeat(2), heartbeat(None), GOOD, b"bad\n", b"\xff\n"]), max_size=8),
    st.lists(st.integers(1, 60), min_size=1, max_size=5),
)
def test_any_split_of_the_bytes_comes_to_the_same(lines: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(lines)
    whole, cut = connected(), connected()
    events = whole.receive_data(stream, 1.0)
    pieces: list[bytes] = []
    start = 0
    while start < len(stream):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(stream[start : start + size])
        start += size
    assert [event for piece in pieces for event in cut.receive_data(piece, 1.0)] == events
    assert cut.data_to_send() == whole.data_to_send()
    assert cut.view == whole.view
