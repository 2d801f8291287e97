"""The guest's end of the oVirt dialect: one session is one process of the agent.

The rules; what an original agent did otherwise stands behind it:

* The version in force is 0 at first. ``api-version`` alone raises it, clamped to our maximum; a number below 0, or
  anything that is no integer, is refused (original: -1 muted the agent for good).
* ``refresh`` without ``apiVersion`` comes from a host that knows no versions: back to 0. With it the number is not
  looked at: it is the host's maximum, not an agreement.
* The first heartbeat says 0, which tells a host that took us for agreed that we are not; the next says our maximum,
  and follows at once (original: after 5 s).
* A host that has told no version for ``UNTOLD_S`` since it came, or since its ``refresh``, may believe that it has: one
  heartbeat says 0 again, which makes every host tell. What it told was lost, or it takes what somebody recorded for
  agreed, as VDSM does after a migration. One that does not tell then either speaks no versions: back to 0, and on it is
  reminded ever more seldom.
* ``refresh`` with ``apiVersion`` is answered with a heartbeat at once, whatever is in force: one round trip after the
  guest arrives anywhere, both ends agree (new with API 4).
* Everything goes through the message table at the moment it is sent, with the version in force at that moment.
* A changed version, and ``refresh``, send all that is known of the guest.
* What is pending is bounded whatever the host does: a report is pending or not, and of messages the oldest give way.
  It stays so while no host is there: a host's first words may be here before the news that it came.

The session has inputs (``host_came``, ``receive_data``, ``keep``, ``report``, ``send``, ``tick``…), ``data_to_send``
for the bytes to write, and ``deadline`` for when it wants to be told the time (monotonic seconds).

Source: docs/protocol.md, "The guest's end of it".
"""

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sidecar.errors import MessageNotAllowedError
from sidecar.protocol.bad_input import BadInput, BadInputCode, Complaints
from sidecar.protocol.framing import LineSplitter
from sidecar.protocol.ovirt_messages import GUEST_TO_HOST, HOST_TO_GUEST, refuse, render_message
from sidecar.protocol.versions import OVIRT_MAXIMUM, PROMPT_SINCE, is_offer

Arguments = Mapping[str, object]

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
"""What ``refresh`` and a changed version send, in this order, as far as the version in force has it."""

# Twice what a host of ours sends at most: other hosts may fill their lines differently.
LINE_LIMIT_BYTES = 64 * 1024

# Session events and completions that wait for a host that does not read; an honest one reads within milliseconds.
QUEUE_LIMIT = 32

# Of as many as a host sends in one go; each is as large as a line.
ECHO_LIMIT = 4

# What is given out at a time, and the line that fills it: a host that stops reading leaves so much unsent.
PIECE_BYTES = 16 * 1024

# After the heartbeat that says 0 the next one follows so soon; hosts may count on 100 ms.
FOLLOW_UP_S = 0.05

# Six heartbeats: a host that tells a version does so at the first that it hears.
UNTOLD_S = 30.0
# Each time twice as long, up to this: it costs one heartbeat.
UNTOLD_LAST_S = 300.0

# What is of no use to another host than the one that asked.
_ANSWERS = frozenset({"completion", "echo"})

_DETAIL_LIMIT = 64
_INFINITY = float("inf")


@dataclass(frozen=True, slots=True)
class RefreshReceived:
    """The host wants everything anew; what is known is on its way, what has changed since has to be looked up."""


@dataclass(frozen=True, slots=True)
class VersionChanged:
    """Another version is in force from now on."""

    version: int
    before: int


@dataclass(frozen=True, slots=True)
class CommandReceived:
    """The host wants something done; ``arguments`` may hold credentials, and are in no text of this value."""

    name: str
    arguments: Arguments = field(repr=False)


AgentEvent = RefreshReceived | VersionChanged | CommandReceived | BadInput


