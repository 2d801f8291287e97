"""Commands and their output as the documents show them: `root@HOST:~# COMMAND` in an indented block, output below."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

_PROMPT = re.compile(r"    root@(?P<host>\w+):~# (?P<command>.*)")
_ELLIPSIS = "..."

# What differs from one run to the next. The longer ones first.
_VOLATILE = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"), "TIME"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "UUID"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "RUN"),
    (re.compile(r"\b[0-9a-f]{11}-\d+\b"), "ID"),
    (re.compile(r"\b\d+ s\b(?!e)"), "AGE"),
    (re.compile(r"pid[ =]\d+"), "PID"),
    (re.compile(r"\s+"), " "),
)


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a document: where it stands, on which host it is typed, and what is said to come of it.

    A command with a here-document goes on to its end, ``END``.
    """

    place: str
    host: str
    command: str
    output: tuple[str, ...]


def read_steps(document: str) -> list[Step]:
    """The commands of a document, in their order."""
    lines = (ROOT / document).read_text().splitlines()
    steps: list[Step] = []
    for number, line in enumerate(lines):
        found = _PROMPT.fullmatch(line)
        if found is not None:
            last = _find_last(lines, number)
            command = "\n".join([found["command"], *(text[4:] for text in lines[number + 1 : last + 1])])
            output = tuple(text[4:] for text in lines[last + 1 : _find_end(lines, last)])
            steps.append(Step(f"{document}:{number + 1}", found["host"], command, output))
    return steps


def _find_last(lines: list[str], number: int) -> int:
    """The last line of the command that begins in this one."""
    return lines.index("    END", number) if lines[number].endswith("<<'END'") else number


def _find_end(lines: list[str], number: int) -> int:
    """Where the output of the command in this line ends: an indented block goes on over empty lines within it."""
    end = below = number + 1
    while below < len(lines) and (not lines[below] or lines[below].startswith("    ")):
        if _PROMPT.fullmatch(lines[below]):
            break
        below += 1
        end = below if lines[below - 1] else end
    return end


def rewrite(document: str, said: list[str]) -> None:
    """Put what the commands said, one after the other, below them; a command that shows `...` keeps what it shows."""
    lines = (ROOT / document).read_text().splitlines()
    outputs = iter(zip(read_steps(document), said, strict=True))
    fresh: list[str] = []
    number = 0
    while number < len(lines):
        last = _find_last(lines, number) if _PROMPT.fullmatch(lines[number]) else None
        fresh += lines[number : (number if last is None else last) + 1]
        if last is None:
            number += 1
            continue
        step, output = next(outputs)
        keeps = any(shown.strip() == _ELLIPSIS for shown in step.output)
        shown = step.output if keeps else output.strip("\n").splitlines()
        fresh += [f"    {text}".rstrip() for text in shown]
        number = _find_end(lines, last)
    (ROOT / document).write_text("\n".join(fresh) + "\n")


def is_shown(shown: tuple[str, ...], said: str) -> bool:
    """Whether the output is the one that is shown; a line `...` there stands for one or more lines."""
    pattern = [r".+(\n.*)*" if line.strip() == _ELLIPSIS else re.escape(_flatten(line)) for line in shown]
    return re.fullmatch("\n".join(pattern), _join(said)) is not None


def _join(text: str) -> str:
    return "\n".join(_flatten(line) for line in text.strip("\n").splitlines())


def _flatten(line: str) -> str:
    for pattern, name in _VOLATILE:
        line = pattern.sub(name, line)
    return line.strip()
