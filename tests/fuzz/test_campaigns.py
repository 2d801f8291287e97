"""Bounded campaigns of every target, from the corpus on; what they find is told as bytes, for ``test_corpus``.

A campaign's own corpus is thrown away. To keep what a long one found: ``docs/contributing.md``.
"""

import os
import random
from pathlib import Path

import pytest

from tests.fuzz.campaign import describe_crash, run_campaign
from tests.fuzz.target import FAILS, NAMES, Target, load

SHORT_S, LONG_S = 3, 60

# Another one finds something else: SIDECAR_FUZZ_SEED=random, or a number.
SEED = 20261122


def choose_seed() -> int:
    """What the environment says, if it does."""
    text = os.environ.get("SIDECAR_FUZZ_SEED", str(SEED))
    return random.SystemRandom().randrange(1, 2**31) if text == "random" else int(text)


def check_campaign(target: Target, seconds: int, place: Path) -> None:
    """It comes to its end, has run something, and has covered our code; the figures are in the test's output."""
    seed = choose_seed()
    outcome = run_campaign(target, seconds, seed, place)
    print(f"{target.name}: seed {seed}, {outcome.runs} runs, {outcome.covered} edges")
    if outcome.crash is not None:
        pytest.fail(f"{describe_crash(target, outcome.crash)}\n{outcome.told}")
    assert "exit code 0" in outcome.told, outcome.told
    assert outcome.runs > len(list(target.corpus.iterdir())), outcome.told
    assert outcome.covered > 0, outcome.told


@pytest.mark.thorough
@pytest.mark.parametrize("name", NAMES)
def test_a_short_campaign_finds_nothing(name: str, tmp_path: Path) -> None:
    check_campaign(load(name), SHORT_S, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_a_long_campaign_finds_nothing(name: str, tmp_path: Path) -> None:
    check_campaign(load(name), LONG_S, tmp_path)


@pytest.mark.thorough
def test_what_a_campaign_finds_is_told_as_bytes(tmp_path: Path) -> None:
    """One that could not find anything would be green, too."""
    target = load(FAILS)
    outcome = run_campaign(target, LONG_S, SEED, tmp_path)
    assert outcome.crash is not None, outcome.told
    with pytest.raises(AssertionError):
        target.check(outcome.crash)
    assert f"({FAILS!r}, {outcome.crash!r})," in describe_crash(target, outcome.crash)
    assert "AssertionError" in outcome.told
