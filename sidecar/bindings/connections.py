"""The connections to one socket: how many there may be, whose they are, and how long one may be without a request.

aiohttp reads the requests; it knows no deadline for a request's header and no limit of connections. So each connection
is an asyncio protocol of ours, which judges, counts and watches it, and hands everything on to aiohttp's.

A client's time: it has ``idle_s`` for the header of its first request, and from the moment on that an answer is ready
for reading that and for the header of the next. Bytes that trickle in or out buy nothing.
"""

import asyncio
import select
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

from aiohttp import web

from sidecar.api.problems import Problem, ProblemCode
from sidecar.api.versions import ApiVersion
from sidecar.bindings.exchange import Peer, make_problem_response, render_refusal
from sidecar.protocol.guest_text import clean_line

# Between looks at a client that will send nothing more: has it gone, or got all of its answers?
LOOK_S = 0.1
# For the rest of a body that nobody wants: a client that is still sending it would not see the answer otherwise.
LINGERING_S = 1.0

_CREDENTIALS = struct.Struct("iII")  # pid, uid, gid: struct ucred
_ROOT = 0


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """At a time, in all and by user; ``frees_root``: root's are limited by the total alone."""

    total: int
    per_uid: int
    idle_s: float
    frees_root: bool


class HttpHandler(web.RequestHandler):
    """aiohttp's side of a connection: this is where it asks what to answer to what is no HTTP."""

    __slots__ = ("connection",)

    connection: "Connection"

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """A problem document, after which the connection is closed; a client's faults are no lines in our log."""
        detail = f"this is no HTTP request, or its header is too large: {clean_line(message or '')}"
        response = make_problem_response(Problem(ProblemCode.BAD_REQUEST, detail), self.connection.version)
        response.force_close()
        return response


class Connections:
    """Those of one socket; ``make`` is the factory for asyncio's server."""

    def __init__(
        self,
        limits: ConnectionLimits,
        version: ApiVersion,
        serve: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    ) -> None:
        self.limits, self.version = limits, version
        # A request ends with its client: nobody else wants the answer, and what waits for something holds a connection.
        self._server = web.Server(serve, handler_cancellation=True)
        self._open: set[Connection] = set()
        self._of_uid: Counter[int] = Counter()

    def make(self) -> "Connection":
        """For a new client."""
        http = HttpHandler(
            self._server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # which is how it is turned off
            auto_decompress=False,
            keepalive_timeout=self.limits.idle_s,  # ours has run out before
            lingering_time=LINGERING_S,
        )
        return Connection(self, http)

    def admit(self, connection: "Connection") -> bool:
        """Count it, if there may be one more of its user's."""
        uid, limits = connection.peer.uid, self.limits
        is_free = limits.frees_root and uid == _ROOT
        if len(self._open) >= limits.total or (not is_free and self._of_uid[uid] >= limits.per_uid):
            return False
        self._open.add(connection)
        self._of_uid[uid] += 1
        return True

    def forget(self, connection: "Connection") -> None:
        """It is over."""
        if connection in self._open:
            self._open.remove(connection)
            self._of_uid -= Counter((connection.peer.uid,))

    async def close(self, grace_s: float) -> None:
        """End all; requests under way have twice ``grace_s`` (once to end by themselves, once when cancelled)."""
        self._server.pre_shutdown()
        await self._server.shutdown(grace_s)
        for connection in tuple(self._open):
            connection.abort()


class Connection(asyncio.Protocol):
    """One client's; see the module. ``peer`` is known once it is made."""

    peer: Peer

    def __init__(self, crowd: Connections, http: HttpHandler) -> None:
        self.version = crowd.version
        self._crowd, self._http = crowd, http
        http.connection = self
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._is_serving = False
        self._requests = 0
        self._waits_since: float | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._look: asyncio.TimerHandle | None = None

    # What asyncio tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        stream = cast("asyncio.Transport", transport)
        self.peer = _read_peer(stream)
        if not self._crowd.admit(self):
            # Into a new socket's buffer it goes at once.
            stream.write(render_refusal(self.version))
            stream.close()
            return
        self._transport = stream
        self._http.connection_made(stream)
        self.wait_for_client()
        self._watch_client()

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        if self._transport is not None:
            self._http.data_received(data)

    def eof_received(self) -> bool:
        """Called by asyncio: the client has gone, or it will send nothing more and still wants its answers."""
        if self._transport is None or _is_gone(self._transport):
            return False
        self._look = self._loop.call_later(LOOK_S, self._look_again, None)
        return True

    def pause_writing(self) -> None:
        """Called by asyncio."""
        self._http.pause_writing()

    def resume_writing(self) -> None:
        """Called by asyncio."""
        self._http.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        for timer in (self._watch, self._look):
            if timer is not None:
                timer.cancel()
        if self._transport is not None:
            self._transport = None
            self._crowd.forget(self)
            self._http.connection_lost(exc)

    # What whoever serves it tells.

    def begin_serving(self) -> None:
        """The header of a request has come to its end."""
        self._is_serving = True
        self._requests += 1
        self._waits_since = None

    def end_serving(self) -> None:
        """Its answer has been written, or there is none."""
        self._is_serving = False
        if self._waits_since is None:
            self.wait_for_client()

    def wait_for_client(self) -> None:
        """From now on the client has ``idle_s``, until the next request's header is there."""
        self._waits_since = self._loop.time()

    def _watch_client(self) -> None:
        """Close when the client's time is over, or look again when it may be; one timer, whatever it asks."""
        if self._transport is None:
            return
        now = self._loop.time()
        over_at = (now if self._waits_since is None else self._waits_since) + self._crowd.limits.idle_s
        # A client that sends more than is read ahead is not heard leaving.
        if now >= over_at or _is_gone(self._transport):
            self.abort()
        else:
            self._watch = self._loop.call_at(over_at, self._watch_client)

    def abort(self) -> None:
        """Close at once; what was not sent is dropped."""
        if self._transport is not None:
            self._transport.abort()

    def _look_again(self, requests_before: int | None) -> None:
        """Close when the client has gone, or nothing was asked since the look before and nothing is served.

        One look is not enough: a request that came together with the end is not served at once.
        """
        assert self._transport is not None
        if _is_gone(self._transport):
            self._transport.abort()
        elif not self._is_serving and self._requests == requests_before:
            self._transport.close()
        else:
            self._look = self._loop.call_later(LOOK_S, self._look_again, self._requests)


def _read_peer(transport: asyncio.Transport) -> Peer:
    """The process that connected."""
    found = transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(found)
    return Peer(uid, pid)


def _is_gone(transport: asyncio.Transport) -> bool:
    """Whether the other end is closed for both directions, not for its sending alone."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), 0)
    return bool(poll.poll(0))
