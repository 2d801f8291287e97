"""A request, made from an operation's row and the arguments it is called with."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from sidecar.api.operations import Operation
from sidecar.api.problems import ProblemCode, ProblemError
from sidecar.api.versions import ApiVersion

VERSION_HEADER = "Sidecar-API-Version"

# What the daemon may take on top of the time that the operation itself was given.
ANSWER_MARGIN_S = 10.0

_PLACE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Request:
    """One request; ``timeout_s`` is how long it may stay without an answer, ``changes`` forbids to send it twice."""

    name: str
    method: str
    target: str
    body: bytes | None
    headers: Mapping[str, str]
    changes: bool
    timeout_s: float


def build_request(operation: Operation, arguments: Mapping[str, Any], version: ApiVersion, timeout_s: float) -> Request:
    """The request that calls the operation; arguments that are ``None`` are left out.

    Args:
        operation: Its row.
        arguments: JSON values by name; whether they fit is the daemon's to judge.
        version: What is declared.
        timeout_s: For an operation that has no time of its own.

    Raises:
        ProblemError: bad-request: an argument that REST has in the path is missing, or one is no JSON value.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    path = _choose_path(operation, given)
    target = _PLACE.sub(lambda place: _quote(given.pop(place[1])), path)
    body, headers = None, {VERSION_HEADER: str(version)}
    if operation.method == "POST":
        body = _render_body(operation, given)
        headers["Content-Type"] = "application/json"
    elif given:
        target += "?" + urlencode(given, quote_via=quote, errors="surrogatepass")
    time_s = choose_timeout(operation, arguments, timeout_s)
    return Request(operation.name, operation.method, target, body, headers, operation.changes, time_s)


def _choose_path(operation: Operation, given: Mapping[str, Any]) -> str:
    """The path with the most places that can all be filled."""
    for path in reversed(operation.paths):
        if all(given.get(name) for name in _PLACE.findall(path)):
            return path
    missing = [name for name in _PLACE.findall(operation.paths[0]) if not given.get(name)]
    raise ProblemError(ProblemCode.BAD_REQUEST, f"{operation.name}: {', '.join(missing)}: missing or empty")


def _render_body(operation: Operation, given: Mapping[str, Any]) -> bytes:
    whole = next((argument.name for argument in operation.arguments if argument.is_body), None)
    try:
        return json.dumps(given if whole is None else given.get(whole), allow_nan=False).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise ProblemError(ProblemCode.BAD_REQUEST, f"{operation.name}: the arguments are no JSON: {error}") from error


def _quote(value: object) -> str:
    """Anything as a part of a path; what is no text in UTF-8 arrives as something that is not either."""
    return quote(str(value), safe="", errors="surrogatepass")


def choose_timeout(operation: Operation, arguments: Mapping[str, Any], timeout_s: float) -> float:
    """How long an answer may take: the operation's own time, where it has one, and some more; else ``timeout_s``."""
    own = operation.argument("timeout")
    if own is None or operation.streams:
        return timeout_s
    given = arguments.get("timeout")
    return float(given if isinstance(given, int | float) else own.default) + ANSWER_MARGIN_S
