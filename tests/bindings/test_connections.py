"""What clients may cost: connections, time, bytes; with raw bytes on real sockets."""

import asyncio
import contextlib
import gzip
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sidecar.api.versions import API_VERSION
from tests.bindings.rest_client import rest_client
from tests.bindings.rig import RawClient, Rig, connected, get, post

pytestmark = pytest.mark.thorough

IDLE_S = 0.3
HOST = get("/v1/host")
SEND = "/v1/domains/vm1/messages/m"


@pytest.fixture
async def strict(tmp_path: Path) -> AsyncIterator[Rig]:
    """A server of little patience."""
    async with Rig(tmp_path, idle_seconds=IDLE_S, request_seconds=0.2, body_bytes=100_000).running() as running:
        yield running


async def measure(client: RawClient) -> tuple[float, bytes]:
    """How long until the end of the connection, and what came before it."""
    begin = time.monotonic()
    rest = await client.read_rest()
    return time.monotonic() - begin, rest


# Time.


async def test_a_connection_without_a_request_is_closed(strict: Rig) -> None:
    async with connected(strict.full) as client:
        took_s, rest = await measure(client)
    assert IDLE_S * 0.9 <= took_s < IDLE_S * 10
    assert rest == b""


async def test_a_header_that_trickles_in_buys_no_time(strict: Rig) -> None:
    async def trickle(client: RawClient) -> None:
        with contextlib.suppress(ConnectionError):
            for byte in b"GET /v1/host HTTP/1.1\r\nX: " + b"x" * 1000:
                await client.send(bytes((byte,)))
                await asyncio.sleep(0.02)

    async with connected(strict.full) as client:
        trickling = asyncio.create_task(trickle(client))
        took_s, rest = await measure(client)
        trickling.cancel()
    assert IDLE_S * 0.9 <= took_s < IDLE_S * 10
    assert rest == b""


async def test_a_second_header_that_does_not_end_buys_no_time(strict: Rig) -> None:
    async with connected(strict.full) as client:
        await client.send(HOST + b"GET /v1/ho")
        assert (await client.read_answer())[0] == 200
        took_s, rest = await measure(client)
    assert IDLE_S * 0.8 <= took_s < IDLE_S * 10
    assert rest == b""


async def test_a_request_that_takes_its_time_is_not_idle(strict: Rig) -> None:
    async def hold() -> None:
        await asyncio.sleep(IDLE_S * 2)

    strict.operations.hold = hold
    async with connected(strict.full) as client:
        await client.send(HOST)
        assert (await client.read_answer())[0] == 200
        strict.operations.hold = None
        await client.send(HOST)
        assert (await client.read_answer())[0] == 200


async def test_a_body_that_does_not_come_is_too_slow(strict: Rig) -> None:
    async with connected(strict.full) as client:
        await client.send(f"POST {SEND} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{{".encode())
        status, headers, body = await client.read_answer()
        assert (status, json.loads(body)["code"]) == (408, "too-slow")
        assert headers["connection"] == "close"
        assert await client.read_rest() == b""
    assert not strict.operations.calls


async def test_who_may_not_is_told_before_his_body_is_read(strict: Rig) -> None:
    async with connected(strict.readonly) as client:
        await client.send(f"POST {SEND} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n".encode())
        status, _, body = await client.read_answer()
        assert (status, json.loads(body)["code"]) == (403, "forbidden"), "and not 408 after a while"
    async with connected(strict.readonly) as client:
        await client.send(post(SEND, b"no JSON"))
        assert (await client.read_answer())[0] == 403


async def test_an_answer_that_nobody_reads_ends_the_connection(strict: Rig) -> None:
    strict.operations.samples["list"] = strict.operations.samples["list"] * 3000  # type: ignore[operator]
    async with connected(strict.full) as client:
        await client.send(get("/v1/domains"))
        await asyncio.sleep(IDLE_S * 2)
        assert len(await client.read_rest()) < 1_000_000
    async with rest_client(strict.full) as rest:
        assert len((await rest.get("/v1/domains")).body) > 2_000_000


# Bytes.


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_a_body_that_is_too_large(strict: Rig, framing: str) -> None:
    async with connected(strict.full) as client:
        if framing == "length":
            data = post(SEND, b" " * 200_000)
        else:
            data = (
                f"POST {SEND} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
                + b"400\r\n%b\r\n" % (b" " * 1024) * 150
            )
        with contextlib.suppress(ConnectionError):
            await client.send(data)
        status, headers, body = await client.read_answer()
    assert (status, json.loads(body)["code"], headers["connection"]) == (413, "too-large", "close")
    assert not strict.operations.calls


