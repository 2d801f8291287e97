"""What the tests of direct guest agents share: a scripted agent on a real socket, and a channel to it."""

import asyncio
import gc
import json
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from sidecar.adapters.qmp_channel import QmpChannel, dial_qga
from sidecar.engine.ports import QgaConnection
from tests.fakes.qga_server import (
    QgaServer,
)

PATIENCE_S = 10.0
SOON_S = 0.1
SYNC = "guest-sync-delimited"


@pytest.fixture(autouse=True)
async def no_task_left() -> AsyncIterator[None]:
    """No test leaves a task or an exception that nobody took."""
    problems: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(str(context)))
    before = asyncio.all_tasks()
    yield
    await wait_until(lambda: asyncio.all_tasks() <= before | {asyncio.current_task()})
    gc.collect()
    assert problems == []


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[QgaServer]:
    async with QgaServer(tmp_path / "qga") as made:
        yield made


@pytest.fixture
async def channel(agent: QgaServer) -> AsyncIterator[QmpChannel]:
    made = await dial_qga(str(agent.path), os.getpid())
    yield made
    await finish(made)


async def finish(channel: QgaConnection) -> None:
    channel.close()
    async with asyncio.timeout(PATIENCE_S):
        await channel.wait_closed()


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what it waits for is on the other end of a socket
            await asyncio.sleep(0.001)


def command(name: str = "guest-ping", command_id: str | None = "mine") -> str:
    return json.dumps({"execute": name} | ({} if command_id is None else {"id": command_id}))


async def call(channel: QgaConnection, name: str = "guest-ping", command_id: str | None = "mine") -> object:
    """The result of a command that is answered."""
    return json.loads(await channel.call(command(name, command_id), PATIENCE_S))["return"]


@pytest.fixture
def root_log() -> Iterator[list[str]]:
    """All that reaches the root's handlers, as the daemon's do; `caplog` would listen to the library's logger, too."""
    heard: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    root, listener = logging.getLogger(), Listener()
    level = root.level
    root.addHandler(listener)
    root.setLevel(logging.DEBUG)
    yield heard
    root.setLevel(level)
    root.removeHandler(listener)
