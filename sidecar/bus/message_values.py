"""The values in a message of another host's, which anybody may have sent: of the right shape and size, or refused."""

from collections.abc import Mapping
from typing import Any

from sidecar.bus.link_end import is_document

# A host's offer takes about 700 bytes, its summary 1,000. Of summaries a whole fleet's are held at once.
DOCUMENT_LIMIT_BYTES = 64 * 1024
SUMMARY_LIMIT_BYTES = 16 * 1024
# A hostname's, as libvirt and the kernel have them, and more.
NAME_LIMIT = 255
# Some centuries.
SECONDS_LIMIT = 1e10
# An id's or a token's, which are other hosts' own.
TOKEN_LIMIT = 64


def read_document(values: Mapping[str, Any], key: str, limit_bytes: int = DOCUMENT_LIMIT_BYTES) -> Mapping[str, Any]:
    """A JSON object that the link carries. Raises ``ValueError``: it is none, or too large."""
    found = values.get(key)
    if not is_document(found, limit_bytes):
        raise ValueError(f"{key} is no JSON object, or too large")
    document: Mapping[str, Any] = found  # type: ignore[assignment]  # it is one
    return document


def read_name(values: Mapping[str, Any], key: str) -> str:
    """A hostname, or what could be one. Raises likewise."""
    return _read_text(values, key, NAME_LIMIT)


def read_token(values: Mapping[str, Any], key: str) -> str:
    """What only has to be said back. Raises likewise."""
    return _read_text(values, key, TOKEN_LIMIT)


def read_seconds(values: Mapping[str, Any], key: str) -> float | None:
    """A time, or ``None`` where there is none. Raises likewise."""
    found = values.get(key)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= SECONDS_LIMIT:
        raise ValueError(f"{key} is no time in seconds")
    return float(found)


def _read_text(values: Mapping[str, Any], key: str, limit: int) -> str:
    found = values.get(key)
    if not isinstance(found, str) or not 0 < len(found) <= limit or not found.isprintable():
        raise ValueError(f"{key} is no text of at most {limit} printable characters")
    return found
