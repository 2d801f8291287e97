"""Arguments as clients give them, made JSON values: what a binding reads is held against the same rules.

What an operation's arguments must be is the bridge's matter; here it is only that they are values at all, which can be
logged, compared and sent on as they are.
"""

import json
import math
from typing import Any

from sidecar.api.problems import ProblemCode, ProblemError
from sidecar.protocol.guest_text import DEPTH_LIMIT, VALUES_LIMIT


def parse_json(text: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ProblemError: It is none, names a key twice, or is more than ``check_value`` lets pass.
    """
    try:
        value = json.loads(text.decode(), object_pairs_hook=_make_object, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ProblemError(ProblemCode.BAD_REQUEST, f"the body is not JSON: {error}") from error
    check_value(value)
    return value


def check_value(value: object) -> None:
    """Check that this is a JSON value, of texts that are Unicode and finite numbers, and no monster.

    Raises:
        ProblemError: It is not.
    """
    count = 0
    level = [value]
    for _ in range(DEPTH_LIMIT):
        count += len(level)
        if count > VALUES_LIMIT:
            raise ProblemError(ProblemCode.BAD_REQUEST, f"more than {VALUES_LIMIT} values")
        level = [inner for outer in level for inner in _open(outer)]
        if not level:
            return
    raise ProblemError(ProblemCode.BAD_REQUEST, f"values are nested deeper than {DEPTH_LIMIT}")


def _open(value: object) -> list[object]:
    """What is inside a value; ``ProblemError`` when it is no JSON value."""
    match value:
        case dict():
            if not all(isinstance(key, str) for key in value):
                raise ProblemError(ProblemCode.BAD_REQUEST, "a key of an object is no text")
            return [*value, *value.values()]
        case list():
            return value
        case str():
            _require_unicode(value)
        case float():
            if not math.isfinite(value):
                raise ProblemError(ProblemCode.BAD_REQUEST, "a number is not finite")
        case None | bool() | int():
            return []
        case _:
            kind = type(value).__name__
            raise ProblemError(ProblemCode.BAD_REQUEST, f"a value is no text, number, object or list, but {kind}")
    return []


def _require_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ProblemError(ProblemCode.BAD_REQUEST, "a text is no Unicode: half of a surrogate pair") from None


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object names a key twice")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")
