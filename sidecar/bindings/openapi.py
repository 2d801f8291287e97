"""The OpenAPI 3.1 document of REST: made from the table of operations, the views and the problems.

Source: docs/api.md; the OpenAPI Specification 3.1.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from inspect import cleandoc
from typing import Any

import msgspec

from sidecar.api.events import Event, EventType
from sidecar.api.operations import COMMON_PROBLEMS, OPERATIONS, SECONDS_LIMIT, Argument, Kind, Operation
from sidecar.api.problems import PROBLEMS, ProblemCode
from sidecar.api.versions import ApiVersion
from sidecar.bindings.event_stream import CONTENT_TYPE as EVENT_STREAM_TYPE
from sidecar.bindings.exchange import PROBLEM_TYPE, VERSION_HEADER

OPENAPI_PATH = "/v1/openapi.json"
METRICS_PATH = "/metrics"
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_Document = dict[str, Any]

_VERSION_SCHEMA = {"type": "string", "pattern": r"^[0-9]+\.[0-9]+$"}


def describe_api(version: ApiVersion) -> _Document:
    """The document for a daemon that serves ``version``; JSON values."""
    served = [operation for operation in OPERATIONS.values() if version.serves(operation.since)]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "libvirt-sidecar",
            "version": str(version),
            "description": "Guest-agent API versions of the domains of a libvirt host; served on unix sockets.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://localhost", "description": "whatever the host's name: the socket decides"}],
        "paths": _describe_paths(served),
        "components": {
            "schemas": _describe_schemas(served),
            "parameters": {"Version": _VERSION_PARAMETER, "LastEventId": _LAST_EVENT_PARAMETER},
            "headers": {"Version": {"description": "the version that is served", "schema": _VERSION_SCHEMA}},
        },
    }


_VERSION_PARAMETER = {
    "name": VERSION_HEADER,
    "in": "header",
    "description": "the version that the caller speaks",
    "schema": _VERSION_SCHEMA,
}
_LAST_EVENT_PARAMETER = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "as the argument `after`, and before it",
    "schema": {"type": "string"},
}


# Paths.


def _describe_paths(served: Iterable[Operation]) -> _Document:
    paths: defaultdict[str, _Document] = defaultdict(dict)
    for operation in served:
        for number, path in enumerate(operation.paths):
            paths[path][operation.method.lower()] = _describe_operation(operation, path, is_second=number > 0)
    paths[OPENAPI_PATH]["get"] = _describe_page("openapi", "this document", "application/json", {"type": "object"})
    paths[METRICS_PATH]["get"] = _describe_page("metrics", "for Prometheus", METRICS_TYPE, {"type": "string"})
    return dict(paths)


def _describe_operation(operation: Operation, path: str, *, is_second: bool) -> _Document:
    names = [argument for argument in operation.arguments if f"{{{argument.name}}}" in path]
    others = [argument for argument in operation.arguments if argument not in names]
    described: _Document = {
        "operationId": f"{operation.name}_domain" if is_second else operation.name,
        "summary": operation.why,
        "description": f"Since version {operation.since}; on {operation.access.value}.",
        "parameters": [{"$ref": "#/components/parameters/Version"}, *(_describe_path_argument(name) for name in names)],
        "responses": _describe_responses(_describe_result(operation), _list_problems(operation)),
    }
    if operation.method == "GET":
        described["parameters"] += [_describe_query_argument(argument) for argument in others]
    elif others:
        described["requestBody"] = _describe_body(others)
    if operation.streams:
        described["parameters"].append({"$ref": "#/components/parameters/LastEventId"})
    return described


def _describe_page(name: str, summary: str, content_type: str, schema: _Document) -> _Document:
    result = {"description": summary, "content": {content_type: {"schema": schema}}}
    return {"operationId": name, "summary": summary, "responses": _describe_responses(result, COMMON_PROBLEMS)}


# Arguments.


def _describe_path_argument(argument: Argument) -> _Document:
    place = {"name": argument.name, "in": "path", "required": True, "description": argument.why}
    return {**place, "schema": _describe_argument(argument)}


def _describe_query_argument(argument: Argument) -> _Document:
    place = {"name": argument.name, "in": "query", "required": argument.required, "description": argument.why}
    return {**place, "schema": _describe_argument(argument)}


def _describe_body(arguments: list[Argument]) -> _Document:
    is_whole = any(argument.is_body for argument in arguments)
    schema = _describe_argument(arguments[0]) if is_whole else _describe_object(arguments)
    return {
        "required": any(argument.required for argument in arguments),
        "description": arguments[0].why if is_whole else "the arguments that are given",
        "content": {"application/json": {"schema": schema}},
    }


def _describe_object(arguments: list[Argument]) -> _Document:
    return {
        "type": "object",
        "properties": {
            argument.name: {**_describe_argument(argument, takes_null=True), "description": argument.why}
            for argument in arguments
        },
        "additionalProperties": False,
    }


def _describe_argument(argument: Argument, *, takes_null: bool = False) -> _Document:
    """Its schema; in a body ``null`` is what is not given."""
    schema: _Document = {"type": [argument.kind.value, "null"] if takes_null else argument.kind.value}
    if argument.kind is Kind.TEXT:
        schema["minLength"] = 1
    if argument.kind is Kind.SECONDS:
        schema |= {"minimum": 0, "maximum": SECONDS_LIMIT}
    if argument.choices:
        schema["enum"] = list(argument.choices)
    if argument.default is not None:
        schema["default"] = argument.default
    return schema


# Responses.


def _describe_result(operation: Operation) -> _Document:
    if operation.streams:
        text = "server-sent events, as they happen; the `data` of each is an Event"
        return {"description": text, "content": {EVENT_STREAM_TYPE: {"schema": {"type": "string"}}}}
    schema: _Document = {"$ref": f"#/components/schemas/{operation.result.__name__}"}
    if operation.many:
        schema = {"type": "array", "items": schema}
    return {"description": "done", "content": {"application/json": {"schema": schema}}}


def _list_problems(operation: Operation) -> list[str]:
    problems = [*COMMON_PROBLEMS, *operation.problems]
    if operation.method == "POST":
        problems += [ProblemCode.TOO_LARGE, ProblemCode.TOO_SLOW]
    return problems


def _describe_responses(result: _Document, problems: Iterable[str]) -> _Document:
    by_status: defaultdict[int, list[str]] = defaultdict(list)
    for code in problems:
        by_status[PROBLEMS[code].status].append(str(code))
    return {"200": _with_version(result)} | {
        str(status): _with_version(_describe_problems(status, codes)) for status, codes in sorted(by_status.items())
    }


def _describe_problems(status: int, codes: list[str]) -> _Document:
    told = ", ".join(f"`{code}` ({PROBLEMS[code].title})" for code in codes)
    schema = {
        "$ref": "#/components/schemas/Problem",
        "properties": {"code": {"enum": codes}, "status": {"const": status}},
    }
    return {"description": f"{HTTPStatus(status).phrase}: {told}", "content": {PROBLEM_TYPE: {"schema": schema}}}


def _with_version(response: _Document) -> _Document:
    return {**response, "headers": {VERSION_HEADER: {"$ref": "#/components/headers/Version"}}}


# Schemas.


def _describe_schemas(served: Iterable[Operation]) -> _Document:
    views = {operation.result for operation in served if operation.result is not Event}
    _, schemas = msgspec.json.schema_components(
        sorted(views, key=lambda view: view.__name__), ref_template="#/components/schemas/{name}"
    )
    described = {name: _clean_description(schema) for name, schema in sorted(schemas.items())}
    return {**described, "Event": _EVENT_SCHEMA, "Problem": _PROBLEM_SCHEMA}


def _clean_description(schema: Mapping[str, Any]) -> _Document:
    return {**schema, "description": cleandoc(schema["description"])}


_EVENT_SCHEMA: _Document = {
    "title": "Event",
    "description": "What happened; which keys there are beside these depends on the type.",
    "type": "object",
    "properties": {
        "id": {"type": "string", "description": "opaque; can be resumed from"},
        "time": {"type": "string", "format": "date-time"},
        "type": {"type": "string", "examples": [str(kind) for kind in EventType]},
        "domain": {"type": ["string", "null"], "description": "its name; null in what concerns the daemon"},
        "uuid": {"type": ["string", "null"]},
    },
    "required": ["id", "time", "type", "domain", "uuid"],
}

_PROBLEM_SCHEMA: _Document = {
    "title": "Problem",
    "description": "A problem document (RFC 9457); for a refused message with what was required and agreed.",
    "type": "object",
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "code": {"type": "string", "description": "stable"},
    },
    "required": ["type", "title", "status", "detail", "code"],
    "additionalProperties": {"type": "string"},
}
