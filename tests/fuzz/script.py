"""Inputs of targets that take steps: readable bytes, of which any are a script, however they were mutated.

Steps are separated by 0xFF, which no UTF-8 has (what is not UTF-8 can be had with 0xFE). The first byte of a step says
what happens, by a table of the target's; what the table lacks is taken as a whole for bytes that somebody received.
Lines of a transcript are a script as they are.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")
WalkT = TypeVar("WalkT")

SEPARATOR = b"\xff"

# Deeper sequences are left to the state machines; a run should take about a millisecond.
STEPS_LIMIT = 64

PAUSES_S = (0.0, 0.05, 0.1, 0.5, 1.5, 2.5, 7.0, 31.0, 61.0, 130.0)


def run_steps(
    walk: WalkT,
    data: bytes,
    steps: Mapping[int, Callable[[WalkT, bytes], None]],
    otherwise: Callable[[WalkT, bytes], None],
    after_each: Callable[[WalkT], None],
) -> None:
    """Do what the script says, and look at what always holds after each step."""
    for piece in data.split(SEPARATOR)[:STEPS_LIMIT]:
        step = steps.get(piece[0]) if piece else None
        if step is None:
            otherwise(walk, piece)
        else:
            step(walk, piece[1:])
        after_each(walk)


def render_steps(*steps: bytes) -> bytes:
    """The script of these steps."""
    return SEPARATOR.join(steps)


def byte(argument: bytes, index: int = 0) -> int:
    """A byte of a step's argument; 0 where it is short."""
    return argument[index] if index < len(argument) else 0


def choose(choices: Sequence[T], argument: bytes, index: int = 0) -> T:
    """What a byte of a step's argument chooses; the digits 0 to 9 choose the first ten."""
    return choices[(byte(argument, index) - ord("0")) % len(choices)]
