"""What a terminal may show, and how much of it: text of others made harmless, widths, colours, one line of progress."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TextIO
from unicodedata import category, east_asian_width

from sidecar.cli.width import count_columns

ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
_GREEN, _YELLOW, _RED, _PLAIN = "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[0m"
_ERASE_LINE = "\r\x1b[K"

_COLOURS = {
    "agreed": _GREEN,
    "yes": _GREEN,
    "waiting": _YELLOW,
    "unversioned": _YELLOW,
    "lost": _RED,
    "absent": _RED,
    "no": _RED,
}


@dataclass(frozen=True, slots=True)
class Screen:
    """Where output goes: ``columns`` is the terminal's width, ``None`` where nothing is cut."""

    columns: int | None
    has_colours: bool

    @classmethod
    def of_stdout(cls) -> "Screen":
        """What stdout is just now."""
        if not sys.stdout.isatty():
            return cls(None, has_colours=False)
        wants_colours = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        return cls(count_columns(), has_colours=wants_colours)

    def paint(self, text: str, word: str) -> str:
        """The text in the colour that the word has, if any: green is well, red is not."""
        colour = _COLOURS.get(word, "") if self.has_colours else ""
        return f"{colour}{text}{_PLAIN}" if colour else text


def escape(text: str) -> str:
    """The text as one line in which nothing acts on a terminal: controls, bidi and other unprintable characters."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def measure(text: str) -> int:
    """The columns that an escaped text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_measure_character, text))


def _measure_character(character: str) -> int:
    if category(character) in ("Mn", "Me"):
        return 0
    return 2 if east_asian_width(character) in ("W", "F") else 1


def clip(text: str, columns: int) -> str:
    """An escaped text, cut to so many columns; an ellipsis stands for the rest."""
    if measure(text) <= columns:
        return text
    kept, left = [], columns - 1
    for character in text:
        left -= _measure_character(character)
        if left < 0:
            break
        kept.append(character)
    return "".join(kept) + ELLIPSIS if columns > 0 else ""


@contextmanager
def progress(text: str) -> Iterator[None]:
    """Show one line on a terminal's stderr meanwhile, and take it away; nothing in a pipe."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield
        return
    sys.stderr.write(clip(escape(text), count_columns() - 1))
    sys.stderr.flush()
    try:
        yield
    finally:
        # The terminal may have gone, and what was done meanwhile matters more.
        with suppress(OSError):
            sys.stderr.write(_ERASE_LINE)
            sys.stderr.flush()


def warn(text: str) -> None:
    """One line on stderr, where it can be written: the exit code says the same."""
    try:
        print(f"sidecarctl: {escape(text)}", file=sys.stderr, flush=True)
    except OSError:
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Let what the stream still holds, and all that comes, go nowhere: the interpreter's own flush at exit, too."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
