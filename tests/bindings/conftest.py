"""One server on two sockets, and a checking client on each."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.bindings.rest_client import RestClient, rest_client
from tests.bindings.rig import Rig


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with Rig(tmp_path).running() as running:
        yield running


@pytest.fixture
async def rest(rig: Rig) -> AsyncIterator[RestClient]:
    async with rest_client(rig.full) as client:
        yield client


@pytest.fixture
async def readonly_rest(rig: Rig) -> AsyncIterator[RestClient]:
    async with rest_client(rig.readonly) as client:
        yield client
