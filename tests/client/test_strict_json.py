"""What is read as JSON, and what is not."""

from typing import Any

import pytest

from sidecar.client.strict_json import load_json


@pytest.mark.parametrize(
    ("text", "value"), [("null", None), (b'{"a": [1, -2.5, "\xc3\xbc"]}', {"a": [1, -2.5, "\u00fc"]}), ("1e300", 1e300)]
)
def test_json(text: str | bytes, value: Any) -> None:
    assert load_json(text) == value


@pytest.mark.parametrize(
    "text", ["", "NaN", '{"a": Infinity}', "[-Infinity]", "1e999", "-1e999", "[" * 100_000, "9" * 5000, b"\xff"]
)
def test_none(text: str | bytes) -> None:
    with pytest.raises(
        ValueError, match=r"no JSON|too large|too deeply|Expecting value|integer string conversion|utf-8"
    ):
        load_json(text)
