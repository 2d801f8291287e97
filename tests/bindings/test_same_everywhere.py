"""REST and XML-RPC give the same values and the same problems, whatever is asked."""

import json
from typing import Any

import pytest

from sidecar.api.events import EventType
from sidecar.api.operations import OPERATIONS, Operation
from sidecar.api.problems import PROBLEMS, ProblemError
from tests.bindings.fake_operations import ARGUMENTS
from tests.bindings.rest_client import Answer, RestClient
from tests.bindings.rig import Rig, connected, get
from tests.bindings.xmlrpc_rig import call, call_fault

ROWS = list(OPERATIONS.values())
ANSWERED = [operation for operation in ROWS if not operation.streams]


async def ask_rest(rest: RestClient, operation: Operation) -> Answer:
    """With the arguments that must be given."""
    path = operation.paths[0].format(**ARGUMENTS)
    needed = {
        argument.name: ARGUMENTS[argument.name]
        for argument in operation.arguments
        if argument.required and f"{{{argument.name}}}" not in operation.paths[0]
    }
    if operation.method == "GET":
        return await rest.get(path, "&".join(f"{name}={text}" for name, text in needed.items()))
    return await rest.post(path, next(iter(needed.values()), None))


def values(operation: Operation) -> list[Any]:
    return [ARGUMENTS[argument.name] for argument in operation.arguments if argument.required]


@pytest.mark.parametrize("operation", ANSWERED, ids=lambda operation: str(operation.name))
async def test_the_same_value(rig: Rig, rest: RestClient, operation: Operation) -> None:
    answer = await ask_rest(rest, operation)
    assert answer.status == 200
    assert answer.document == await call(rig.full, operation.name, *values(operation))
    assert len(rig.operations.calls) in (0, 2)
    assert all(asked == rig.operations.calls[0] for asked in rig.operations.calls)


async def test_the_same_events(rig: Rig) -> None:
    rig.operations.events_log.publish(EventType.AGREEMENT, "vm1", None, version="3", before=None)
    polled = await call(rig.full, "events")
    async with connected(rig.full) as client:
        await client.send(get("/v1/events", "Last-Event-ID: another-1"))
        while b'"agreement"' not in (lines := await client.read_until(b"\n\n")):
            pass
    streamed = json.loads(lines.split(b"data: ")[1])
    for document in (*polled, streamed):
        for name in ("id", "time", "uuid"):
            document.pop(name)
    assert polled == [streamed]


@pytest.mark.parametrize(
    # The version's own operation is the bridge's, and fails by its argument alone.
    "operation",
    [operation for operation in ANSWERED if operation.name != "can_send_version"],
    ids=lambda operation: str(operation.name),
)
async def test_the_same_problem(rig: Rig, operation: Operation) -> None:
    """Whatever the code: a newer engine may have others for an operation than the description lists."""
    for code, kind in PROBLEMS.items():
        rig.operations.failure = ProblemError(code, "so it is")
        status, document = await ask_raw(rig, operation, operation.paths[0].format(**ARGUMENTS))
        assert (status, document["code"], document["detail"]) == (kind.status, code, "so it is")
        assert await call_fault(rig.full, operation.name, *values(operation)) == (status, f"{code}: so it is")


async def ask_raw(rig: Rig, operation: Operation, path: str) -> tuple[int, dict[str, Any]]:
    body = b"{}" if operation.method == "POST" else b""
    async with connected(rig.full) as client:
        head = f"{operation.method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        await client.send(head.encode() + body)
        status, _, content = await client.read_answer()
    return status, json.loads(content)
