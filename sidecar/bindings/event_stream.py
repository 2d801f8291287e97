"""Events as server-sent events: one stream a subscriber, for as long as he listens.

A subscriber is a place in the engine's log of events, and at most ``CHUNK_BYTES`` more than asyncio's own buffer of
what he has not read. One who reads nothing for ``patience_s`` is cut off, and may resume where he was.

Source: docs/api.md, "Events"; the HTML Living Standard, section 9.2, for the format.
"""

import asyncio
import logging

import msgspec
from aiohttp import hdrs, web

from sidecar.api.events import Event
from sidecar.api.versions import ApiVersion
from sidecar.bindings.exchange import make_headers
from sidecar.engine.event_log import EVENTS_LIMIT
from sidecar.engine.following import EventFilter

logger = logging.getLogger(__name__)

CONTENT_TYPE = "text/event-stream"

# What is written at once, and handed to asyncio before it is asked whether the subscriber keeps up.
CHUNK_BYTES = 64 * 1024


class EventStreams:
    """All that are open, on both sockets."""

    def __init__(self, version: ApiVersion, patience_s: float) -> None:
        self._version, self._patience_s = version, patience_s
        self._lines = EventLines()
        self._open: set[asyncio.Timeout] = set()
        self._is_stopping = False

    async def send(self, request: web.BaseRequest, events: EventFilter) -> web.StreamResponse:
        """Answer with what happens from now on; returns when the client has gone, or reads nothing, or we stop."""
        response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: CONTENT_TYPE, **make_headers(self._version)})
        try:
            await self._pass_on(request, response, events)
        except TimeoutError:
            if not self._is_stopping:
                _cut_off(request)
        except ConnectionError:
            pass  # the client has gone
        except Exception:
            logger.exception("a stream of events was cut off: a fault of ours")
            _cut_off(request)
        return response

    def stop(self) -> None:
        """End all streams, each after a whole event."""
        self._is_stopping = True
        for deadline in self._open:
            if not deadline.expired():
                deadline.reschedule(0)

    async def _pass_on(self, request: web.BaseRequest, response: web.StreamResponse, events: EventFilter) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(0 if self._is_stopping else None) as deadline:
            self._open.add(deadline)
            try:
                await response.prepare(request)
                async for event in events:
                    deadline.reschedule(loop.time() + self._patience_s)
                    await response.write(self._collect(event, events))
                    if self._is_stopping:
                        return
                    deadline.reschedule(None)
            finally:
                self._open.remove(deadline)

    def _collect(self, first: Event, events: EventFilter) -> bytes:
        """The event and those that are there already, as far as they fit."""
        chunk = bytearray(self._lines.render(first))
        while len(chunk) < CHUNK_BYTES and (event := events.take()) is not None:
            chunk += self._lines.render(event)
        return bytes(chunk)


def _cut_off(request: web.BaseRequest) -> None:
    """No end of the body: the client sees that this is none."""
    if request.transport is not None:
        request.transport.abort()


class EventLines:
    """Events as they go over the wire, each made once and not once a subscriber."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Event, bytes]] = {}

    def render(self, event: Event) -> bytes:
        """The event's lines, and the empty one that ends it."""
        known = self._known.get(event.id)
        # What tells one subscriber of a gap has the id of the event before it.
        if known is not None and known[0] is event:
            return known[1]
        document = msgspec.json.encode(event.document)
        lines = b"id: %b\nevent: %b\ndata: %b\n\n" % (event.id.encode(), event.type.encode(), document)
        if len(self._known) >= EVENTS_LIMIT:
            del self._known[next(iter(self._known))]
        self._known[event.id] = event, lines
        return lines