async def test_a_large_body_is_asked_for_when_the_client_waits_for_that(strict: Rig) -> None:
    async with connected(strict.full) as client:
        await client.send(
            f"POST {SEND} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        assert await client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"{}")
        assert (await client.read_answer())[0] == 200
        await client.send(
            f"POST {SEND} HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        assert (await client.read_answer())[0] == 413


async def test_the_readonly_socket_takes_small_bodies_alone(strict: Rig) -> None:
    async with connected(strict.readonly) as client:
        await client.send(post("/RPC2", b" " * 70_000))
        assert b"too-large" in (await client.read_answer())[2]


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x00\xa5\x01\x00\x00",
        b"nonsense\r\n\r\n",
        b"GET /v1/host HTTP/1.1\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /v1/host HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET /v1/host HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: x\r\n" % i for i in range(1000)) + b"\r\n",
        b"GET /v1/host HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /v1/host HTTP/1.1\r\nHost: x\r\n\x00: x\r\n\r\n",
    ],
)
async def test_what_is_no_http_gets_a_problem(strict: Rig, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with connected(strict.full) as client:
        await client.send(data)
        status, headers, body = await client.read_answer()
        assert (status, json.loads(body)["code"]) == (400, "bad-request")
        assert headers["sidecar-api-version"] == str(API_VERSION)
        assert await client.read_rest() == b""
    assert not caplog.records


async def test_a_header_without_an_end_costs_no_more_than_the_limit(strict: Rig) -> None:
    async with connected(strict.full) as client:
        with contextlib.suppress(ConnectionError):
            for _ in range(200):
                await client.send(b"x" * 65536)
        assert b"bad-request" in await client.read_rest()


async def test_a_client_that_goes_in_the_middle_of_its_body(strict: Rig, caplog: pytest.LogCaptureFixture) -> None:
    before = len(asyncio.all_tasks())
    async with connected(strict.full) as client:
        await client.send(f"POST {SEND} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{{".encode())
        while len(asyncio.all_tasks()) < before + 2:  # noqa: ASYNC110 # the connection's and the request's
            await asyncio.sleep(0)
    while len(asyncio.all_tasks()) > before:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert not caplog.records
    assert not strict.operations.calls


async def test_nobody_is_upgraded(strict: Rig) -> None:
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA==")
    async with connected(strict.full) as client:
        await client.send(get("/v1/host", *upgrade) + HOST)
        assert [(await client.read_answer())[0] for _ in range(2)] == [200, 200]


@pytest.mark.parametrize("target", [b"/v1/domains/\xff", b"/v1/domains/vm/messages?channel=\xff"])
async def test_bytes_that_are_no_text(strict: Rig, target: bytes) -> None:
    async with connected(strict.full) as client:
        await client.send(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % target)
        status, _, body = await client.read_answer()
    assert (status, json.loads(body)["code"]) == (400, "bad-request")
    assert not strict.operations.calls


async def test_a_compressed_body_is_not_unpacked(strict: Rig) -> None:
    async with connected(strict.full) as client:
        await client.send(post(SEND, gzip.compress(b"{}"), "Content-Encoding: gzip"))
        assert (await client.read_answer())[0] == 400


async def test_chunks_that_are_none(strict: Rig) -> None:
    async with connected(strict.full) as client:
        await client.send(f"POST {SEND} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".encode())
        status, _, body = await client.read_answer()
    assert (status, json.loads(body)["code"]) == (400, "bad-request")


@pytest.mark.parametrize("target", ["*", "http://other/v1/host", "other:80"])
async def test_other_forms_of_a_target(strict: Rig, target: str) -> None:
    method = {"*": "OPTIONS", "other:80": "CONNECT"}.get(target, "GET")
    async with connected(strict.full) as client:
        await client.send(f"{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert (await client.read_answer())[0] == (200 if method == "GET" else 404)


# Pipelines and half-closed connections.


async def test_requests_that_come_together_are_answered_in_order(strict: Rig) -> None:
    paths = ["/v1/host", "/v1/none", "/v1/domains/vm1"] * 40
    async with connected(strict.full) as client:
        await client.send(b"".join(get(path) for path in paths))
        statuses = [(await client.read_answer())[0] for _ in paths]
    assert statuses == [200, 404, 200] * 40


@pytest.mark.parametrize("count", [1, 50])
async def test_a_client_that_only_reads_on_gets_its_answers(strict: Rig, count: int) -> None:
    async with connected(strict.full) as client:
        await client.send(HOST * count)
        client.end()
        assert (await client.read_rest()).count(b"HTTP/1.1 200 OK") == count


async def test_a_client_that_only_reads_on_may_wait_for_its_answer(strict: Rig) -> None:
    async def hold() -> None:
        await asyncio.sleep(IDLE_S * 2)

    strict.operations.hold = hold
    async with connected(strict.full) as client:
        await client.send(HOST)
        client.end()
        assert (await client.read_rest()).count(b"HTTP/1.1 200 OK") == 1


async def test_a_client_that_goes_while_it_only_reads_is_found_out(strict: Rig) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    strict.operations.hold = hold
    async with connected(strict.full) as client:
        await client.send(HOST)
        client.end()
        await begun.wait()
    async with asyncio.timeout(5):
        await ended.wait()


async def test_a_half_closed_connection_without_a_request_ends(strict: Rig) -> None:
    async with connected(strict.full) as client:
        await client.send(b"GET /v1/ho")
        client.end()
        assert await client.read_rest() == b""


# Connections.


@contextlib.asynccontextmanager
async def crowd(path: Path, count: int) -> AsyncIterator[list[RawClient]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(connected(path)) for _ in range(count)]


async def count_served(clients: list[RawClient]) -> int:
    """How many of the clients are served; the others got the refusal, and the end of their connection."""
    served = 0
    for client in clients:
        with contextlib.suppress(ConnectionError):
            await client.send(HOST)
        status, headers, body = await client.read_answer()
        if status == 200:
            served += 1
            continue
        assert (status, json.loads(body)["code"]) == (503, "too-many-connections")
        assert headers["content-type"] == "application/problem+json"
        assert headers["sidecar-api-version"] == str(API_VERSION)
        assert await client.read_rest() == b""
    return served


async def test_a_user_gets_so_many_connections(tmp_path: Path) -> None:
    rig = Rig(tmp_path, readonly_connections_per_uid=5)
    async with rig.running(), crowd(rig.readonly, 20) as clients:
        assert await count_served(clients) == 5


async def test_the_total_holds_for_root_too(tmp_path: Path) -> None:
    rig = Rig(tmp_path, connections=7, connections_per_uid=3)
    async with rig.running(), crowd(rig.full, 20) as clients:
        assert await count_served(clients) == 7


async def test_what_is_closed_makes_room(tmp_path: Path) -> None:
    rig = Rig(tmp_path, readonly_connections_per_uid=2)
    async with rig.running():
        for _ in range(10):
            async with crowd(rig.readonly, 2) as clients:
                assert await count_served(clients) == 2
        async with crowd(rig.readonly, 3) as clients:
            assert await count_served(clients) == 2


async def test_200_connections_do_not_keep_another_client_from_its_answer(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with rig.running(), crowd(rig.readonly, 200) as clients:
        async with rest_client(rig.full) as rest:
            begin = time.monotonic()
            for _ in range(20):
                assert (await rest.get("/v1/domains")).status == 200
            assert time.monotonic() - begin < 5
        assert await count_served(clients) == 16


# A client that asks more than it reads.


async def flood(client: RawClient, limit_bytes: int) -> int:
    """How many bytes of requests the server and the kernel took before they took no more."""
    taken = 0
    batch = HOST * 1000
    while taken < limit_bytes:
        try:
            async with asyncio.timeout(1):
                await client.send(batch)
        except TimeoutError:
            break
        taken += len(batch)
    return taken


async def test_requests_behind_one_that_takes_its_time_are_not_read_without_end(rig: Rig) -> None:
    released = asyncio.Event()
    rig.operations.hold = released.wait
    async with connected(rig.full) as client:
        assert await flood(client, 50_000_000) < 10_000_000
        async with connected(rig.full) as other:
            rig.operations.hold = None
            await other.send(HOST)
            assert (await other.read_answer())[0] == 200
    released.set()


async def test_a_client_that_asked_more_than_is_read_ahead_is_missed_when_it_goes(tmp_path: Path) -> None:
    async with Rig(tmp_path, idle_seconds=IDLE_S, connections=1, request_seconds=5).running() as rig:
        rig.operations.hold = asyncio.Event().wait
        async with connected(rig.full) as client:
            await flood(client, 50_000_000)
        rig.operations.hold = None
        async with asyncio.timeout(20 * IDLE_S):
            while True:
                async with connected(rig.full) as next_client:
                    with contextlib.suppress(ConnectionError):
                        await next_client.send(HOST)
                    if (await next_client.read_answer())[0] == 200:
                        break
                await asyncio.sleep(0.05)
