"""What an agent of the oVirt dialect says, as values: bytes in, events out.

Nothing that a guest sends raises out of here: what cannot be used is a ``BadInput``, given out once a code and counted
after that, and the next good line is still read.

Source: docs/protocol.md; docs/problems.md for the codes.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated

import msgspec

from sidecar.protocol.bad_input import BadInput, BadInputCode, Complaints
from sidecar.protocol.fact_content import FactContent
from sidecar.protocol.framing import LineSplitter
from sidecar.protocol.ovirt_facts import FACTS, bound_fact
from sidecar.protocol.ovirt_messages import GUEST_TO_HOST
from sidecar.protocol.ovirt_tools import Applications, GuestTools, parse_applications, parse_guest_tools
from sidecar.protocol.versions import OFFER_LIMIT

# What of the guest's text goes into a log line; written in ASCII, a character takes up to ten.
_DETAIL_LIMIT = 64
_DECODER_TEXT_LIMIT = 120


# Ours are 32 characters; a guest that answers with a longer one answers nothing of ours.
REPLY_ID_LIMIT = 128


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The agent lives; ``offer`` is the highest version it says it knows, ``None`` without a valid one."""

    offer: int | None


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """Another message that the table knows came in."""

    name: str


@dataclass(frozen=True, slots=True)
class Completion:
    """The agent answers the message that carried this ``reply_id``."""

    reply_id: str


Event = BadInput | Heartbeat | MessageReceived | Completion | GuestTools | Applications


class _Line(msgspec.Struct, frozen=True):
    name: str = msgspec.field(name="__name__")
    api_version: msgspec.Raw | msgspec.UnsetType = msgspec.field(name="apiVersion", default=msgspec.UNSET)
    reply_id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_REPLY_ID: msgspec.json.Decoder[str] = msgspec.json.Decoder(Annotated[str, msgspec.Meta(max_length=REPLY_ID_LIMIT)])
_LINE = msgspec.json.Decoder(_Line)
_OFFER: msgspec.json.Decoder[int] = msgspec.json.Decoder(Annotated[int, msgspec.Meta(ge=0, le=OFFER_LIMIT)])
# msgspec raises three unrelated classes for bad input: syntax or shape, text that is not UTF-8, and nesting.
_DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_PARSERS: Mapping[str, Callable[[bytes], Event]] = MappingProxyType(
    {"guest-tools": parse_guest_tools, "applications": parse_applications}
)
"""The messages whose content counts; their lines are read a second time."""


class OvirtReader:
    """Reads one channel; over all its connections, ``bad_input`` counts what could not be used.

    ``received`` holds the messages of the table that came.
    """

    __slots__ = ("_complaints", "_facts", "_lines", "received")

    def __init__(self) -> None:
        self.received: set[str] = set()
        self._lines = LineSplitter()
        self._complaints = Complaints()
        self._facts: dict[str, FactContent] = {}

    @property
    def bad_input(self) -> Counter[BadInputCode]:
        """How much could not be used, by code."""
        return self._complaints.counts

    def start_anew(self) -> None:
        """A new connection: half a line of the earlier one is forgotten."""
        self._lines = LineSplitter()

    def receive_data(self, data: bytes) -> list[Event]:
        """What the lines that end in this piece say; empty lines say nothing."""
        events: list[Event] = []
        for line in self._lines.receive_data(data):
            if line is None:
                self._complain(BadInputCode.LINE_TOO_LONG, "a line over the limit was dropped", events)
            elif line and not line.isspace():
                self._receive_line(line, events)
        return events

    def take_facts(self) -> Mapping[str, FactContent]:
        """What the guest told of itself since the last call, by message: the newest word, given out once."""
        facts, self._facts = self._facts, {}
        return facts

    def _receive_line(self, line: bytes, events: list[Event]) -> None:
        try:
            message = _LINE.decode(line)
        except _DECODE_ERRORS as error:
            self._complain(BadInputCode.BAD_MESSAGE, _describe(error), events)
            return
        if message.name not in GUEST_TO_HOST:
            self._complain(BadInputCode.UNKNOWN_MESSAGE, f"{message.name[:_DETAIL_LIMIT]!a}", events)
            return
        self.received.add(message.name)
        if message.name == "heartbeat":
            events.append(Heartbeat(self._parse_offer(message.api_version, events)))
            self._keep_fact(message.name, line, events)
        elif message.name == "completion":
            self._receive_completion(message.reply_id, events)
        elif message.name in _PARSERS:
            self._receive_content(message.name, line, events)
        else:
            events.append(MessageReceived(message.name))
            self._keep_fact(message.name, line, events)

    def _keep_fact(self, name: str, line: bytes, events: list[Event]) -> None:
        if name not in FACTS:
            return
        content = bound_fact(name, line)
        if content is None:
            self._complain(BadInputCode.BAD_MESSAGE, f"{name}: {len(line)} bytes are more than is kept", events)
        else:
            self._facts[name] = content

    def _receive_completion(self, raw: msgspec.Raw | msgspec.UnsetType, events: list[Event]) -> None:
        try:
            events.append(Completion(_REPLY_ID.decode(b"" if raw is msgspec.UNSET else raw)))
        except _DECODE_ERRORS:
            self._complain(BadInputCode.BAD_MESSAGE, "completion without a usable reply_id", events)

    def _receive_content(self, name: str, line: bytes, events: list[Event]) -> None:
        try:
            events.append(_PARSERS[name](line))
        except _DECODE_ERRORS as error:
            self._complain(BadInputCode.BAD_MESSAGE, f"{name}: {_describe(error)}", events)
        else:
            self._keep_fact(name, line, events)

    def _parse_offer(self, raw: msgspec.Raw | msgspec.UnsetType, events: list[Event]) -> int | None:
        if raw is msgspec.UNSET:
            return None
        try:
            return _OFFER.decode(raw)
        except _DECODE_ERRORS:
            detail = f"apiVersion {bytes(raw)[:_DETAIL_LIMIT]!a} is no version"
            self._complain(BadInputCode.BAD_VERSION, detail, events)
            return None

    def _complain(self, code: BadInputCode, detail: str, events: list[Event]) -> None:
        events += self._complaints.complain(code, detail)


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:_DECODER_TEXT_LIMIT]!a}"