class AgentSession:
    """Negotiates with whatever host is at the other end of the port; see the module for the rules."""

    def __init__(self, *, heartbeat_s: float, now: float, maximum: int = OVIRT_MAXIMUM) -> None:
        """Start at version 0, with no host, and nothing known of the guest.

        Args:
            heartbeat_s: How often a heartbeat goes out.
            now: The time.
            maximum: The highest version we speak; below ``OVIRT_MAXIMUM`` we are as old as that.
        """
        self._maximum, self._heartbeat_s = maximum, heartbeat_s
        self._version = 0
        self._host_here = self._zero_said = False
        self._facts: dict[str, Arguments] = {}
        self._beat_pending = False
        self._messages: deque[tuple[str, Arguments]] = deque(maxlen=QUEUE_LIMIT)
        self._reports: dict[str, None] = {}  # in the order in which they became pending
        self._next_beat_at = self._now = now
        self._remind_at = _INFINITY
        self._remind_in_s = UNTOLD_S
        self._lines = LineSplitter(LINE_LIMIT_BYTES)
        self._complaints = Complaints()
        self._send_all()

    # What is known.

    @property
    def version(self) -> int:
        """The API version in force."""
        return self._version

    @property
    def host_here(self) -> bool:
        """Whether a host is at the other end."""
        return self._host_here

    @property
    def bad_input(self) -> Mapping[BadInputCode, int]:
        """How much unusable input hosts have sent in all, by code."""
        return self._complaints.counts

    # The other end.

    def host_came(self, now: float) -> None:
        """A host is at the other end; the version in force stays, it is the host's to change. ``tick`` follows."""
        self._now = now
        self._host_here = True
        self._await_version()

    def host_left(self, now: float) -> None:
        """Nobody is there any more; half a line that it left behind is forgotten, and so is what answers it."""
        self._now = now
        self._host_here = False
        self._messages = deque((m for m in self._messages if m[0] not in _ANSWERS), maxlen=QUEUE_LIMIT)
        self._lines = LineSplitter(LINE_LIMIT_BYTES)

    # What the host says.

    def receive_data(self, data: bytes, now: float) -> list[AgentEvent]:
        """Take bytes from the host; whatever they are, the next good line is still read."""
        self._now = now
        events: list[AgentEvent] = []
        for line in self._lines.receive_data(data):
            if line is None:
                events += self._complaints.complain(BadInputCode.LINE_TOO_LONG, "a line over the limit was dropped")
            elif line and not line.isspace():
                events += self._receive_line(line)
        return events

    def _receive_line(self, line: bytes) -> Sequence[AgentEvent]:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError) as error:
            return self._complaints.complain(BadInputCode.BAD_MESSAGE, type(error).__name__)
        name = message.pop("__name__", None) if isinstance(message, dict) else None
        if not isinstance(name, str):
            return self._complaints.complain(BadInputCode.BAD_MESSAGE, "no object with a __name__")
        if name not in HOST_TO_GUEST:
            return self._complaints.complain(BadInputCode.UNKNOWN_MESSAGE, ascii(name[:_DETAIL_LIMIT]))
        return self._receive_message(name, message)

    def _receive_message(self, name: str, arguments: Arguments) -> Sequence[AgentEvent]:
        match name:
            case "refresh":
                return self._receive_refresh(versioned="apiVersion" in arguments)
            case "api-version":
                return self._receive_version(arguments.get("apiVersion"))
            case "echo":
                if sum(pending == "echo" for pending, _ in self._messages) < ECHO_LIMIT:
                    self.send("echo", arguments)
                return []
            case _:
                return [CommandReceived(name, arguments)]

    def _receive_refresh(self, *, versioned: bool) -> Sequence[AgentEvent]:
        if not versioned:
            return [*self._set_version(0, send_anyway=True), RefreshReceived()]
        if self._maximum >= PROMPT_SINCE:
            self._beat()
        self._await_version()
        self._send_all()
        return [RefreshReceived()]

    def _receive_version(self, value: object) -> Sequence[AgentEvent]:
        if not is_offer(value):
            detail = f"apiVersion {ascii(value)[:_DETAIL_LIMIT]} is no version; {self._version} stays in force"
            return self._complaints.complain(BadInputCode.BAD_VERSION, detail)
        return self._set_version(min(value, self._maximum))

    def _set_version(self, version: int, *, send_anyway: bool = False) -> Sequence[AgentEvent]:
        """The host told, one way or the other."""
        self._remind_at = _INFINITY
        before, self._version = self._version, version
        if before != version or send_anyway:
            self._send_all()
        return [] if before == version else [VersionChanged(version, before)]

    def _await_version(self) -> None:
        self._remind_at, self._remind_in_s = self._now + UNTOLD_S, UNTOLD_S

    # What the guest has to say.

    def keep(self, name: str, arguments: Arguments) -> bool:
        """Something of the guest was looked up: keep it for whenever it is to be sent; whether it is news.

        Args:
            name: A message of ``REFRESH_SET``, or another of the table that tells a state: ``heartbeat`` (whose
                ``apiVersion`` is ours to add, and whose time has to come), ``number-of-cpus``, ``memory-stats``.
            arguments: Its arguments.
        """
        news = self._facts.get(name) != arguments
        self._facts[name] = arguments
        return news

    def report(self, name: str) -> None:
        """Send what was kept under this name; several times before it could be sent are once."""
        if name in self._facts:
            self._reports[name] = None

    def send(self, name: str, arguments: Arguments | None = None) -> None:
        """Queue a message that tells an event, or answers one."""
        self._messages.append((name, arguments or {}))

    def allows(self, name: str) -> bool:
        """Whether the version in force has this message."""
        return refuse(GUEST_TO_HOST, name, self._version) is None

    def _send_all(self) -> None:
        """As after a start: who we are, and everything known; what the version lacks is left out on the way."""
        if ("session-startup", {}) not in self._messages:
            self.send("session-startup")
        for name in REFRESH_SET:
            self.report(name)

    # Bytes to write.

    def data_to_send(self) -> bytes:
        """The next piece to write, empty when nothing is pending; ask again once it is written."""
        data = bytearray()
        while len(data) < PIECE_BYTES and (message := self._take_next()) is not None:
            data += self._render(*message)
        return bytes(data)

    def _take_next(self) -> tuple[str, Arguments] | None:
        if self._beat_pending:
            self._beat_pending = False
            return "heartbeat", {**self._facts["heartbeat"], "apiVersion": self._next_offer()}
        if self._messages:
            return self._messages.popleft()
        if self._reports:
            name = next(iter(self._reports))
            del self._reports[name]
            return name, self._facts[name]
        return None

    def _next_offer(self) -> int:
        if self._zero_said:
            return self._maximum
        self._zero_said = True
        self._next_beat_at = self._now + FOLLOW_UP_S
        return 0

    def _render(self, name: str, arguments: Arguments) -> bytes:
        """The line; nothing where the table refuses it, or where what the guest found does not fit a line."""
        try:
            return render_message(GUEST_TO_HOST, name, self._version, arguments)
        except MessageNotAllowedError:
            return b""

    # Time.

    @property
    def deadline(self) -> float:
        """When ``tick`` wants to be called; infinity while no host is there."""
        return self._next_beat_at if self._host_here else _INFINITY

    def tick(self, now: float) -> Sequence[AgentEvent]:
        """Tell the session the time: a heartbeat becomes pending when it is due."""
        self._now = now
        if now < self.deadline:
            return []
        events = self._remind() if now >= self._remind_at else []
        self._beat()
        return events

    def _remind(self) -> Sequence[AgentEvent]:
        """Say 0, and the first time all else, as after a start; after that nobody is at a version with us."""
        first = self._remind_in_s == UNTOLD_S
        self._zero_said = False
        events = self._set_version(self._version if first else 0, send_anyway=first)
        self._remind_in_s = min(2 * self._remind_in_s, UNTOLD_LAST_S)
        self._remind_at = self._now + self._remind_in_s
        return events

    def _beat(self) -> None:
        if "heartbeat" in self._facts:
            self._beat_pending = True
        self._next_beat_at = self._now + self._heartbeat_s
