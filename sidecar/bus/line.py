"""``BusLine``: another host's daemon, by its hostname, for ``sidecar.client.Client``.

    Client(line=BusLine("beta", BusAccess("rabbit://reader:secret@broker:5672/sidecar")))

What reads goes one way, with ``url``, and what changes something another, with ``admin_url``: each user has its own
permissions. Problems are those of the host's daemon, as over its socket.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias

from sidecar.api.events import Event
from sidecar.api.operations import OPERATIONS, SECONDS_LIMIT, Operation
from sidecar.api.problems import ProblemCode, ProblemError
from sidecar.api.versions import API_VERSION, ApiVersion
from sidecar.bus import oslo
from sidecar.bus.caller import CONNECT_S, Caller, find_caller
from sidecar.client.event_stream import NO_EVENT_YET, EventStream, read_event
from sidecar.client.request import choose_timeout
from sidecar.errors import BusDownError, ConfigurationError, DaemonUnreachableError, HostSilentError, HostUnknownError

# How long the host waits each time it is asked; it grants no more than half a minute.
POLL_S = 20.0

# How a host says that this was not enough: a domain may still be on its way there.
_NOT_YET = frozenset({ProblemCode.NOT_IN_TIME, ProblemCode.DOMAIN_NOT_FOUND})


@dataclass(frozen=True, slots=True)
class BusAccess:
    """How the bus is reached: transport URLs of oslo.messaging's, and options of its group ``oslo_messaging_rabbit``.

    One URL is enough for who only reads, or only changes.
    """

    url: str | None = None
    admin_url: str | None = None
    options: Mapping[str, bool | int | float | str] = field(default_factory=dict)


class BusLine:
    """See the module; a ``Line``, for one thread at a time.

    Attributes:
        place: The host's name, for messages.
        served: The version of the API there, when it refused a newer one.
        has_sent: Whether the last request, which changes something, may have reached the host.
    """

    def __init__(self, hostname: str, access: BusAccess, timeout_s: float = 30.0) -> None:
        """Nothing is connected yet; ``timeout_s`` is for operations that have no time of their own."""
        self.place = f"{hostname} (over the bus)"
        self.served: ApiVersion | None = None
        self.has_sent = False
        self._hostname, self._access, self._timeout_s = hostname, access, timeout_s

    def check(self) -> bool:
        """Never: each call may meet another daemon."""
        return False

    def open(self) -> None:
        """Have the way to the broker for what reads; whether the host is there, the first call tells.

        Raises:
            DaemonUnreachableError: There is no way.
            ConfigurationError: There is no URL, or it is wrong.
        """
        self._connect(self._find_caller(changes=False))

    def close(self) -> None:
        """Nothing: the connection is the process's."""

    def another(self) -> "BusLine":
        """One more to the same host."""
        return BusLine(self._hostname, self._access, self._timeout_s)

    def exchange(self, operation: Operation, arguments: Mapping[str, Any], version: ApiVersion) -> Any:
        """Call an operation of the host's; its document. Sent once.

        Raises:
            ProblemError: The host's; or no-answer: there is no answer, and it was sent; or bad-request: the arguments
                cannot be sent.
            DaemonUnreachableError: There is no answer, and nothing was changed.
            ConfigurationError: There is no URL for it, or it is wrong.
        """
        self.has_sent, self.served = False, None
        given = _check_arguments(operation, arguments)
        caller = self._find_caller(changes=operation.changes)
        self._connect(caller)
        try:
            return self._call_until(caller, operation, given, version)
        except ProblemError as error:
            if error.problem.code in (ProblemCode.UNSUPPORTED_VERSION, ProblemCode.UNKNOWN_OPERATION):
                self.served = self._ask_version()
            raise

    def _call_until(self, caller: Caller, operation: Operation, given: Mapping[str, Any], version: ApiVersion) -> Any:
        """Call it; what waits, again and again until its own time is over, since hosts wait only so long at a time."""
        wait_s = _read_wait_s(operation, given)
        begun = time.monotonic()
        while (left_s := begun + wait_s - time.monotonic()) > POLL_S:
            asked = time.monotonic()
            try:
                return self._call(caller, operation, {**given, "timeout": POLL_S}, version)
            except ProblemError as error:
                # What was not waited for is its last word.
                if error.problem.code not in _NOT_YET or time.monotonic() - asked < POLL_S / 2:
                    raise
        rest = {**given, "timeout": max(round(left_s, 1), 0.0)} if wait_s > POLL_S else given
        return self._call(caller, operation, rest, version)

    def _call(self, caller: Caller, operation: Operation, given: Mapping[str, Any], version: ApiVersion) -> Any:
        timeout_s = POLL_S + CONNECT_S if operation.streams else choose_timeout(operation, given, self._timeout_s)
        self.has_sent = operation.changes
        try:
            return caller.call(self._hostname, str(version), operation.name, given, timeout_s)
        except HostUnknownError as error:
            self.has_sent = False
            missing = "[bus] admin = true" if operation.changes else "[bus] url"
            raise DaemonUnreachableError(f"{self.place}: {error}: is sidecard up there, with {missing}?") from error
        except HostSilentError as error:
            if self.has_sent:
                told = f"{operation.name}: it was sent, and nobody knows whether it ran: {self.place}: {error}"
                raise ProblemError(ProblemCode.NO_ANSWER, told) from error
            raise DaemonUnreachableError(f"{self.place}: {error}") from error

    def _find_caller(self, *, changes: bool) -> Caller:
        topic, url = (oslo.ADMIN, self._access.admin_url) if changes else (oslo.READING, self._access.url)
        if url is None:
            name, what = ("admin_url", "changes something") if changes else ("url", "reads")
            raise ConfigurationError(f"bus.{name}: expected, for what {what} on another host")
        return find_caller(topic, url, tuple(sorted(self._access.options.items())))

    def _connect(self, caller: Caller) -> None:
        try:
            caller.connect()
        except BusDownError as error:
            raise DaemonUnreachableError(f"{self.place}: {error}") from error

    def _ask_version(self) -> ApiVersion | None:
        """What the host serves, if it says so; oslo.messaging's refusal does not."""
        asked = OPERATIONS["can_send_version"]
        with suppress(ProblemError, DaemonUnreachableError, ConfigurationError, AttributeError, TypeError, ValueError):
            caller = self._find_caller(changes=False)
            self._connect(caller)
            return ApiVersion.parse(self._call(caller, asked, {"version": str(API_VERSION)}, asked.since).get("served"))
        return None

    def follow(self, operation: Operation, arguments: Mapping[str, Any], version: ApiVersion) -> EventStream:
        """The events from now on, or after the one that is given; the host is asked for them again and again.

        Raises:
            ProblemError: The host's.
            DaemonUnreachableError: There is no answer.
            ConfigurationError: There is no URL, or it is wrong.
        """

        def ask(place: str, wait_s: float) -> tuple[Event, ...]:
            answer = self.exchange(operation, {**arguments, "after": place, "timeout": wait_s}, version)
            return self._read_events(operation, answer)

        place = arguments.get("after")
        events = ask(place or NO_EVENT_YET, 0.0)
        if place is None:
            place, events = _find_now(ask, events), ()
        return EventStream(_go_on(ask, events, place), self.close)

    def _read_events(self, operation: Operation, answer: Any) -> tuple[Event, ...]:
        try:
            return tuple(map(read_event, answer))
        except (TypeError, ValueError) as error:
            self.misread(operation, str(error))

    def misread(self, operation: Operation, why: str) -> NoReturn:
        """Raise what it means that the answer, though a good document, is not that operation's."""
        told = f"{self.place}: what came back is no answer of sidecard's: {why}"
        if operation.changes:
            was_sent = f"{operation.name}: it was sent, and nobody knows whether it ran: {told}"
            raise ProblemError(ProblemCode.BAD_REPLY, was_sent)
        raise DaemonUnreachableError(told)


