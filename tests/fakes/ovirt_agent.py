"""The original oVirt guest agents, era by era, as a pure model with their faults.

The host side has to live with agents that nobody will mend any more. This model behaves as they did, wrong
things included: a negative version is accepted and makes the agent mute, a number in `refresh` is never
looked at, commands are executed at any version. It knows no port and no clock: bytes in, lines out. It serves
the unit tests and runs inside the lab's guests as well, therefore the standard library alone.

Source: `reference/protocol.md`, 1.3 (messages), 1.6 (eras), 1.7 (state machine).
"""

import json
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

Arguments = dict[str, object]

# After a prompted first heartbeat the next one follows so soon; the contract allows 100 ms.
PROMPT_FOLLOW_UP_S = 0.05

# The agent's own table: below this version a message is silently not sent.
MINIMUM_VERSIONS = MappingProxyType(
    {
        "heartbeat": 0,
        "host-name": 0,
        "os-version": 0,
        "network-interfaces": 0,
        "applications": 0,
        "active-user": 0,
        "disks-usage": 0,
        "fqdn": 0,
        "session-startup": 0,
        "session-shutdown": 0,
        "session-logon": 0,
        "session-logoff": 0,
        "session-lock": 0,
        "session-unlock": 0,
        "memory-stats": 0,
        "echo": 0,
        "number-of-cpus": 1,
        "timezone": 2,
        "os-info": 2,
        "containers": 3,
        "completion": 3,
        "guest-tools": 4,  # not oVirt's: what this project adds
    }
)

# Sent on refresh, on a changed version, and at start, in this order.
REFRESH_SET = (
    "active-user",
    "applications",
    "containers",
    "host-name",
    "os-version",
    "network-interfaces",
    "disks-usage",
    "fqdn",
    "timezone",
    "os-info",
    "guest-tools",
)

# `lifecycle-event` types that are attributes of the original's hook object: an exception, and no completion.
_HOOK_OBJECT_ATTRIBUTES = frozenset({"dispatch", "_run"})

# Arguments of every message that the model sends by itself; a test may change its model's copy.
FACTS: MappingProxyType[str, Arguments] = MappingProxyType(
    {
        "active-user": {"name": "None"},
        "applications": {"applications": ["kernel-6.1.0", "ovirt-guest-agent-common-1.0.16"]},
        "containers": {
            "list": [{"id": "c0ffee", "names": ["/web"], "image": "web:1", "command": "run", "status": "Up"}]
        },
        "host-name": {"name": "lab-guest"},
        "os-version": {"version": "6.1.0"},
        "network-interfaces": {
            "interfaces": [{"name": "eth0", "hw": "52:54:00:00:00:01", "inet": ["192.0.2.7"], "inet6": []}]
        },
        "disks-usage": {
            "disks": [{"path": "/", "fs": "ext4", "total": 4_000_000_000, "used": 1_000_000_000}],
            "mapping": {},
        },
        "fqdn": {"fqdn": "lab-guest.example.org"},
        "timezone": {"zone": "UTC", "offset": 0},
        "os-info": {
            "version": "12",
            "distribution": "Debian GNU/Linux",
            "codename": "bookworm",
            "arch": "x86_64",
            "type": "linux",
            "kernel": "6.1.0",
        },
        "number-of-cpus": {"count": 1},
        "guest-tools": {
            "major": 1,
            "minor": 4,
            "micro": 0,
            "build": 12,
            "installed": True,
            "notUpgradable": False,
            "updated": 1,
        },
        "heartbeat": {
            "free-ram": "128",
            "memory-stat": {
                "mem_total": 262144,
                "mem_free": 131072,
                "mem_unused": 131072,
                "mem_buffers": 1024,
                "mem_cached": 2048,
                "swap_in": 0,
                "swap_out": 0,
                "pageflt": 10,
                "majflt": 0,
                "swap_usage": 0,
                "swap_total": 0,
            },
        },
    }
)


class Era(Enum):
    """Releases of the original agent between which its behaviour on the wire changed."""

    V1_0_8 = "1.0.8"
    V1_0_9_1 = "1.0.9.1"
    V1_0_10 = "1.0.10"
    V1_0_11 = "1.0.11"
    V1_0_12 = "1.0.12"
    V1_0_13 = "1.0.13"
    V1_0_16 = "1.0.16"


@dataclass(frozen=True, slots=True)
class Habits:
    """What an era's agent does with versions.

    `versioned`: its heartbeats carry `apiVersion`, and it knows the command `api-version`.
    `resends`: after a changed version it sends its data again.
    `zero_first`: its first heartbeat says 0 instead of the maximum.
    `greets`: it answers a refresh with `session-startup` as well.
    """

    maximum: int
    versioned: bool = True
    resends: bool = True
    zero_first: bool = True
    greets: bool = False


