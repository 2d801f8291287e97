"""The message table of the oVirt dialect: every message of both directions, since when, and why.

Everything that either end sends passes through ``render_message``: a name that the table lacks, or that the
version in force does not have yet, is refused before a byte is written. Host and guest agent share this table.

History (what each API version brought; agent release, host release):

* 0  everything before versioning.
* 1  CPU hotplug: the guest tells how many CPUs it has on line, the host sets it. Agent 1.0.9.1, VDSM 4.15.
* 2  the guest's time zone and operating system in a shape that programs can read. Agent 1.0.11, VDSM 4.17.1.
* 3  containers; and answers: ``completion`` answers a ``lifecycle-event`` that carries ``reply_id``, so that the
     host can wait for the guest's hooks before it moves or saves the guest. Agent 1.0.12, VDSM 4.18.
* 4  this project's: ``guest-tools`` says which tools the guest runs and whether they may be upgraded.

How to add one: docs/adding-a-message.md.

Source: docs/protocol.md; names and versions are those of oVirt guest agent 1.0.16 and VDSM 4.50.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from sidecar.errors import MessageNotAllowedError, Refusal, RefusalCode


class Direction(Enum):
    """Who sends a message."""

    GUEST_TO_HOST = "guest to host"
    HOST_TO_GUEST = "host to guest"


@dataclass(frozen=True, slots=True)
class Message:
    """One row of the table: ``since`` is the API version that brought the message, ``why`` what it is for."""

    name: str
    direction: Direction
    since: int
    why: str


def _table(direction: Direction, *rows: tuple[str, int, str]) -> Mapping[str, Message]:
    return MappingProxyType({name: Message(name, direction, since, why) for name, since, why in rows})


GUEST_TO_HOST = _table(
    Direction.GUEST_TO_HOST,
    ("heartbeat", 0, "free memory every 5 s; since agent 1.0.9.1 it offers the agent's highest version"),
    ("host-name", 0, "the guest's host name"),
    ("os-version", 0, "kernel release or Windows product name"),
    ("network-interfaces", 0, "interfaces with their addresses"),
    ("applications", 0, "installed packages as name-version-release"),
    ("active-user", 0, "who is logged in at the console"),
    ("disks-usage", 0, "file systems with their size and use"),
    ("fqdn", 0, "the fully qualified domain name"),
    ("session-startup", 0, "the agent started; since agent 1.0.13 also an answer to refresh"),
    ("session-shutdown", 0, "the agent ends"),
    ("session-logon", 0, "a Windows user logged on"),
    ("session-logoff", 0, "a Windows user logged off"),
    ("session-lock", 0, "a Windows session was locked"),
    ("session-unlock", 0, "a Windows session was unlocked"),
    ("memory-stats", 0, "memory statistics on their own; no known agent sends it unasked"),
    ("echo", 0, "answers the host's echo"),
    ("uninstalled", 0, "the agent's package is being removed; its script writes this to both ports"),
    ("number-of-cpus", 1, "CPUs on line, to know when a hotplug took effect"),
    ("timezone", 2, "time zone name and offset in minutes"),
    ("os-info", 2, "operating system in a shape that programs can read"),
    ("containers", 3, "containers that run inside the guest"),
    ("completion", 3, "answers a message that carried reply_id"),
    ("guest-tools", 4, "version of the guest tools, and whether the host may upgrade them"),
)

HOST_TO_GUEST = _table(
    Direction.HOST_TO_GUEST,
    ("refresh", 0, "asks for everything anew; with apiVersion: this host negotiates versions"),
    ("api-version", 0, "the version in force from now on; never sent to an agent that offered none"),
    ("lock-screen", 0, "lock the console session"),
    ("log-off", 0, "log the console user off"),
    ("login", 0, "log a user in with the given credentials"),
    ("shutdown", 0, "shut down or reboot after a delay, with a message to users"),
    ("hibernate", 0, "suspend the guest to its disk or memory"),
    ("echo", 0, "asks for the same object back"),
    ("set-number-of-cpus", 1, "how many CPUs the guest should bring on line"),
    ("lifecycle-event", 3, "before or after a migration or hibernation: run the guest's hooks"),
)


EVIDENCE = MappingProxyType({name: GUEST_TO_HOST[name].since for name in ("timezone", "os-info", "containers")})
"""What original agents send in answer to ``refresh`` only when that version, at least, is in force at their end."""

NEGOTIATION_MESSAGES = frozenset({"api-version", "refresh"})
"""What only the negotiation sends: from anybody else it would make one end believe another version than the other."""

LIMITS_BYTES: Mapping[Direction, int] = MappingProxyType(
    {
        # What fits the agents of all eras; what we say of our own accord has some 100 bytes.
        Direction.HOST_TO_GUEST: 32 * 1024,
        # What VDSM takes, to the byte, of a line with its LF; lists of what is installed are long.
        Direction.GUEST_TO_HOST: 1024 * 1024,
    }
)
"""The longest line of each direction."""


def refuse(table: Mapping[str, Message], name: str, version: int) -> Refusal | None:
    """Look a message up before it is sent; ``None``: it may go.

    Args:
        table: ``GUEST_TO_HOST`` or ``HOST_TO_GUEST``.
        name: The message's name.
        version: The version in force; 0 when nothing is agreed.
    """
    message = table.get(name)
    if message is None:
        return Refusal(RefusalCode.NOT_IN_TABLE, name, "not in the message table", agreed=str(version))
    if message.since > version:
        why = f"needs oVirt API version {message.since}, in force is {version}"
        return Refusal(RefusalCode.VERSION_TOO_LOW, name, why, str(message.since), str(version))
    return None


def render_message(
    table: Mapping[str, Message], name: str, version: int, arguments: Mapping[str, object] | None = None
) -> bytes:
    """One message as its line on the wire: JSON in ASCII with an LF at the end.

    Raises:
        MessageNotAllowedError: See ``refuse``; or the arguments would name another message than the one that was looked
            up, are no JSON, or over ``LIMITS_BYTES``. Nothing was rendered, and the text does not repeat them.
    """
    refusal = refuse(table, name, version)
    if refusal is not None:
        raise MessageNotAllowedError(refusal)
    arguments = arguments or {}
    if "__name__" in arguments:
        raise MessageNotAllowedError(_bad_arguments(name, "no argument may be called __name__"))
    try:
        line = json.dumps({"__name__": name, **arguments}, allow_nan=False).encode("ascii") + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise MessageNotAllowedError(_bad_arguments(name, "the arguments are no JSON object")) from error
    limit = LIMITS_BYTES[table[name].direction]
    if len(line) > limit:
        raise MessageNotAllowedError(_bad_arguments(name, f"the arguments are over {limit} bytes"))
    return line


def _bad_arguments(name: str, why: str) -> Refusal:
    return Refusal(RefusalCode.BAD_ARGUMENTS, name, why)
