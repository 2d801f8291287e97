"""What is read never raises anything but a problem, and what is written is read back."""

import contextlib
import xmlrpc.client
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from sidecar.api.problems import ProblemError
from sidecar.bindings.xmlrpc_text import parse_call, render_fault, render_result
from sidecar.protocol.guest_text import clean_text

TEXTS = some.text().map(clean_text)
VALUES = some.recursive(
    some.none()
    | some.booleans()
    | some.integers(-(2**63), 2**63 - 1)
    | some.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: some.lists(inner) | some.dictionaries(TEXTS, inner),
    max_leaves=10,
)
TAGS = (
    *("methodCall", "methodName", "params", "param", "value", "struct", "member", "name", "array", "data", "fault"),
    *("int", "i8", "double", "boolean", "string", "nil", "base64", "dateTime.iso8601", "bigdecimal", "x"),
)


@given(VALUES)
def test_results_are_read_back(value: Any) -> None:
    assert xmlrpc.client.loads(render_result(value)) == ((value,), None)


@given(some.integers(100, 599), some.text())
def test_so_are_faults(code: int, text: str) -> None:
    with pytest.raises(xmlrpc.client.Fault) as caught:
        xmlrpc.client.loads(render_fault(code, text))
    assert (caught.value.faultCode, caught.value.faultString) == (code, clean_text(text))


@given(some.text("abcXYZ019_.:/", min_size=1), some.lists(VALUES))
def test_calls_are_read(name: str, values: list[Any]) -> None:
    try:
        text = xmlrpc.client.dumps(tuple(values), name, allow_none=True)
    except OverflowError:  # the standard library writes no i8
        return
    # It leaves a carriage return to be read as a newline.
    parameters, method = xmlrpc.client.loads(text)
    assert parse_call(text.encode()) == (method, parameters)


def nest(content: list[tuple[str, str]]) -> str:
    """Elements one in the other, some beside each other."""
    text = ""
    for tag, inside in content:
        text = f"<{tag}>{text}{inside}</{tag}>"
    return f"<methodCall><methodName>m</methodName><params>{text}</params></methodCall>"


@given(
    some.lists(some.tuples(some.sampled_from(TAGS), some.sampled_from(("", "1", "x", "<value/>", "<name>n</name>"))))
)
def test_nonsense_is_a_problem(content: list[tuple[str, str]]) -> None:
    with contextlib.suppress(ProblemError):  # some of it makes sense
        parse_call(nest(content).encode())


@given(some.binary())
def test_bytes_are_a_problem(body: bytes) -> None:
    with pytest.raises(ProblemError):
        parse_call(body)
