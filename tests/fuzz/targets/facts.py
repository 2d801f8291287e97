"""What guests tell of themselves: kept within bounds, cut between two entries, and read as values fit for users.

The input: two bytes that say where to cut, and a line.
"""

import contextlib
import json
from typing import Any

import msgspec

from sidecar.protocol.fact_content import FactContent, read_content
from sidecar.protocol.guest_text import clean_text
from sidecar.protocol.ovirt_facts import FACTS, bound_fact
from sidecar.protocol.ovirt_tools import parse_applications, parse_guest_tools
from tests.fuzz.readings import check_ovirt_facts, check_tools, check_value

WORDS = (
    b'{"__name__": "applications", "applications": ["',
    b'"ovirt-guest-agent-common-1.0.16-2.el8", ',
    b'"libvirt-sidecar-0.1.0-1"',
    b'"disks": [{"path": "/", "total": 1}], "mapping": {"a": {"name": "b"}}',
    b'"installed": true, "major": 1, "minor": 2, "micro": -1, "build": null, "updated": 1, "notUpgradable": false',
    b"18446744073709551616",
    b"1e308",
    b'\\"',
    b"\\u0000",
    b"[[[[",
)


def check(data: bytes) -> None:
    """The line as each kind of fact, cut, and as what tells of tools."""
    line = data[2:]
    for name in FACTS:
        content = bound_fact(name, line)
        assert content is not None
        check_ovirt_facts({name: content})
    check_cut(line, data[:2])
    check_end(line)
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        check_tools(parse_guest_tools(line).report)
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        check_tools(parse_applications(line).report)


def check_cut(line: bytes, where: bytes) -> None:
    """The beginning of a list or object, closed: its first entries are the whole's first, and each is whole."""
    cut = FactContent(line[: int.from_bytes(where) % (len(line) + 1)], truncated=True)
    try:
        part = read_content(cut)
    except ValueError:
        return
    check_value(part)
    with contextlib.suppress(ValueError, RecursionError):
        assert is_beginning(part, read_plainly(line))


def check_end(line: bytes) -> None:
    """Cut right at its end, a list has lost at most its last entry; nobody knows that this one was whole."""
    try:
        whole = read_content(FactContent(line))
    except ValueError:
        return
    if isinstance(whole, list) and len(whole) > 1:
        assert read_content(FactContent(line, truncated=True)) == whole[:-1]


def read_plainly(line: bytes) -> object:
    """The whole line's value, by another reader; ``ValueError`` for what our own cannot be compared with."""
    return json.loads(line.decode(), object_pairs_hook=_require_unlike)


def _require_unlike(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of keys that are alike, or become so, another one stays in what was cut."""
    if len({clean_text(key) for key, _ in pairs}) != len(pairs):
        raise ValueError("two keys alike")
    return {clean_text(key): value for key, value in pairs}


def is_beginning(part: object, whole: object) -> bool:
    """Whether a list or object is the other's beginning, down to what is right below an object at the top."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and is_cut(value, whole[key]) for key, value in part.items())
    return is_cut(part, whole)


def is_cut(part: object, whole: object) -> bool:
    """Whether it is the whole or its first entries."""
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) <= len(whole) and all(map(is_same, part, whole))
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and is_same(value, whole[key]) for key, value in part.items())
    return is_same(part, whole)


def is_same(one: object, other: object) -> bool:
    """Alike but for what cleaning replaces, and for how readers round."""
    if isinstance(one, str) and isinstance(other, str):
        return one == clean_text(other)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)
    return one == other
