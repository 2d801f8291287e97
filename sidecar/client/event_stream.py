"""The daemon's events as they come: server-sent events, one connection for each stream.

Source: the HTML standard, "Server-sent events".
"""

from collections.abc import Iterator
from http.client import HTTPResponse

from sidecar.api.events import Event
from sidecar.client.answers import ANSWER_ERRORS, is_nonsense
from sidecar.client.connection import Connection
from sidecar.client.strict_json import load_json
from sidecar.errors import DaemonUnreachableError

# An event tells of one domain; one with thousands of channels would be a fiftieth of this.
EVENT_LIMIT_BYTES = 4 * 1024 * 1024

_OWN_KEYS = ("id", "time", "type", "domain", "uuid")


class EventStream:
    """An iterator over events from the moment it was made; it waits for the next one, and never ends by itself.

    ``next`` raises ``DaemonUnreachableError`` when the daemon goes away; another stream, made with the last event's
    ``id`` as ``after``, goes on from there.
    """

    def __init__(self, connection: Connection, response: HTTPResponse) -> None:
        """``connection`` becomes the stream's own, ``response`` came from it."""
        self._connection, self._response = connection, response
        self._events = _read_events(_read_lines(response))

    def __iter__(self) -> "EventStream":
        return self

    def __next__(self) -> Event:
        try:
            return next(self._events)
        except ANSWER_ERRORS as error:
            self.close()
            why = f"what came is no event: {error}" if is_nonsense(error) else "the daemon ended the stream of events"
            raise DaemonUnreachableError(f"{self._connection.path}: {why}") from error

    def __enter__(self) -> "EventStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; the stream has no more events."""
        self._connection.close()
        self._response.close()
        self._events = iter(())


def _read_lines(response: HTTPResponse) -> Iterator[bytes]:
    while line := response.readline(EVENT_LIMIT_BYTES + 1):
        if len(line) > EVENT_LIMIT_BYTES:
            raise ValueError(f"a line of more than {EVENT_LIMIT_BYTES >> 20} MiB")
        yield line.rstrip(b"\r\n")
    raise EOFError


def _read_events(lines: Iterator[bytes]) -> Iterator[Event]:
    data = bytearray()
    for line in lines:
        if line.startswith(b"data:"):
            data += line.removeprefix(b"data:") + b"\n"
            if len(data) > EVENT_LIMIT_BYTES:
                raise ValueError(f"an event of more than {EVENT_LIMIT_BYTES >> 20} MiB")
        elif not line and data:
            yield _read_event(bytes(data))
            data.clear()


def _read_event(data: bytes) -> Event:
    document = load_json(data)
    if not isinstance(document, dict) or not all(isinstance(document.get(key), str) for key in ("id", "time", "type")):
        raise ValueError("a document without id, time or type")
    id_, time, type_, domain, uuid = (document.pop(key, None) for key in _OWN_KEYS)
    return Event(id_, time, type_, domain, uuid, document)
