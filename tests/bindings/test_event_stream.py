"""Server-sent events on real sockets."""

import asyncio
import json
import time
import tracemalloc
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sidecar.api.events import Event, EventType
from sidecar.api.problems import ProblemCode, ProblemError
from sidecar.api.versions import API_VERSION
from sidecar.bindings.event_stream import EventLines
from sidecar.engine.event_log import EVENTS_LIMIT
from tests.bindings.fake_operations import SINCE, UUID
from tests.bindings.rest_client import RestClient, check_schema
from tests.bindings.rig import RawClient, Rig, connected, get

EVENTS = get("/v1/events")


async def subscribe(client: RawClient, path: str = "/v1/events", *headers: str) -> None:
    await client.send(get(path, *headers))
    head = (await client.read_until(b"\r\n\r\n")).decode()
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert "Content-Type: text/event-stream\r\n" in head
    assert f"Sidecar-API-Version: {API_VERSION}\r\n" in head


async def read_event(client: RawClient) -> tuple[str, str, dict[str, Any]]:
    """Id, type and data of the next; the framing of chunks is skipped, and the data held against the description."""
    lines = (await client.read_until(b"\n\n")).decode().split("\n")
    fields = dict(line.split(": ", 1) for line in lines if ": " in line)
    document = json.loads(fields["data"])
    check_schema(API_VERSION, {"$ref": "#/components/schemas/Event"}, document)
    assert (document["id"], document["type"]) == (fields["id"], fields["event"])
    return fields["id"], fields["event"], document


async def test_events_come_as_they_happen(rig: Rig) -> None:
    log = rig.operations.events_log
    async with connected(rig.full) as client:
        await subscribe(client)
        for version in ("3", "4"):
            log.publish(EventType.AGREEMENT, 'a\n"b"\r\u2028', None, version=version)
            number, kind, document = await read_event(client)
            assert (number, kind) == (log.last_id, "agreement")
            assert (document["domain"], document["version"]) == ('a\n"b"\r\u2028', version)


async def test_the_header_comes_at_once_and_then_nothing(tmp_path: Path) -> None:
    async with Rig(tmp_path, idle_seconds=0.1).running() as rig, connected(rig.full) as client:
        await subscribe(client)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await client.read_rest()


async def test_a_subscriber_of_one_domain(rig: Rig, rest: RestClient) -> None:
    log = rig.operations.events_log
    async with connected(rig.readonly) as client:
        await subscribe(client, "/v1/events?domain=b%2Fc")
        log.publish(EventType.LEFT, "a")
        log.publish(EventType.LEFT, "b/c")
        assert (await read_event(client))[2]["domain"] == "b/c"


@pytest.mark.parametrize("way", ["query", "header", "both"])
async def test_resumes_after_the_last_event_that_is_known(rig: Rig, way: str) -> None:
    log = rig.operations.events_log
    ids = []
    for number in range(5):
        log.publish(EventType.LEFT, f"vm{number}")
        ids.append(log.last_id)
    query = {"query": f"?after={ids[2]}", "both": f"?after={ids[0]}"}.get(way, "")
    headers = [] if way == "query" else [f"Last-Event-ID: {ids[2]}"]
    async with connected(rig.full) as client:
        await subscribe(client, f"/v1/events{query}", *headers)
        assert [(await read_event(client))[0] for _ in range(2)] == ids[3:]


async def test_who_resumes_too_late_is_told_what_he_missed(rig: Rig) -> None:
    log = rig.operations.events_log
    log.publish(EventType.LEFT, "first")
    first = log.last_id
    for number in range(EVENTS_LIMIT + 10):
        log.publish(EventType.LEFT, f"vm{number}")
    async with connected(rig.full) as client:
        await subscribe(client, "/v1/events", f"Last-Event-ID: {first}")
        _, kind, document = await read_event(client)
        assert (kind, document["what"], document["missed"]) == ("daemon", "missed", 10)
        assert [(await read_event(client))[0] for _ in range(EVENTS_LIMIT)][-1] == log.last_id


async def test_refusals_are_problems_and_no_streams(rig: Rig, rest: RestClient) -> None:
    assert (await rest.get("/v1/events", "domain=")).code == "bad-request"
    assert (await rest.get("/v1/events", Sidecar_API_Version="1.0")).code == "unsupported-version"
    rig.operations.failure = ProblemError(ProblemCode.LIBVIRT_FAILED, "no")
    assert (await rest.get("/v1/events", Sidecar_API_Version="2.0")).code == "unsupported-version"


