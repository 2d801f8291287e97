"""What clients of the API send as JSON: bodies, the arguments of every operation, and hosts' offers over the bus."""

import json
from dataclasses import fields

from sidecar.api.operations import OPERATIONS, SECONDS_LIMIT, Kind, Operation
from sidecar.api.problems import ProblemCode, ProblemError
from sidecar.bindings.given_values import parse_json
from sidecar.engine.arguments import TEXT_LIMIT_CHARACTERS, read_arguments
from sidecar.protocol.host_offer import HostOffer
from tests.fuzz.readings import check_line

WORDS = (
    *(f'"{argument.name}": '.encode() for operation in OPERATIONS.values() for argument in operation.arguments),
    b'{"hostname": "alpha", "host_uuid": "00000000-0000-0000-0000-000000000001", "daemon": "0.1", "bridge": "1.0", ',
    b'"dialects": {"ovirt": {"maximum": 4, "cap": "max"}, "qga": {"maximum": "10.0", "cap": "max"}}}',
    b'"supported": ',
    b"1e308",
    b"\\ud800",
    b"NaN",
    b"[[[[[[[[[[[[[[[[",
)


def check(data: bytes) -> None:
    """The bytes as a body; its value as the arguments of everything, and as an offer."""
    try:
        value = parse_json(data)
    except ProblemError as error:
        check_problem(error)
        return
    # What was let in can be logged, compared and sent on.
    assert json.loads(json.dumps(value, allow_nan=False, ensure_ascii=False).encode()) == value
    check_offer(value)
    if isinstance(value, dict):
        for operation in OPERATIONS.values():
            check_arguments(operation, value)


def check_problem(error: ProblemError) -> None:
    """The client's fault, in one line."""
    assert error.problem.code is ProblemCode.BAD_REQUEST
    check_line(error.problem.detail)


def check_offer(document: object) -> None:
    """An offer that can be told on as it was understood, or one line."""
    try:
        offer = HostOffer.parse(document)
    except ValueError as error:
        check_line(str(error))
        return
    assert HostOffer.parse(offer.document) == offer
    for field in fields(offer):
        check_line(str(getattr(offer, field.name)))
    assert offer.ovirt.maximum <= offer.ovirt.supported
    assert offer.qga.maximum <= offer.qga.supported


def check_arguments(operation: Operation, given: dict[str, object]) -> None:
    """Each is of its kind, or its default; with one that the operation does not have it is refused."""
    known = {argument.name for argument in operation.arguments}
    check_read(operation, {name: value for name, value in given.items() if name in known})
    if given.keys() - known:
        try:
            read_arguments(operation, given)
        except ProblemError as error:
            check_problem(error)
        else:
            raise AssertionError("an argument that the operation does not have was let in")


def check_read(operation: Operation, given: dict[str, object]) -> None:
    try:
        values = read_arguments(operation, given)
    except ProblemError as error:
        check_problem(error)
        return
    assert values.keys() == {argument.parameter for argument in operation.arguments}
    for argument in operation.arguments:
        value = values[argument.parameter]
        if given.get(argument.name) is None:
            assert value == argument.default
        else:
            check_kind(argument.kind, value)


def check_kind(kind: Kind, value: object) -> None:
    match kind:
        case Kind.TEXT:
            assert isinstance(value, str)
            assert 0 < len(value) <= TEXT_LIMIT_CHARACTERS
        case Kind.SECONDS:
            assert type(value) in (int, float)
            assert 0 <= float(str(value)) <= SECONDS_LIMIT
        case Kind.OBJECT:
            assert isinstance(value, dict)
