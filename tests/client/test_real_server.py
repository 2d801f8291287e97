"""The client and the daemon's own server: what one end sends the other understands, and the other way round."""

import asyncio
import select
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.api.events import EventType
from sidecar.api.operations import OPERATIONS, Access, Operation
from sidecar.api.problems import PROBLEMS, ProblemError
from sidecar.api.versions import ApiVersion
from sidecar.client import Client
from sidecar.client.connection import Connection
from sidecar.errors import DaemonUnreachableError, VersionCapError
from tests.bindings.fake_operations import ARGUMENTS, SAMPLES
from tests.bindings.rig import Rig

ANSWERED = [operation for operation in OPERATIONS.values() if not operation.streams]
# The rest is the bridge's own.
BEHIND = [operation for operation in ANSWERED if operation.name != "can_send_version"]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with Rig(tmp_path).running() as running:
        yield running


@pytest.fixture
def client(rig: Rig) -> Iterator[Client]:
    with Client(str(rig.full), timeout_s=5.0) as opened:
        yield opened


def name_of(operation: Operation) -> str:
    return operation.name


def choose_arguments(operation: Operation) -> dict[str, Any]:
    return {argument.name: ARGUMENTS[argument.name] for argument in operation.arguments}


def call(client: Client, name: str) -> Any:
    """By the typed method, with every argument."""
    methods: dict[str, Callable[[], Any]] = {
        "host": lambda: client.host(),
        "list": lambda: client.list(),
        "show": lambda: client.show("vm1"),
        "guest": lambda: client.guest("vm1"),
        "messages": lambda: client.messages("vm1", "c"),
        "can_send": lambda: client.can_send("vm1", "m", "c"),
        "send": lambda: client.send("vm1", "m", {"a": 1}, 2.5, "c"),
        "renegotiate": lambda: client.renegotiate("vm1", "c"),
        "wait": lambda: client.wait("vm1", "lost", 2.5, "c"),
        "preflight": lambda: client.preflight("vm1", {"hostname": "alpha"}),
        "doctor": lambda: client.doctor("vm1"),
        "summary": lambda: client.summary(),
        "preflight_to": lambda: client.preflight_to("vm1", "gamma", 2.5),
        "fleet": lambda: client.fleet(2.5),
        "fleet_forget": lambda: client.fleet_forget("gamma"),
        "fleet_preflight": lambda: client.fleet_preflight("gamma", 2.5),
    }
    return methods[name]()


@pytest.mark.parametrize("operation", BEHIND, ids=name_of)
async def test_every_view_arrives_as_it_was(rig: Rig, client: Client, operation: Operation) -> None:
    assert await asyncio.to_thread(call, client, operation.name) == SAMPLES[operation.name]


@pytest.mark.parametrize("operation", BEHIND, ids=name_of)
async def test_every_argument_arrives_as_it_was(rig: Rig, client: Client, operation: Operation) -> None:
    given = choose_arguments(operation)
    await asyncio.to_thread(lambda: client.documents.request(operation.name, **given))
    [(name, arrived)] = rig.operations.calls
    parameters = {argument.name: argument.parameter for argument in operation.arguments}
    assert (name, arrived) == (operation.name, {parameters[key]: value for key, value in given.items()})


@pytest.mark.parametrize("name", ["a b/c?d#e%&=+ü", "新 \U0001f600", "'\"\\;", "\x01\x7f"])
async def test_any_name_arrives_as_it_was(rig: Rig, client: Client, name: str) -> None:
    await asyncio.to_thread(client.messages, name, name)
    [(_, arrived)] = rig.operations.calls
    assert arrived == {"domain": name, "channel": name}


async def test_every_problem_arrives_as_it_was(rig: Rig, client: Client) -> None:
    for code in PROBLEMS:
        if code not in ("unsupported-version", "unknown-operation"):
            rig.operations.failure = ProblemError(code, "so it is", required="3")
            with pytest.raises(ProblemError) as caught:
                await asyncio.to_thread(client.renegotiate, "vm1")
            assert caught.value.problem == rig.operations.failure.problem


@pytest.mark.parametrize("operation", ANSWERED, ids=name_of)
async def test_the_read_only_socket(rig: Rig, operation: Operation) -> None:
    with Client(str(rig.readonly)) as client:
        asked = asyncio.to_thread(lambda: client.documents.request(operation.name, **choose_arguments(operation)))
        if operation.access is Access.READ:
            await asked
        else:
            with pytest.raises(ProblemError) as caught:
                await asked
            assert caught.value.problem.code == "forbidden"


async def test_an_older_server(tmp_path: Path) -> None:
    async with Rig(tmp_path, version=ApiVersion(1, 0)).running() as rig:
        with Client(str(rig.full)) as client:
            for refused in (client.wait, client.doctor):
                with pytest.raises(VersionCapError, match=r"serves 1\.0"):
                    await asyncio.to_thread(refused, "vm1")
            assert (await asyncio.to_thread(client.host)).hostname == "beta"
            assert [name for name, _ in rig.operations.calls] == ["host"]
            assert not await asyncio.to_thread(client.can_send_version, "1.2")
            assert await asyncio.to_thread(client.can_send_version, "1.0")
        with Client(str(rig.full), version_cap="1.1") as client, pytest.raises(VersionCapError, match="asked for with"):
            await asyncio.to_thread(client.host)


async def test_events_from_a_place_on(rig: Rig, client: Client) -> None:
    rig.operations.events_log.publish(EventType.DAEMON, what="before")
    place = rig.operations.events_log.last_id
    for number in range(3):
        rig.operations.events_log.publish(EventType.TOOLS, "vm1", None, tools={"version": str(number)})
    with await asyncio.to_thread(client.events, None, place) as events:
        found = [await asyncio.to_thread(next, events) for _ in range(3)]
        rig.operations.events_log.publish(EventType.LEFT, "vm1", None, arrivals=1)
        last = await asyncio.to_thread(next, events)
    assert [event.details["tools"]["version"] for event in found] == ["0", "1", "2"]
    assert (last.type, last.domain, last.details) == ("left", "vm1", {"arrivals": 1})


async def test_a_server_that_ends_while_somebody_follows(tmp_path: Path) -> None:
    async with Rig(tmp_path).running() as rig:
        with Client(str(rig.full)) as client:
            events = await asyncio.to_thread(client.events)
            # No task: those are what the server may not leave behind.
            waiting = asyncio.get_running_loop().run_in_executor(None, next, events)
    with pytest.raises(DaemonUnreachableError, match="ended the stream"):
        await waiting


async def test_one_connection_too_many(tmp_path: Path) -> None:
    async with Rig(tmp_path, readonly_connections=1, readonly_connections_per_uid=1).running() as rig:
        with Client(str(rig.readonly)) as one, Client(str(rig.readonly)) as other:
            await asyncio.to_thread(one.host)
            with pytest.raises(ProblemError) as caught:
                await asyncio.to_thread(other.host)
            assert caught.value.problem.code == "too-many-connections"


async def test_a_kept_connection_that_the_server_has_closed(tmp_path: Path) -> None:
    async with Rig(tmp_path, idle_seconds=1).running() as rig:
        with Client(str(rig.full)) as client:
            await asyncio.to_thread(client.host)
            hung_up = select.poll()
            kept = client._line
            assert isinstance(kept, Connection)
            hung_up.register(kept.open(), select.POLLIN)
            assert await asyncio.to_thread(hung_up.poll, 10_000)
            await asyncio.to_thread(client.renegotiate, "vm1")
        assert [name for name, _ in rig.operations.calls] == ["host", "renegotiate"]
