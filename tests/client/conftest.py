"""A socket for a daemon, and a client of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.client import Client


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    return tmp_path / "api.sock"


@pytest.fixture
def client(socket_path: Path) -> Iterator[Client]:
    with Client(str(socket_path), timeout_s=5.0) as opened:
        yield opened
