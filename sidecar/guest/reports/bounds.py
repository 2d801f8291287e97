"""How much a report may hold: its message has to stay one line that every host reads.

What is cut is cut silently: a host that gets the first thousand disks is better off than one that gets none.
"""

import json
from collections.abc import Iterable
from itertools import islice
from typing import TypeVar

from sidecar.protocol.guest_text import clean_text

_Item = TypeVar("_Item")

# The longest honest text is a path: PATH_MAX.
TEXT_LIMIT_CHARACTERS = 4096
# VDSM drops a line of 1 MiB, and so does sidecard. A report has two lists at most; a quarter is left for all else.
LIST_LIMIT_BYTES = 384 * 1024
# What JSON puts between two items.
_SEPARATOR_BYTES = 2


def report_text(text: str, limit_characters: int = TEXT_LIMIT_CHARACTERS) -> str:
    """The text's beginning without the characters that made hosts unavailable; file names' odd bytes are such."""
    return clean_text(text[:limit_characters])


def bound_items(items: Iterable[_Item], limit: int) -> list[_Item]:
    """The first ``limit`` items, without those that no longer fit into ``LIST_LIMIT_BYTES`` of JSON."""
    kept = []
    left = LIST_LIMIT_BYTES
    for item in islice(items, limit):
        size = len(json.dumps(item)) + _SEPARATOR_BYTES
        if size <= left:
            kept.append(item)
            left -= size
    return kept
