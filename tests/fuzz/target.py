"""The targets by name; each is a module of ``targets`` with a function ``check``, and the ``WORDS`` of its language."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HOME = Path(__file__).parent

NAMES = tuple(sorted(file.stem for file in (HOME / "targets").glob("[a-z]*.py")))

FAILS = "_fails"
"""A target that fails for a word, to see that this is found."""


@dataclass(frozen=True, slots=True)
class Target:
    """One target.

    Attributes:
        name: Its module's.
        check: Takes any bytes, and fails where what its module promises does not hold.
        words: Pieces that mutation alone would take long to come by.
    """

    name: str
    check: Callable[[bytes], None]
    words: tuple[bytes, ...]

    @property
    def corpus(self) -> Path:
        """Its inputs in the tree."""
        return HOME / "corpus" / self.name


def load(name: str) -> Target:
    """The target of this name; imports what it tests."""
    module = importlib.import_module(f"tests.fuzz.targets.{name}")
    return Target(name, module.check, tuple(module.WORDS))