async def test_http_1_0_gets_the_events_without_chunks(rig: Rig) -> None:
    async with connected(rig.full) as client:
        await client.send(b"GET /v1/events HTTP/1.0\r\n\r\n")
        assert b"chunked" not in await client.read_until(b"\r\n\r\n")
        rig.operations.events_log.publish(EventType.LEFT, "vm1")
        assert (await client.read_until(b"\n\n")).startswith(b"id: ")


async def test_who_never_reads_costs_a_bounded_buffer_and_nobody_else_anything(rig: Rig) -> None:
    log = rig.operations.events_log
    async with connected(rig.readonly) as deaf, connected(rig.readonly) as other:
        await subscribe(deaf)
        await subscribe(other)
        tracemalloc.start()
        begin = time.monotonic()
        for number in range(10_000):
            log.publish(EventType.LEFT, f"vm{number}", text="x" * 1000)
            if number % 50 == 49:  # one batch is less than the log holds
                lines = [await other.read_until(b"\n\n") for _ in range(50)]
                assert f'"vm{number}"'.encode() in lines[-1]
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        # The log and its lines; ten thousand events would be eleven million bytes.
        assert used < EVENTS_LIMIT * 1100 * 4
        assert time.monotonic() - begin < 60
        # He is told of the gap when he reads on, and has the newest at the end.
        gaps = 0
        while b'"vm9999"' not in (event := await deaf.read_until(b"\n\n")):
            gaps += b"event: daemon" in event
        assert gaps == 1


async def test_who_never_reads_is_cut_off(tmp_path: Path) -> None:
    async with Rig(tmp_path, idle_seconds=0.6).running() as rig, connected(rig.full) as client:
        await subscribe(client)
        for number in range(EVENTS_LIMIT):
            rig.operations.events_log.publish(EventType.LEFT, f"vm{number}", text="x" * 1000)
        await asyncio.sleep(0.9)
        rest = await client.read_rest()
        assert b"vm1023" not in rest
        assert not rest.endswith(b"0\r\n\r\n")  # the body has no end: the client knows that this is none


async def test_who_goes_leaves_nothing(rig: Rig) -> None:
    before = len(asyncio.all_tasks())
    for _ in range(20):
        async with connected(rig.readonly) as client:
            await subscribe(client)
    async with asyncio.timeout(5):
        while len(asyncio.all_tasks()) > before:
            rig.operations.events_log.publish(EventType.LEFT, "vm")
            await asyncio.sleep(0.01)


async def test_an_event_that_cannot_be_rendered_ends_the_stream(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    async with connected(rig.full) as client:
        await subscribe(client)
        rig.operations.events_log.publish(EventType.LEFT, "\ud800")
        assert await client.read_rest() == b""
    assert "a fault of ours" in caplog.text
    async with connected(rig.full) as client:
        await subscribe(client)
        rig.operations.events_log.publish(EventType.LEFT, "vm")
        assert (await read_event(client))[2]["domain"] == "vm"


def test_an_event_is_rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = []
    encode = msgspec.json.encode

    def count(value: object) -> bytes:
        rendered.append(value)
        return encode(value)

    monkeypatch.setattr(msgspec.json, "encode", count)
    lines = EventLines()
    event = Event("1-7", SINCE, "left", "vm", UUID, {})
    gap = Event("1-7", SINCE, "daemon", None, None, {"what": "missed"})
    assert lines.render(event) is lines.render(event)
    assert len(rendered) == 1
    assert lines.render(gap).startswith(b"id: 1-7\nevent: daemon\ndata: {")
    assert lines.render(event).startswith(b"id: 1-7\nevent: left\ndata: {")


def test_lines_of_events_long_gone_are_forgotten() -> None:
    lines = EventLines()
    events = [Event(str(number), SINCE, "left", None, None, {}) for number in range(EVENTS_LIMIT + 1)]
    first = lines.render(events[0])
    for event in events[1:]:
        lines.render(event)
    assert lines.render(events[0]) is not first
    assert lines.render(events[-1]) is lines.render(events[-1])
