"""Well-formed XML out of any bytes: what mutation of its text would hardly ever come to.

Each byte opens an element, closes one, sets an attribute (the next byte is its value), or adds text.
"""

from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

from sidecar.record import agreement, policy

PREFIXES = {"s": agreement.NAMESPACE, "p": policy.NAMESPACE, "o": "urn:other"}
_DECLARATIONS = "".join(f' xmlns:{prefix}="{uri}"' for prefix, uri in PREFIXES.items())
_TEXTS = ("", " ", "\n", "text", "<&>", "]]>", "\u00e4", "3")


class Language(NamedTuple):
    """What the bytes choose from."""

    tags: Sequence[str]
    names: Sequence[str]
    values: Sequence[str]


class _Writer:
    """Text that is well-formed once ``end`` was called."""

    def __init__(self, root: str, language: Language) -> None:
        self._language = language
        self._pieces = [f"<{root}{_DECLARATIONS}"]
        self._open = [root]
        self._attributes: set[str] | None = set()  # of a tag that was begun, and is not ended yet

    def open(self, choice: int) -> None:
        self._end_tag()
        self._open.append(choose_by(self._language.tags, choice))
        self._pieces.append(f"<{self._open[-1]}")
        self._attributes = set()

    def close(self) -> None:
        self._end_tag()
        if len(self._open) > 1:
            self._pieces.append(f"</{self._open.pop()}>")

    def set(self, choice: int, value: int) -> None:
        """Nothing where there is no tag, and for what it has already."""
        name = choose_by(self._language.names, choice)
        if self._attributes is not None and name not in self._attributes:
            self._attributes.add(name)
            self._pieces.append(f" {name}={quoteattr(choose_by(self._language.values, value))}")

    def write(self, choice: int) -> None:
        self._end_tag()
        self._pieces.append(escape(choose_by(_TEXTS, choice)))

    def end(self) -> str:
        self._end_tag()
        return "".join([*self._pieces, *(f"</{tag}>" for tag in reversed(self._open))])

    def _end_tag(self) -> None:
        if self._attributes is not None:
            self._pieces.append(">")
        self._attributes = None


def choose_by(choices: Sequence[str], number: int) -> str:
    return choices[number % len(choices)]


def render_tree(data: bytes, root: str, language: Language) -> str:
    """The tree that the bytes describe, below a root of this name, which declares the prefixes."""
    writer, numbers = _Writer(root, language), iter(data)
    for number in numbers:
        kind, choice = number % 4, number // 4
        match kind:
            case 0:
                writer.close()
            case 1:
                writer.open(choice)
            case 2:
                writer.set(choice, next(numbers, 0))
            case _:
                writer.write(choice)
    return writer.end()
