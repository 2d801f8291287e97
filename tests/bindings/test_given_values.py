"""What clients give, as JSON values."""

import contextlib
import datetime
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as some

from sidecar.api.problems import ProblemError
from sidecar.bindings.given_values import check_value, parse_json
from sidecar.protocol.guest_text import DEPTH_LIMIT, VALUES_LIMIT

VALUES = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False, allow_infinity=False) | some.text(),
    lambda inner: some.lists(inner) | some.dictionaries(some.text(), inner),
    max_leaves=10,
)


@given(VALUES)
def test_json_values_pass_as_they_are(value: object) -> None:
    assert parse_json(json.dumps(value).encode()) == value


@given(some.binary())
def test_anything_else_is_a_problem(body: bytes) -> None:
    with contextlib.suppress(ProblemError):  # some are JSON
        parse_json(body)


def nest(depth: int) -> object:
    value: object = 1
    for _ in range(depth - 1):
        value = [value]
    return value


def test_depth() -> None:
    check_value(nest(DEPTH_LIMIT))
    with pytest.raises(ProblemError, match="nested deeper"):
        check_value(nest(DEPTH_LIMIT + 1))


def test_number_of_values() -> None:
    check_value([1] * (VALUES_LIMIT - 1))
    with pytest.raises(ProblemError, match="more than"):
        check_value([1] * VALUES_LIMIT)


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("-inf"), "\ud800", {"\udc00": 1}, {1: 2}, b"x", Decimal(1), datetime.datetime.min, (1,), {1}],
)
def test_what_is_no_json_value(value: object) -> None:
    with pytest.raises(ProblemError):
        check_value([{"inside": value}])
