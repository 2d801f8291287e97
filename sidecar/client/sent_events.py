"""Server-sent events, read from the answer that carries them.

Source: the HTML standard, "Server-sent events".
"""

from collections.abc import Iterator
from http.client import HTTPResponse

from sidecar.api.events import Event
from sidecar.client.event_stream import read_event
from sidecar.client.strict_json import load_json

# An event tells of one domain; one with thousands of channels would be a fiftieth of this.
EVENT_LIMIT_BYTES = 4 * 1024 * 1024


def read_events(response: HTTPResponse) -> Iterator[Event]:
    """The events, as they come, for ever; raises ``answers.ANSWER_ERRORS``."""
    data = bytearray()
    for line in _read_lines(response):
        if line.startswith(b"data:"):
            data += line.removeprefix(b"data:") + b"\n"
            if len(data) > EVENT_LIMIT_BYTES:
                raise ValueError(f"an event of more than {EVENT_LIMIT_BYTES >> 20} MiB")
        elif not line and data:
            yield read_event(load_json(bytes(data)))
            data.clear()


def _read_lines(response: HTTPResponse) -> Iterator[bytes]:
    while line := response.readline(EVENT_LIMIT_BYTES + 1):
        if len(line) > EVENT_LIMIT_BYTES:
            raise ValueError(f"a line of more than {EVENT_LIMIT_BYTES >> 20} MiB")
        yield line.rstrip(b"\r\n")
    raise EOFError
