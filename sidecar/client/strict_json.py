"""JSON as its standard has it (RFC 8259): Python's own reader takes more than can be written again for others."""

import json
import math
from typing import Any


def load_json(text: str | bytes) -> Any:
    """The document. Raises ``ValueError`` when it is none, has a number that JSON lacks, or is nested too deeply."""
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_load_float)
    except RecursionError:
        raise ValueError("a document that is nested too deeply") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _load_float(text: str) -> float:
    number = float(text)
    if math.isinf(number):  # JSON can say 1e999, and nobody can receive it
        raise ValueError(f"{text[:32]} is too large")
    return number
