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
    """One command of a document: where it stands, on which host it is typed, and what is said to come of it."""

    place: str
    host: str
    command: str
    output: tuple[str, ...]


def read_steps(document: str) -> list[Step]:
    """The commands of a document, in their order."""
    steps: list[Step] = []
    lines = (ROOT / document).read_text().splitlines()
    for number, line in enumerate(lines, 1):
        found = _PROMPT.fullmatch(line)
        if found is not None:
            output = []
            for below in lines[number:]:
                if not below.startswith("    ") or _PROMPT.fullmatch(below):
                    break
                output.append(below[4:])
            steps.append(Step(f"{document}:{number}", found["host"], found["command"], tuple(output)))
    return steps


def rewrite(document: str, said: list[str]) -> None:
    """Put what the commands said, one after the other, below them; a command that shows `...` keeps what it shows."""
    outputs = iter(zip(read_steps(document), said, strict=True))
    lines, skipping = [], False
    for line in (ROOT / document).read_text().splitlines():
        skipping = skipping and line.startswith("    ") and _PROMPT.fullmatch(line) is None
        if not skipping:
            lines.append(line)
        if _PROMPT.fullmatch(line):
            step, output = next(outputs)
            skipping = True
            keeps = any(shown.strip() == _ELLIPSIS for shown in step.output)
            lines += [f"    {text}".rstrip() for text in (step.output if keeps else output.strip("\n").splitlines())]
    (ROOT / document).write_text("\n".join(lines) + "\n")


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