HABITS = MappingProxyType(
    {
        Era.V1_0_8: Habits(maximum=0, versioned=False, resends=False, zero_first=False),
        Era.V1_0_9_1: Habits(maximum=1, resends=False, zero_first=False),
        Era.V1_0_10: Habits(maximum=1, resends=False, zero_first=False),
        Era.V1_0_11: Habits(maximum=2, zero_first=False),
        Era.V1_0_12: Habits(maximum=3),
        Era.V1_0_13: Habits(maximum=3, greets=True),
        Era.V1_0_16: Habits(maximum=3, greets=True),
    }
)


@dataclass(frozen=True, slots=True)
class Received:
    """One command that came from the host: its name and the other keys of the object."""

    name: str
    arguments: Arguments


class AgentModel:
    """One process of an original agent.

    Attributes:
        version: the API version in force; 0 at first, below 0 the agent is mute.
        maximum: the highest version it knows.
        log: every command that came, known to this era or not, in order.
        facts: the arguments it sends, by message name; a copy of FACTS.
        follow_up_s: set by `receive` when another `heartbeat()` is due after so many seconds; caller resets it.
    """

    def __init__(self, era: Era, maximum: int | None = None, prompt: bool = False) -> None:
        self.era = era
        self.habits = HABITS[era]
        self.maximum = self.habits.maximum if maximum is None else maximum
        self.prompt = prompt
        self.version = 0
        self.log: list[Received] = []
        self.facts: dict[str, Arguments] = dict(FACTS)
        self.follow_up_s: float | None = None
        self._buffer = b""
        self._beats = 0

    def start(self) -> list[bytes]:
        """Lines written when the process starts: what is above version 0 is always lost here."""
        return self._send("session-startup", {}) + self._send_facts()

    def stop(self) -> list[bytes]:
        """Lines written when the process ends in good order."""
        return self._send("session-shutdown", {})

    def heartbeat(self) -> list[bytes]:
        """The heartbeat line; none when the agent has made itself mute."""
        arguments = dict(self.facts["heartbeat"])
        if self.habits.versioned:
            first = self.habits.zero_first and self._beats == 0
            arguments["apiVersion"] = 0 if first else self.maximum
        self._beats += 1
        return self._send("heartbeat", arguments)

    def receive(self, data: bytes) -> list[bytes]:
        """Takes bytes from the port, in any pieces, and returns the lines that answer them.

        As in the original there is no limit on a line, and what is not a JSON object with a name is ignored.
        """
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        answers: list[bytes] = []
        for line in lines:
            command = _parse(line)
            if command is not None:
                self.log.append(command)
                answers += self._execute(command)
        return answers

    def _execute(self, command: Received) -> list[bytes]:
        """Runs a command; the originals look at no version before they do."""
        arguments = command.arguments
        match command.name:
            case "refresh":
                return self._refresh(arguments)
            case "api-version" if self.habits.versioned:
                return self._set_version(arguments)
            case "echo":
                return self._send("echo", arguments)
            case "set-number-of-cpus" if self.maximum >= 1:
                return self._send("number-of-cpus", self.facts["number-of-cpus"])
            case "lifecycle-event" if self.maximum >= 3:
                return self._complete(arguments)
            case _:
                return []

    def _refresh(self, arguments: Arguments) -> list[bytes]:
        """Only whether the key is there counts; its number is never read."""
        answers: list[bytes] = []
        if "apiVersion" not in arguments:
            if self.version > 0:  # so a negative version is not healed here
                self.version = 0
        elif self.prompt:
            if self._beats == 0 and self.habits.zero_first:
                self.follow_up_s = PROMPT_FOLLOW_UP_S
            answers = self.heartbeat()
        return answers + self._resend()

    def _set_version(self, arguments: Arguments) -> list[bytes]:
        """Takes over any number up to the maximum; nothing checks for one below 0."""
        try:
            wanted = int(arguments["apiVersion"])  # type: ignore[call-overload]
        except (ValueError, TypeError, KeyError, OverflowError):
            return []  # logged there, and the version is kept
        wanted = min(wanted, self.maximum)
        if wanted == self.version:
            return []
        self.version = wanted
        return self._resend() if self.habits.resends else []

    def _complete(self, arguments: Arguments) -> list[bytes]:
        """`done` is true whatever became of the hooks; without `reply_id` there is no answer."""
        if "reply_id" not in arguments or arguments.get("type") in _HOOK_OBJECT_ATTRIBUTES:
            return []
        return self._send("completion", {"reply_id": arguments["reply_id"], "done": True})

    def _resend(self) -> list[bytes]:
        greeting = self._send("session-startup", {}) if self.habits.greets else []
        return greeting + self._send_facts()

    def _send_facts(self) -> list[bytes]:
        return [line for name in REFRESH_SET for line in self._send(name, self.facts[name])]

    def _send(self, name: str, arguments: Arguments) -> list[bytes]:
        """One line, or nothing below the message's version."""
        if MINIMUM_VERSIONS[name] > self.version:
            return []
        return [json.dumps({"__name__": name, **arguments}).encode("ascii") + b"\n"]


def _parse(line: bytes) -> Received | None:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or not isinstance(message.get("__name__"), str):
        return None
    return Received(message.pop("__name__"), message)
