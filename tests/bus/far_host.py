"""A host of the fleet as its callers see it: a real bus process, whose daemon is the test."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sidecar.bus.line import BusAccess
from tests.bus.bus_rig import BusRig
from tests.bus.conftest import BusVhost
from tests.bus.permissions import ADMIN, ADMIN_HOST, HOST, READER
from tests.lab.waiting import wait_for

LIMIT_S = 30.0

Answer = Callable[[Mapping[str, Any]], dict[str, Any]]


class FarHost:
    """It answers every call with what was called, until ``answer`` is another; ``calls`` keeps them."""

    def __init__(self, directory: Path, vhost: BusVhost, version: str = "1.3", name: str = "beta") -> None:
        self.calls: list[Mapping[str, Any]] = []
        self.answer: Answer = lambda call: {"result": {key: call[key] for key in ("operation", "arguments", "version")}}
        self.rig = BusRig(directory, name, vhost.url(HOST), admin=True, admin_url=vhost.url(ADMIN_HOST))
        self.rig.serve = self._serve
        self._vhost, self._version, self._name = vhost, version, name

    def begin(self) -> None:
        """Returns when it can be called."""
        self.rig.say("begin", hostname=self._name, version=self._version, section=self.rig._section)
        doors = ((self._vhost.name, "sidecar"), (self._vhost.admin_name, "sidecar-admin"))
        for vhost, topic in doors:
            queue = f"{topic}.{self._name}"
            wait_for(lambda v=vhost, q=queue: q in self._vhost.broker.queues(v), LIMIT_S, queue)  # type: ignore[misc]

    def _serve(self, call: dict[str, Any]) -> dict[str, Any]:
        self.calls.append(call)
        return self.answer(call)


def access(vhost: BusVhost) -> BusAccess:
    """What a program has that may do everything."""
    return BusAccess(vhost.url(READER), vhost.url(ADMIN))
