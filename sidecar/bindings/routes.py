"""Which operation a method and a path of REST are, by the table; the arguments that the path holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from aiohttp import hdrs

from sidecar.api.operations import OPERATIONS, Operation
from sidecar.api.problems import ProblemCode, ProblemError
from sidecar.protocol.guest_text import clean_line


@dataclass(frozen=True, slots=True)
class _Route:
    """A path of an operation, in segments; those in braces are arguments."""

    operation: Operation
    segments: tuple[str, ...]

    def match(self, segments: list[str]) -> dict[str, str] | None:
        """The arguments, still as they stand in a path of as many segments, when this is the path."""
        found = {}
        for ours, given in zip(self.segments, segments, strict=True):
            if ours.startswith("{") and given:
                found[ours[1:-1]] = given
            elif ours != given:
                return None
        return found


def _list_routes() -> Mapping[int, tuple[_Route, ...]]:
    every = [_Route(operation, tuple(path.split("/"))) for operation in OPERATIONS.values() for path in operation.paths]
    counts = {len(route.segments) for route in every}
    return {count: tuple(route for route in every if len(route.segments) == count) for count in counts}


# By the number of their segments.
_ROUTES = _list_routes()


def find_operation(method: str, path: str) -> tuple[Operation, dict[str, object]]:
    """The operation at ``path`` (as it came, percent-encoded), and its arguments there; HEAD is served as GET.

    Raises:
        ProblemError: There is none, or it has another method: ``allow`` is its header then.
    """
    segments = path.split("/")
    matches = [
        (route.operation, found)
        for route in _ROUTES.get(len(segments), ())
        if (found := route.match(segments)) is not None
    ]
    if not matches:
        raise ProblemError(ProblemCode.UNKNOWN_OPERATION, f"there is nothing at {clean_line(path)}")
    for operation, found in matches:
        if method in list_methods(operation):
            return operation, {name: _decode(text) for name, text in found.items()}
    raise wrong_method([method for operation, _ in matches for method in list_methods(operation)])


def list_methods(operation: Operation) -> tuple[str, ...]:
    """The methods of HTTP that it answers to; a stream without a body would have no end and no use."""
    if operation.method == hdrs.METH_GET and not operation.streams:
        return hdrs.METH_GET, hdrs.METH_HEAD
    return (operation.method,)


def wrong_method(allowed: list[str]) -> ProblemError:
    """Another method than those was used."""
    allow = ", ".join(allowed)
    return ProblemError(ProblemCode.METHOD_NOT_ALLOWED, f"the methods here are: {allow}", allow=allow)


def _decode(text: str) -> str:
    """A segment of a path without its percent-encoding; it may hold any character, slashes included."""
    if "%" not in text and text.isascii():
        return text
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError as error:
        raise ProblemError(ProblemCode.BAD_REQUEST, f"{clean_line(text)} is no UTF-8, percent-encoded") from error
