"""The arguments of an operation, as its row of the table wants them: checked once, whatever binding they came by."""

from collections.abc import Mapping
from typing import Any

from sidecar.api.operations import SECONDS_LIMIT, Argument, Kind, Operation
from sidecar.api.problems import ProblemCode, ProblemError

# A domain's name may have 255 bytes, a message of a newer table some tens; the rest is nobody's honest work.
TEXT_LIMIT_CHARACTERS = 1024


def read_arguments(operation: Operation, given: Mapping[str, object]) -> dict[str, Any]:
    """A value for each argument of the row, by its ``parameter``; ``None``, or the default, for what was not given.

    Raises:
        ProblemError: An argument that the row does not have, or one that is missing or of another kind.
    """
    if unknown := given.keys() - {argument.name for argument in operation.arguments}:
        raise ProblemError(ProblemCode.BAD_REQUEST, f"{operation.name} has no argument {min(unknown)[:64]!a}")
    return {
        argument.parameter: _read(operation, argument, given.get(argument.name)) for argument in operation.arguments
    }


def _read(operation: Operation, argument: Argument, value: object) -> object:
    if value is None:
        if argument.required:
            raise ProblemError(ProblemCode.BAD_REQUEST, f"{operation.name} needs the argument {argument.name}")
        return argument.default
    expected = _find_fault(argument, value)
    if expected is not None:
        raise ProblemError(ProblemCode.BAD_REQUEST, f"{operation.name}: {argument.name}: expected {expected}")
    return value


def _find_fault(argument: Argument, value: object) -> str | None:
    """What was expected, when it is not this."""
    match argument.kind:
        case Kind.TEXT:
            if not isinstance(value, str) or not 0 < len(value) <= TEXT_LIMIT_CHARACTERS:
                return f"a text of 1 to {TEXT_LIMIT_CHARACTERS} characters"
            if argument.choices and value not in argument.choices:
                return f"one of {', '.join(argument.choices)}"
        case Kind.SECONDS:
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= SECONDS_LIMIT:
                return f"seconds, from 0 to {SECONDS_LIMIT:g}"
        case Kind.OBJECT:
            if not isinstance(value, dict):
                return "a JSON object"
    return None
