"""The API's server: REST and XML-RPC on two unix sockets, of which the one offers every operation, the other reading.

Source: docs/api.md.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import cast

from aiohttp import web

from sidecar.api.operations import Access
from sidecar.api.problems import Problem, ProblemCode, ProblemError
from sidecar.bindings.connections import ConnectionLimits, Connections, HttpHandler
from sidecar.bindings.event_stream import EventStreams
from sidecar.bindings.exchange import Exchange, make_problem_response
from sidecar.bindings.rest import Rest
from sidecar.bindings.sockets import BACKLOG, SocketFile, SocketPlace, open_socket
from sidecar.bindings.xmlrpc import XMLRPC_PATH, XmlRpc
from sidecar.config import ApiSection, LimitsSection
from sidecar.engine.bridge import Bridge

logger = logging.getLogger(__name__)

# Who may connect: root and the group; everybody.
_FULL_MODE, _READ_MODE = 0o660, 0o666

# What is under way when we stop may come to its end within this time, and to terms with its end within as much again.
GRACE_S = 0.4


class ApiServer:
    """Both sockets; see the module."""

    def __init__(self, bridge: Bridge, api: ApiSection, limits: LimitsSection, metrics: Callable[[], bytes]) -> None:
        """``metrics`` renders those for Prometheus; it is called in a thread."""
        self._streams = EventStreams(bridge.version, limits.idle_seconds)
        site = _Site(bridge, Rest(bridge, metrics, self._streams), XmlRpc(bridge))
        self._doors = (
            _Door(
                SocketPlace("api.socket", Path(api.socket), _FULL_MODE, api.socket_group),
                site,
                Access.FULL,
                limits,
                ConnectionLimits(limits.connections, limits.connections_per_uid, limits.idle_seconds, frees_root=True),
            ),
            _Door(
                SocketPlace("api.readonly_socket", Path(api.readonly_socket), _READ_MODE),
                site,
                Access.READ,
                limits,
                ConnectionLimits(
                    limits.readonly_connections,
                    limits.readonly_connections_per_uid,
                    limits.idle_seconds,
                    frees_root=False,
                ),
            ),
        )

    async def start(self) -> None:
        """Make both sockets and serve them.

        Raises:
            ConfigurationError: One of them cannot be; the line names key, path and reason, and neither is there.
        """
        async with contextlib.AsyncExitStack() as undo:
            for door in self._doors:
                await door.open()
                undo.push_async_callback(door.close)
            undo.pop_all()

    async def close(self) -> None:
        """Take no more requests, end what is under way within a second, remove the sockets."""
        self._streams.stop()
        await asyncio.gather(*(door.close() for door in self._doors))


class _Site:
    """What is served, at either door."""

    def __init__(self, bridge: Bridge, rest: Rest, xmlrpc: XmlRpc) -> None:
        self.version = bridge.version
        self._rest, self._xmlrpc = rest, xmlrpc

    async def answer(self, exchange: Exchange) -> web.StreamResponse:
        """An answer to anything; a stream is over already."""
        try:
            exchange.refuse_browser()
            if exchange.request.rel_url.raw_path == XMLRPC_PATH:
                return await self._xmlrpc.answer(exchange)
            return await self._rest.answer(exchange)
        except ProblemError as error:
            problem = error.problem
        except Exception:
            logger.exception("a request was not answered: a fault of ours")
            problem = Problem(ProblemCode.INTERNAL, "a fault of the daemon's own; its log tells more")
        return make_problem_response(problem, self.version)


class _Door:
    """One socket, and who comes in by it."""

    def __init__(
        self, place: SocketPlace, site: _Site, access: Access, limits: LimitsSection, connections: ConnectionLimits
    ) -> None:
        self._place, self._site, self._access, self._limits = place, site, access, limits
        self._connection_limits = connections
        self._file: SocketFile | None = None
        self._server: asyncio.Server | None = None
        self._connections: Connections | None = None

    async def open(self) -> None:
        """See ``ApiServer.start``."""
        self._file = open_socket(self._place)
        self._connections = Connections(self._connection_limits, self._site.version, self._serve)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self._connections.make, sock=self._file.listener, backlog=BACKLOG)

    async def close(self) -> None:
        """See ``ApiServer.close``; nothing when it is not open."""
        if self._file is None or self._server is None or self._connections is None:
            return
        self._server.close()
        self._file.remove()
        await self._connections.close(GRACE_S)
        self._file = self._server = self._connections = None

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = cast("HttpHandler", request.protocol).connection
        connection.begin_serving()
        try:
            response = await self._site.answer(Exchange(request, connection.peer, self._access, self._limits))
            connection.wait_for_client()
            # A client that has gone is no fault; aiohttp finds the same and ends the connection.
            with contextlib.suppress(ConnectionError):
                await response.prepare(request)
                await response.write_eof()
            return response
        finally:
            connection.end_serving()
