"""REST: each operation at its paths; arguments from path, query or body; JSON, and problem documents of RFC 9457.

Source: docs/api.md; ``openapi`` describes just this.
"""

import asyncio
import re
from collections.abc import Callable
from urllib.parse import parse_qsl

import msgspec
from aiohttp import hdrs, web

from sidecar.api.operations import Kind, Operation
from sidecar.api.problems import ProblemCode, ProblemError
from sidecar.bindings.event_stream import EventStreams
from sidecar.bindings.exchange import Exchange, make_response
from sidecar.bindings.given_values import parse_json
from sidecar.bindings.openapi import METRICS_PATH, METRICS_TYPE, OPENAPI_PATH, describe_api
from sidecar.bindings.routes import find_operation, wrong_method
from sidecar.engine.bridge import Bridge

JSON_TYPE = "application/json"
LAST_EVENT_HEADER = "Last-Event-ID"

# No operation has so many; what is repeated is refused anyway.
_QUERY_LIMIT_FIELDS = 32

# What float() takes beyond this (nan, inf, 1_0, blanks) is no JSON number either.
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)


class Rest:
    """Answers what is asked at REST's paths, and at those of its description and of the metrics."""

    def __init__(self, bridge: Bridge, metrics: Callable[[], bytes], streams: EventStreams) -> None:
        self._bridge, self._metrics, self._streams = bridge, metrics, streams
        self._rendering: asyncio.Future[bytes] | None = None
        self._description = msgspec.json.encode(describe_api(bridge.version))

    async def answer(self, exchange: Exchange) -> web.StreamResponse:
        """The answer to one request.

        Raises:
            ProblemError: There is none but this.
        """
        request = exchange.request
        path = request.rel_url.raw_path
        if path == OPENAPI_PATH:
            _require_reading(request.method)
            return make_response(self._description, JSON_TYPE, self._bridge.version)
        if path == METRICS_PATH:
            _require_reading(request.method)
            return make_response(await self._render_metrics(), METRICS_TYPE, self._bridge.version)
        operation, arguments = find_operation(request.method, path)
        self._bridge.admit(operation.name, exchange.caller)  # nobody's body is read, let alone parsed, for nothing
        given = await _read_arguments(exchange, operation)
        if repeated := arguments.keys() & given.keys():
            raise ProblemError(ProblemCode.BAD_REQUEST, f"{min(repeated)} is given in the path already")
        arguments |= given
        if operation.streams:
            return await self._stream(exchange, arguments)
        result = await self._bridge.call(operation.name, arguments, exchange.caller)
        return make_response(msgspec.json.encode(result), JSON_TYPE, self._bridge.version)

    async def _stream(self, exchange: Exchange, arguments: dict[str, object]) -> web.StreamResponse:
        # A client that connects again tells here where it was, whatever its first address said.
        after = exchange.request.headers.get(LAST_EVENT_HEADER)
        if after:
            arguments["after"] = after
        return await self._streams.send(exchange.request, self._bridge.follow(arguments, exchange.caller))

    async def _render_metrics(self) -> bytes:
        """One rendering for all who ask meanwhile; it is not given up when they go, for its thread goes on."""
        if self._rendering is None or self._rendering.done():
            self._rendering = asyncio.ensure_future(asyncio.to_thread(self._metrics))
        return await asyncio.shield(self._rendering)


def _require_reading(method: str) -> None:
    allowed = [hdrs.METH_GET, hdrs.METH_HEAD]
    if method not in allowed:
        raise wrong_method(allowed)


async def _read_arguments(exchange: Exchange, operation: Operation) -> dict[str, object]:
    """Those beside the path's."""
    query = exchange.request.rel_url.raw_query_string
    if operation.method == hdrs.METH_GET:
        return _read_query(operation, query)
    if query:
        raise ProblemError(ProblemCode.BAD_REQUEST, f"{operation.name} takes its arguments in the body, not in a query")
    return _read_document(operation, await exchange.read_body())


def _read_query(operation: Operation, query: str) -> dict[str, object]:
    if not query:
        return {}
    try:
        pairs = parse_qsl(
            query,
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=_QUERY_LIMIT_FIELDS,
        )
    except ValueError as error:
        raise ProblemError(ProblemCode.BAD_REQUEST, f"the query is not NAME=VALUE&…: {error}") from error
    found: dict[str, object] = {}
    for name, text in pairs:
        if name in found:
            raise ProblemError(ProblemCode.BAD_REQUEST, f"{name[:64]!a} is given twice")
        found[name] = _read_text(operation, name, text)
    return found


def _read_text(operation: Operation, name: str, text: str) -> object:
    """A value of a query; what is no number where there should be one is left to the bridge as it is."""
    argument = operation.argument(name)
    is_number = argument is not None and argument.kind is Kind.SECONDS and _NUMBER.fullmatch(text)
    return float(text) if is_number else text


def _read_document(operation: Operation, body: bytes) -> dict[str, object]:
    """The arguments in a body: an object of them; the one that is the whole body may stand there by itself."""
    if not body:
        return {}
    value = parse_json(body)
    if not isinstance(value, dict):
        raise ProblemError(ProblemCode.BAD_REQUEST, "the body is not a JSON object")
    whole = next((argument.name for argument in operation.arguments if argument.is_body), None)
    return value if whole is None or value.keys() == {whole} else {whole: value}
