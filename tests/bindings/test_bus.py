"""Calls over the message bus: as everybody else's, but for who is said to have asked."""

import json
import logging
from typing import Any

import pytest

from sidecar.api.operations import OPERATIONS
from sidecar.api.problems import PROBLEMS, ProblemError
from sidecar.api.versions import API_VERSION
from sidecar.bindings.bus import BusBinding
from sidecar.bindings.documents import make_document
from tests.bindings.fake_operations import ARGUMENTS, SAMPLES, FakeOperations
from tests.bindings.rest_client import RestClient
from tests.bindings.rig import Rig
from tests.bindings.test_rest import ask as ask_rest


class Rigged:
    """`binding` is what is tested, before fake operations."""

    def __init__(self) -> None:
        self.operations = FakeOperations()
        self.binding = BusBinding(self.operations.bridge(), lambda: 4711)

    async def refused(self, operation: object, arguments: object, version: object = None) -> str:
        with pytest.raises(ProblemError) as caught:
            await self.binding.call(operation, arguments, version)
        assert caught.value.problem.detail.isprintable()
        return caught.value.problem.code


@pytest.fixture
def bus() -> Rigged:
    return Rigged()


def give(name: str) -> dict[str, Any]:
    return {argument.name: ARGUMENTS[argument.name] for argument in OPERATIONS[name].arguments}


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "events"])
async def test_the_same_value_as_rests(rig: Rig, rest: RestClient, name: str) -> None:
    operation = OPERATIONS[name]
    binding = BusBinding(rig.operations.bridge(), lambda: 4711)
    answer = await ask_rest(rest, operation, operation.paths[-1])
    document = await binding.call(name, give(name), str(API_VERSION))
    assert json.loads(json.dumps(document)) == answer.document
    assert len(rig.operations.calls) in (0, 2)
    assert all(call == rig.operations.calls[0] for call in rig.operations.calls)


async def test_events_are_flat_documents(bus: Rigged) -> None:
    (event,) = await bus.binding.call("events", {"timeout": 0}, None)
    assert event == make_document(SAMPLES["events"])[0]  # type: ignore[index]
    assert (event["type"], event["version"], event["domain"]) == ("agreement", "3", "vm1")


@pytest.mark.parametrize("code", PROBLEMS)
async def test_every_problem_is_as_it_is(bus: Rigged, code: str) -> None:
    bus.operations.failure = ProblemError(code, "so it is", required="2")
    with pytest.raises(ProblemError) as caught:
        await bus.binding.call("show", {"domain": "vm1"}, None)
    problem = caught.value.problem
    assert (problem.code, problem.detail, problem.extra) == (code, "so it is", {"required": "2"})


async def test_a_fault_of_ours(bus: Rigged) -> None:
    bus.operations.failure = ZeroDivisionError("hunter2")
    assert await bus.refused("show", {"domain": "vm1"}) == "internal"


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        (None, {}),
        (7, {}),
        (["show"], {}),
        ("show", None),
        ("show", ["vm1"]),
        ("show", {}),
        ("show", {"domain": 7}),
        ("show", {"domain": "vm1", "nonsense": 1}),
        ("show", {"domain": "\ud800"}),
        ("send", {"domain": "vm1", "message": "m", "arguments": {"x": float("nan")}}),
        ("send", {"domain": "vm1", "message": "m", "arguments": {"x": [0] * 200_000}}),
    ],
)
async def test_what_is_no_call(bus: Rigged, operation: object, arguments: object) -> None:
    assert await bus.refused(operation, arguments) == "bad-request"
    assert bus.operations.calls == []


@pytest.mark.parametrize("name", ["", "no_such", "__init__", "call", "\x1b[2J"])
async def test_what_is_no_operation(bus: Rigged, name: str) -> None:
    assert await bus.refused(name, {}) == "unknown-operation"


@pytest.mark.parametrize(
    ("version", "code"),
    [
        ("1", "bad-request"),
        ("", "bad-request"),
        (1.1, "bad-request"),
        (["1.1"], "bad-request"),
        ("1.x\x1b", "bad-request"),
        ("2.0", "unsupported-version"),
        (f"1.{API_VERSION.minor + 1}", "unsupported-version"),
        ("1.0", "unsupported-version"),
    ],
)
async def test_what_a_caller_declares(bus: Rigged, version: object, code: str) -> None:
    """`wait` came with 1.1."""
    assert await bus.refused("wait", {"domain": "vm1"}, version) == code
    await bus.binding.call("wait", {"domain": "vm1"}, "1.1")
    await bus.binding.call("wait", {"domain": "vm1"}, None)


async def test_the_log_says_where_a_change_came_from(bus: Rigged, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await bus.binding.call("send", {"domain": "vm1", "message": "m", "arguments": {"password": "hunter2"}}, None)
    await bus.binding.call("fleet_forget", {"host": "alpha\n"}, None)
    await bus.binding.call("guest", {"domain": "vm1"}, None)
    assert [record.getMessage() for record in caplog.records] == [
        "send m vm1 for somebody on the message bus: done",
        "fleet_forget alpha\\n for somebody on the message bus: done",
    ]
