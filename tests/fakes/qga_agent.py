"""A QEMU guest agent in virtual time, and the two ways to it: libvirt's, and a socket of its own.

It answers as the real one does: one command at a time, `id` echoed when its era knows it, errors by class. What goes
wrong is switched on by a test.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field

from sidecar.errors import (
    AgentDisconnectedError,
    AgentLeftError,
    AgentPoisonedError,
    CommandFailedError,
    JobHeldError,
    NoAnswerError,
)
from sidecar.protocol.qga_commands import FROZEN_COMMANDS, QGA_COMMANDS
from sidecar.protocol.releases import Release

LATENCY_S = 0.007


@dataclass
class FakeQga:
    """An agent of one release.

    Attributes:
        version: what it calls itself.
        blocked: commands that it does not have enabled.
        knows_id: whether its era takes and echoes `id`.
        frozen: its file systems are frozen.
        silent: it takes commands, and answers nothing.
        results: what a command answers, by name; an `Exception` is raised by the line instead.
        received: every command that reached it.
        smuggled: replies that come before the next command's own.
    """

    version: str = "7.2.22"
    blocked: set[str] = field(default_factory=set)
    knows_id: bool = True
    frozen: bool = False
    silent: bool = False
    results: dict[str, object] = field(default_factory=dict)
    received: list[dict[str, object]] = field(default_factory=list)
    smuggled: list[str] = field(default_factory=list)
    on_command: Callable[[str], None] = lambda _name: None

    @property
    def asked(self) -> int:
        return sum(request["execute"] == "guest-info" for request in self.received)

    def commands(self) -> list[str]:
        return [str(request["execute"]) for request in self.received]

    def answer(self, text: str) -> str | None:
        """The reply's line; None: none."""
        request = json.loads(text)
        self.received.append(request)
        name = str(request["execute"])
        self.on_command(name)
        if self.silent:
            return None
        if self.smuggled:
            return self.smuggled.pop(0)
        reply = self._reply(name, request)
        if reply is None:
            return None
        if self.knows_id and "id" in request:
            reply["id"] = request["id"]
        return json.dumps(reply)

    def _reply(self, name: str, request: dict[str, object]) -> dict[str, object] | None:
        if "id" in request and not self.knows_id:
            return _error("GenericError", "QMP input member 'id' is unexpected")
        if name not in self._enabled():
            return _error("CommandNotFound", f"Command {name} has been disabled")
        if name in self.results:
            result = self.results[name]
            return _error("GenericError", result) if isinstance(result, str) else {"return": result}
        match name:
            case "guest-info":
                return {"return": self._info()}
            case "guest-sync":
                return {"return": request["arguments"]["id"]}  # type: ignore[index]
            case "guest-fsfreeze-status":
                return {"return": "frozen" if self.frozen else "thawed"}
            case "guest-fsfreeze-freeze" | "guest-fsfreeze-thaw":
                self.frozen = name.endswith("freeze")
                return {"return": 1}
        return {"return": {}} if QGA_COMMANDS[name].answers else None

    def _enabled(self) -> set[str]:
        major, minor = self.version.split(".")[:2]
        release = Release(int(major), int(minor))
        known = {name for name, command in QGA_COMMANDS.items() if command.since <= release} - self.blocked
        return known & FROZEN_COMMANDS if self.frozen else known

    def _info(self) -> dict[str, object]:
        enabled = self._enabled()
        commands = [{"name": name, "enabled": name in enabled, "success-response": True} for name in QGA_COMMANDS]
        return {"version": self.version, "supported_commands": commands}


def _error(kind: str, text: str) -> dict[str, object]:
    return {"error": {"class": kind, "desc": text}}


@dataclass
class FakeAgentPort:
    """The guest's end of the channel that libvirt holds, and libvirt's connection to it.

    `calls`: the `suspect` of every call. `in_flight_most`: how many were under way at once. `job_held`: another client
    has the agent job. `poisoned`: libvirt has given up.
    """

    agent: FakeQga | None = None
    poisoned: bool = False
    job_held: bool = False
    in_flight: int = 0
    in_flight_most: int = 0
    calls: list[bool] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def call(self, request: str, answer_s: float, wait_s: float, suspect: bool, running: bool) -> str:
        self.calls.append(suspect)
        self.in_flight += 1
        self.in_flight_most = max(self.in_flight_most, self.in_flight)
        try:
            return await self._call(request, answer_s, wait_s, running)
        finally:
            self.in_flight -= 1

    async def _call(self, request: str, answer_s: float, wait_s: float, running: bool) -> str:
        if self.poisoned:
            raise AgentPoisonedError("not available due to an error")
        if self.agent is None or not running:
            raise AgentDisconnectedError("not connected")
        if self.job_held:
            await asyncio.sleep(min(30.0, wait_s))
            if wait_s < 30:
                raise NoAnswerError("no answer")
            raise JobHeldError("cannot acquire state change lock")
        reply = self.agent.answer(request)
        await asyncio.sleep(LATENCY_S)
        if reply is None:
            patience_s = min(answer_s, wait_s)
            self.left.clear()
            try:
                async with asyncio.timeout(patience_s - LATENCY_S):
                    await self.left.wait()
            except TimeoutError:
                raise NoAnswerError("no answer") from None
            raise AgentLeftError("disappeared")
        return through_libvirt(reply)


def through_libvirt(reply: str) -> str:
    """libvirt passes on what an error says, without its class."""
    decoded = json.loads(reply)
    if "error" in decoded:
        raise CommandFailedError(decoded["error"]["desc"])
    return reply
