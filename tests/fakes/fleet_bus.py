"""The other hosts of a fleet, over a bus that works or does not, and what outlives a restart, in virtual time."""

import asyncio
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from sidecar.errors import BusDownError, HostSilentError


class FakeFleetBus:
    """See `engine.ports.FleetBus`.

    Attributes:
        summaries: what each host that answers says of itself, by hostname; whoever is expected beside them is silent.
        results: what an operation of a host's results in, or raises; nobody answers for what is not there.
        calls: every call: host, operation, arguments, seconds.
        announced, forgotten: what was told to all.
    """

    def __init__(self) -> None:
        self.configured = self.connected = True
        self.summaries: dict[str, Any] = {}
        self.results: dict[tuple[str, str], Any] = {}
        self.calls: list[tuple[str, str, Mapping[str, Any], float]] = []
        self.announced: list[Mapping[str, Any]] = []
        self.forgotten: list[str] = []

    def announce(self, offer: Mapping[str, Any]) -> None:
        self.announced.append(offer)

    async def collect(self, expected: Collection[str], timeout_s: float) -> Sequence[Any]:
        self._require_connection()
        if set(expected) - self.summaries.keys():
            await asyncio.sleep(timeout_s)
        return list(self.summaries.values())

    async def call(self, host: str, operation: str, arguments: Mapping[str, Any], timeout_s: float) -> Any:
        self._require_connection()
        self.calls.append((host, operation, arguments, timeout_s))
        if (host, operation) not in self.results:
            await asyncio.sleep(timeout_s)
            raise HostSilentError(f"host {host} gave no answer within {timeout_s:g} s")
        result = self.results[host, operation]
        if isinstance(result, Exception):
            raise result
        return result

    async def forget(self, hostname: str) -> None:
        self._require_connection()
        self.forgotten.append(hostname)

    def _require_connection(self) -> None:
        if not self.connected:
            raise BusDownError("there is no connection to the message bus")


class FakeStore:
    """See `engine.fleet.RosterStore`; `saves`: when which document was saved."""

    def __init__(self, text: str | None = None) -> None:
        self.text = text
        self.saves: list[tuple[float, Mapping[str, Any]]] = []
        self.error: Exception | None = None

    def load(self) -> object:
        if self.error is not None:
            raise self.error
        return None if self.text is None else json.loads(self.text)

    async def save(self, render: Callable[[], Mapping[str, Any]]) -> None:
        document = render()
        await asyncio.sleep(0.01)
        if self.error is not None:
            raise self.error
        self.text = json.dumps(document)
        self.saves.append((asyncio.get_running_loop().time(), document))
