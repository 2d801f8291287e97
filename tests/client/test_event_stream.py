"""Events as they come."""

import json
from pathlib import Path

import pytest

from sidecar.api.problems import ProblemError
from sidecar.client import Client, sent_events
from sidecar.errors import DaemonUnreachableError
from tests.client.fake_daemon import Call, Reply, problem, serve, stream
from tests.client.samples import EVENT, HOST, answer_always, answer_well

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"


def read(client: Client, socket_path: Path, content: bytes) -> list[object]:
    """Every event until the stream breaks, which has to be said."""
    found: list[object] = []
    with serve(socket_path, lambda call: Reply(HEAD + content, closes=True)):
        documents = (event.document for event in client.events())
        with pytest.raises(DaemonUnreachableError, match="ended the stream"):
            found.extend(documents)
    return found


def test_events_come_one_by_one_and_are_followed_from_a_place(client: Client, socket_path: Path) -> None:
    with serve(socket_path, lambda call: stream(EVENT, EVENT | {"id": "a-2"}, closes=False)) as daemon:
        with client.events("vm 1", "a-0") as events:
            first, second = next(events), next(events)
        assert daemon.lines == ["GET /v1/events?domain=vm%201&after=a-0"]
    assert (first.id, second.id, first.type, first.domain) == ("a-1", "a-2", "channel", "vm1")
    assert first.details == {"channel": EVENT["channel"]}
    assert first.document == EVENT


def test_the_stream_is_open_before_the_first_event_is_asked_for(client: Client, socket_path: Path) -> None:
    with serve(socket_path, lambda call: stream(closes=False)) as daemon, client.events():
        assert daemon.lines == ["GET /v1/events"]


def test_the_stream_has_a_connection_of_its_own(client: Client, socket_path: Path) -> None:
    def answer(call: Call) -> Reply:
        return stream(EVENT, closes=False) if "events" in call.target else answer_well(call)

    with serve(socket_path, answer) as daemon, client.events() as events:
        assert client.host().hostname == "beta"
        assert next(events).id == "a-1"
        assert daemon.connections == 2


def test_a_closed_stream_has_no_more_events(client: Client, socket_path: Path) -> None:
    with serve(socket_path, lambda call: stream(EVENT, closes=False)):
        events = client.events()
        events.close()
        assert list(events) == []


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_of_all_kinds(client: Client, socket_path: Path, end: str) -> None:
    lines = [
        ": a comment",
        "retry: 3",
        "",
        "id: x",
        "event: channel",
        f"data:{json.dumps(EVENT)}",
        "",
        "id: only",
        "",
        f"data: {json.dumps(EVENT)[:20]}",
        f"data: {json.dumps(EVENT)[20:]}",
        "",
        "data: cut short",
    ]
    assert read(client, socket_path, ("\r\n" + end.join(lines)).encode()) == [EVENT, EVENT]


def test_in_chunks_of_a_byte(client: Client, socket_path: Path) -> None:
    text = f"data: {json.dumps(EVENT)}\n\n".encode() * 2
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in text)
    assert read(client, socket_path, b"Transfer-Encoding: chunked\r\n\r\n" + chunks) == [EVENT, EVENT]


@pytest.mark.parametrize(
    "data",
    [
        b"oops",
        b"[]",
        b"{}",
        b"\xff",
        b'{"id": 1, "time": "t", "type": "x"}',
        b"[" * 100_000,
        b'{"id": "1", "type": "x"}',
    ],
)
def test_what_is_no_event_ends_the_stream(client: Client, socket_path: Path, data: bytes) -> None:
    with serve(socket_path, lambda call: Reply(HEAD + b"\r\ndata: " + data + b"\n\n")):
        events = client.events()
        with pytest.raises(DaemonUnreachableError, match="no event"):
            next(events)
        assert list(events) == []


@pytest.mark.parametrize("line", [b"data: %b\n", b"data: %b", b": %b"])
def test_an_event_without_end(client: Client, socket_path: Path, monkeypatch: pytest.MonkeyPatch, line: bytes) -> None:
    monkeypatch.setattr(sent_events, "EVENT_LIMIT_BYTES", 1 << 20)
    content = HEAD + b"\r\n" + (line % (b"x" * 50_000)) * 50
    too_much = pytest.raises(DaemonUnreachableError, match="more than 1 MiB")
    with serve(socket_path, lambda call: Reply(content)), client.events() as events, too_much:
        next(events)


def test_a_problem(client: Client, socket_path: Path) -> None:
    with serve(socket_path, lambda call: problem("too-many-connections", 503)), pytest.raises(ProblemError):
        client.events()


def test_an_answer_that_is_no_stream(client: Client, socket_path: Path) -> None:
    with serve(socket_path, answer_always(HOST)), pytest.raises(DaemonUnreachableError, match="no answer of sidecard"):
        client.events()


def test_nobody_there(client: Client) -> None:
    with pytest.raises(DaemonUnreachableError, match="no such socket"):
        client.events()
