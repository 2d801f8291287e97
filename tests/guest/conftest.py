"""The agent's process, and the host that it connects to."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.guest.scripted_host import AgentProcess, ScriptedHost

StartAgent = Callable[[str], AgentProcess]


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[ScriptedHost]:
    with ScriptedHost(tmp_path / "port") as listener:
        yield listener


@pytest.fixture
def start_agent(tmp_path: Path) -> Iterator[StartAgent]:
    """Start it with this configuration, at the listener's path; a test starts one, or one after another."""
    with ExitStack() as stack:
        yield lambda configuration: stack.enter_context(
            AgentProcess(tmp_path, ["--device", str(tmp_path / "port")], configuration)
        )
