"""Reads ``docs/security.md``: its tables by the heading above them, and what it names in the code."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/security.md"


def read_page() -> str:
    """The whole page."""
    return PAGE.read_text(encoding="utf-8")


def read_table(heading: str) -> list[list[str]]:
    """The rows of the first table below this heading, without its own head; ``KeyError`` when there is none."""
    _, found, rest = read_page().partition(f" {heading}\n")
    if not found:
        raise KeyError(heading)
    rows = re.search(r"(?:^\|.*\n)+", rest.partition("\n#")[0] + "\n", re.MULTILINE)
    if rows is None:
        raise KeyError(heading)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in rows[0].splitlines()[2:]]


def read_code_blocks() -> list[str]:
    """Its indented blocks, without the indentation."""
    blocks = re.findall(r"(?:^    .*\n)+", read_page(), re.MULTILINE)
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in blocks]


def read_tests() -> list[tuple[str, str]]:
    """Each test that is named: its file below ``tests/``, and its function."""
    found = re.findall(r"`([\w/]+\.py)::(test_\w+)`", read_page())
    return sorted(set(found))


def read_names() -> list[tuple[str, str, str]]:
    """Each name of the code that is told: its file below ``sidecar/``, the name, and its value (``""``: not told)."""
    found = re.findall(r"`([\w/]+\.py)::(?!test_)(\w+)(?: = ([^`]+))?`", read_page())
    return sorted(set(found))
