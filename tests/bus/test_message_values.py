"""What of a message is taken."""

import math
from typing import Any

import pytest

from sidecar.bus.message_values import (
    DOCUMENT_LIMIT_BYTES,
    NAME_LIMIT,
    TOKEN_LIMIT,
    read_document,
    read_name,
    read_seconds,
    read_token,
)


def test_takes_what_is_right() -> None:
    values = {"offer": {"a": [1, None, "ä"]}, "hostname": "x" * NAME_LIMIT, "token": "y" * TOKEN_LIMIT}
    assert read_document(values, "offer") == values["offer"]
    assert read_name(values, "hostname") == values["hostname"]
    assert read_token(values, "token") == values["token"]


@pytest.mark.parametrize("value", [None, 5, "x", [], {"a": math.nan}, {"a": "x" * DOCUMENT_LIMIT_BYTES}, {"a": b"x"}])
def test_refuses_what_is_no_document(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^offer is no JSON object, or too large$"):
        read_document({"offer": value}, "offer")
    with pytest.raises(ValueError, match="offer"):
        read_document({}, "offer")


@pytest.mark.parametrize("value", [None, 5, True, {}, "", "a\nb", "\x00", "\ud800", "\u202e", b"x", "x" * 256])
def test_refuses_what_is_no_text(value: Any) -> None:
    for read in (read_name, read_token):
        with pytest.raises(ValueError, match=r"^key is no text"):
            read({"key": value}, "key")
    with pytest.raises(ValueError, match="at most 64"):
        read_token({"key": "x" * (TOKEN_LIMIT + 1)}, "key")


@pytest.mark.parametrize("value", [True, -1, math.nan, math.inf, 10**400, "5", [], {}, 1e11])
def test_refuses_what_is_no_time(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^away_s is no time in seconds$"):
        read_seconds({"away_s": value}, "away_s")


@pytest.mark.parametrize(("values", "wanted"), [({}, None), ({"s": None}, None), ({"s": 0}, 0.0), ({"s": 1.5}, 1.5)])
def test_takes_what_is_a_time(values: dict[str, Any], wanted: float | None) -> None:
    assert read_seconds(values, "s") == wanted


def test_a_document_may_have_less() -> None:
    assert read_document({"offer": {"a": "x"}}, "offer", 20) == {"a": "x"}
    with pytest.raises(ValueError, match="too large"):
        read_document({"offer": {"a": "x" * 20}}, "offer", 20)
