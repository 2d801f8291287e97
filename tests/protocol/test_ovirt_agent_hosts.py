"""The guest's own agent and hosts that misbehave: what waits is bounded, and no bad line costs a good one."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.protocol.bad_input import BadInput, BadInputCode
from sidecar.protocol.ovirt_agent import (
    LINE_LIMIT_BYTES,
    QUEUE_LIMIT,
    REFRESH_SET,
    CommandReceived,
    VersionChanged,
)
from tests.protocol.agent_sessions import line, met, names, offers, said, written

GOOD = line("echo", after=1)


def test_what_waits_for_a_host_that_does_not_read_is_bounded() -> None:
    agent = met(version=4)
    big = "x" * 30_000
    for number in range(10 * QUEUE_LIMIT):
        agent.receive_data(line("echo", number=number, big=big), 2.0)
        agent.receive_data(line("refresh", apiVersion=4), 2.0)
        agent.send("completion", {"reply_id": str(number), "done": True})
        agent.report("fqdn")
        agent.tick(2.0 + number)
    assert len(written(agent)) < 200_000


def test_the_newest_completions_are_kept() -> None:
    agent = met(version=3)
    for number in range(QUEUE_LIMIT + 10):
        agent.send("completion", {"reply_id": str(number), "done": True})
    ids = [message["reply_id"] for message in said(agent)]
    assert ids == [str(number) for number in range(10, QUEUE_LIMIT + 10)]


def test_it_gives_out_pieces_of_whole_lines() -> None:
    agent = met(version=4)
    for name in REFRESH_SET:
        agent.keep(name, {"probe": "x" * 9000})
    agent.receive_data(line("refresh", apiVersion=4), 2.0)
    pieces = []
    while piece := agent.data_to_send():
        assert piece.endswith(b"\n")
        pieces.append(piece)
    assert len(pieces) > 3
    assert len(b"".join(pieces).splitlines()) == 2 + len(REFRESH_SET)


def test_what_fits_no_line_is_left_out_and_the_rest_goes() -> None:
    agent = met(version=4)
    agent.keep("applications", {"applications": ["x" * 1024 * 1024]})
    agent.receive_data(line("refresh", apiVersion=4), 2.0)
    sent = names(agent)
    assert "applications" not in sent
    assert "fqdn" in sent


def test_echo_sends_the_same_object_back() -> None:
    agent = met()
    agent.receive_data(line("echo", a=[1, {"b": None}], c="ä"), 2.0)
    assert said(agent) == [{"__name__": "echo", "a": [1, {"b": None}], "c": "ä"}]


@pytest.mark.parametrize(
    "name",
    ["lock-screen", "log-off", "login", "shutdown", "hibernate", "set-number-of-cpus", "lifecycle-event"],
)
@pytest.mark.parametrize("version", [0, 4])
def test_commands_are_given_out_at_any_version_with_no_argument_in_their_text(name: str, version: int) -> None:
    agent = met(version=version)
    (event,) = agent.receive_data(line(name, password="geheim"), 2.0)
    assert isinstance(event, CommandReceived)
    assert (event.name, event.arguments) == (name, {"password": "geheim"})
    assert "geheim" not in repr(event)


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b"no JSON", BadInputCode.BAD_MESSAGE),
        (b"\xff\xfe{}", BadInputCode.BAD_MESSAGE),
        (b"[" * 60_000, BadInputCode.BAD_MESSAGE),
        (b"[]", BadInputCode.BAD_MESSAGE),
        (b"17", BadInputCode.BAD_MESSAGE),
        (b"null", BadInputCode.BAD_MESSAGE),
        (b"{}", BadInputCode.BAD_MESSAGE),
        (b'{"__name__": 5}', BadInputCode.BAD_MESSAGE),
        (b'{"__name__": null}', BadInputCode.BAD_MESSAGE),
        (b'{"__name__": "api-version", "apiVersion": 1' + b"0" * 5000 + b"}", BadInputCode.BAD_MESSAGE),
        (b'{"__name__": "heartbeat"}', BadInputCode.UNKNOWN_MESSAGE),  # ours, not a host's
        (b'{"__name__": "\\u0000\\ud800"}', BadInputCode.UNKNOWN_MESSAGE),
        (b"x" * LINE_LIMIT_BYTES, BadInputCode.LINE_TOO_LONG),
    ],
)
def test_a_bad_line_is_told_once_and_the_next_good_one_is_read(bad: bytes, code: BadInputCode) -> None:
    agent = met()
    events = agent.receive_data(bad + b"\n" + GOOD, 2.0)
    assert [event.code for event in events if isinstance(event, BadInput)] == [code]
    assert all(event.detail.isascii() and len(event.detail) < 200 for event in events if isinstance(event, BadInput))
    assert said(agent) == [{"__name__": "echo", "after": 1}]
    assert agent.receive_data(bad + b"\n" + GOOD, 2.0) == []
    assert agent.bad_input[code] == 2


def test_empty_lines_and_carriage_returns_say_nothing() -> None:
    agent = met()
    assert agent.receive_data(b"\n\r\n \n" + line("api-version", apiVersion=2)[:-1] + b"\r\n", 2.0) == [
        VersionChanged(2, 0)
    ]


def test_half_a_line_of_a_host_that_left_is_forgotten() -> None:
    agent = met()
    agent.receive_data(b'{"__name__": "api-ver', 2.0)
    agent.host_left(3.0)
    agent.host_came(4.0)
    assert agent.receive_data(line("api-version", apiVersion=2), 5.0) == [VersionChanged(2, 0)]


@given(st.binary(max_size=400), st.integers(0, 4))
def test_no_bytes_raise_and_the_version_stays_in_range(data: bytes, version: int) -> None:
    agent = met(version=version)
    agent.receive_data(data + b"\n" + GOOD, 2.0)
    assert 0 <= agent.version <= 4
    assert {"__name__": "echo", "after": 1} in said(agent)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # on a machine that has much else to do
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["refresh", "api-version", "echo", "shutdown", "login", "lifecycle-event"]),
            st.dictionaries(st.sampled_from(["apiVersion", "type", "reply_id"]), _VALUES, max_size=3),
        ),
        max_size=12,
    )
)
def test_whatever_a_host_sends_it_is_never_mute(messages: list[tuple[str, dict[str, object]]]) -> None:
    agent = met()
    for name, arguments in messages:
        agent.receive_data(json.dumps({"__name__": name, **arguments}).encode() + b"\n", 2.0)
        assert 0 <= agent.version <= 4
    said(agent)
    agent.tick(1000.0)
    assert len(offers(said(agent))) == 1
