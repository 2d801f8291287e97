"""A bounded campaign of one target, in a process of its own, and what is to be told of it."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.seeds import SEEDS
from tests.fuzz.target import HOME, Target

# Longer inputs are slower, and find no more.
LENGTH_LIMIT_BYTES = 4096
# A run takes about a millisecond; one that takes this long on a machine that is busy hangs.
RUN_LIMIT_S = 60
MEMORY_LIMIT_MB = 1024
# For the start, with everything being instrumented, and the corpus.
START_LIMIT_S = 120

_FIGURES = re.compile(r"cov: (\d+)")
_RUNS = re.compile(r"stat::number_of_executed_units: (\d+)")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended: ``crash`` is the input that failed, ``told`` the end of what was printed."""

    runs: int
    covered: int
    crash: bytes | None
    told: str


def run_campaign(target: Target, seconds: int, seed: int, place: Path) -> Outcome:
    """From the seeds and the corpus, which stays as it is, in ``place``, which keeps what is new and what failed."""
    found, failed = place / "found", place / "failed-"
    found.mkdir()
    for number, data in enumerate(SEEDS.get(target.name, tuple)()):
        (found / f"{number}").write_bytes(data)
    options = {
        "max_total_time": seconds,
        "seed": seed,
        "max_len": LENGTH_LIMIT_BYTES,
        "timeout": RUN_LIMIT_S,
        "rss_limit_mb": MEMORY_LIMIT_MB,
        "artifact_prefix": failed,
        "print_final_stats": 1,
    }
    corpora = [str(folder) for folder in (found, target.corpus) if folder.is_dir()]
    command = [sys.executable, "-m", "tests.fuzz", target.name, *corpora]
    told = _run([*command, *(f"-{name}={value}" for name, value in options.items())], seconds + START_LIMIT_S)
    crashes = [file.read_bytes() for file in place.glob("failed-*")]
    return Outcome(_last_number(_RUNS, told), _last_number(_FIGURES, told), next(iter(crashes), None), told[-6000:])


def _run(command: list[str], limit_s: int) -> str:
    """What it printed, however it ended: a finding ends it, too."""
    ended = subprocess.run(
        ["nice", *command],
        cwd=HOME.parent.parent,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=limit_s,
        check=False,
    )
    return f"{ended.stdout.decode(errors='replace')}\nexit code {ended.returncode}\n"


def _last_number(pattern: re.Pattern[str], text: str) -> int:
    return int((pattern.findall(text) or ["0"])[-1])


def describe_crash(target: Target, data: bytes) -> str:
    """How to have it again: as a line of ``test_corpus``, where it stays once it is mended."""
    return f"{target.name} fails; for FINDINGS of tests/fuzz/test_corpus.py:\n    ({target.name!r}, {data!r}),"
