"""What the values of arguments are: each function reads one, or raises ``argparse.ArgumentTypeError``."""

import argparse
import sys
from typing import Any

# The longest name that a host can have, by POSIX.
_HOSTNAME_LIMIT = 255


def parse_seconds(text: str) -> float:
    """More than 0, and at most an hour."""
    seconds = parse_patience(text)
    if not seconds:
        raise argparse.ArgumentTypeError("expected more than 0 seconds")
    return seconds


def parse_patience(text: str) -> float:
    """Seconds, or 0 for who wants to know how it is now."""
    try:
        seconds = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number of seconds, not {text!a}") from None
    if not 0 <= seconds <= 3600:
        raise argparse.ArgumentTypeError("expected at most 3600 seconds, and no fewer than 0")
    return seconds


def parse_pair(text: str) -> tuple[str, Any]:
    """KEY=VALUE; the value is JSON where it can be read so, and else text."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError("expected KEY=VALUE")
    try:
        return key, _load(value)
    except ValueError:
        return key, value


def parse_object(text: str) -> dict[str, Any]:
    """A JSON object, or - for stdin, or @FILE."""
    return read_object(text.removeprefix("@")) if text == "-" or text.startswith("@") else _parse_object(text)


def read_object(path: str) -> dict[str, Any]:
    """The JSON object in a file; - for stdin."""
    if path == "-":
        return _parse_object(sys.stdin.buffer.read())
    try:
        with open(path, "rb") as file:
            return _parse_object(file.read())
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path!a} cannot be read: {error.strerror}") from error


def _parse_object(text: str | bytes) -> dict[str, Any]:
    try:
        document = _load(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"no JSON: {error}") from error
    if not isinstance(document, dict):
        raise argparse.ArgumentTypeError("expected a JSON object")
    return document


def _load(text: str | bytes) -> Any:
    from sidecar.client.strict_json import load_json

    return load_json(text)


def parse_hostname(text: str) -> str:
    """A name as hosts have them on the message bus."""
    if not 0 < len(text) <= _HOSTNAME_LIMIT or not text.isprintable() or " " in text or "/" in text:
        raise argparse.ArgumentTypeError(f"expected the name of a host, not {text[:32]!a}")
    return text