_Ask: TypeAlias = Callable[[str, float], tuple[Event, ...]]


def _find_now(ask: _Ask, events: tuple[Event, ...]) -> str:
    """The place behind all that happened already; an answer brings only so much of it."""
    place = NO_EVENT_YET
    while events:
        place = events[-1].id
        events = ask(place, 0.0)
    return place


def _go_on(ask: _Ask, events: tuple[Event, ...], place: str) -> Iterator[Event]:
    while True:
        for event in events:
            place = event.id
            yield event
        events = ask(place, POLL_S)


def _read_wait_s(operation: Operation, given: Mapping[str, Any]) -> float:
    """For how long it waits, where it says when that was not enough; 0 otherwise."""
    argument = operation.argument("timeout")
    if argument is None or operation.changes or ProblemCode.NOT_IN_TIME not in operation.problems:
        return 0.0
    wait_s = given.get("timeout", argument.default)
    if isinstance(wait_s, bool) or not isinstance(wait_s, int | float) or not 0.0 <= wait_s <= SECONDS_LIMIT:
        return 0.0  # the host refuses it
    return float(wait_s)


def _check_arguments(operation: Operation, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are given. Raises ``ProblemError``: one is no JSON, which oslo.messaging would make something of."""
    given = {name: value for name, value in arguments.items() if value is not None}
    try:
        json.dumps(given, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ProblemError(ProblemCode.BAD_REQUEST, f"{operation.name}: the arguments are no JSON: {error}") from error
    return given
