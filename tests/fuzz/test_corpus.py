"""Every input of the corpus through its target, without atheris; and every finding of campaigns, once it is mended."""

import hashlib

import pytest

from tests.fuzz.campaign import describe_crash
from tests.fuzz.seeds import SEEDS
from tests.fuzz.target import NAMES, Target, load

# What is kept in the tree for good.
FILES_LIMIT, CORPUS_LIMIT_BYTES = 400, 300 * 1024

FINDINGS: tuple[tuple[str, bytes], ...] = (
    # The target's own faults: it read a key that is skipped unread otherwise; it took half of a surrogate pair from a
    # caller; it had a heartbeat reported out of its time.
    ("qga_wire", b'{"supported_commands": [{"name": "guest-sync", "enabled": true, "s\xe3uccess": true}]}'),
    ("qga_wire", b'{"re\xf6\\ud800\xf6turn": 47101}'),
    ("ovirt_agent", b'h0\xfft""x\xffg'),
)
"""Target and input, as a campaign tells them; what was wrong stands beside it."""


def check(target: Target, data: bytes) -> None:
    try:
        target.check(data)
    except Exception:
        pytest.fail(describe_crash(target, data))


@pytest.mark.parametrize("name", NAMES)
def test_corpus(name: str) -> None:
    target = load(name)
    files = sorted(target.corpus.iterdir())
    assert files
    for file in files:
        check(target, file.read_bytes())


@pytest.mark.parametrize("name", NAMES)
def test_seeds(name: str) -> None:
    for data in SEEDS[name]():
        check(load(name), data)


@pytest.mark.parametrize(("name", "data"), FINDINGS)
def test_findings(name: str, data: bytes) -> None:
    check(load(name), data)


def test_the_corpus_is_small_and_named_by_its_content() -> None:
    files = [file for name in NAMES for file in load(name).corpus.iterdir()]
    assert len(files) <= FILES_LIMIT
    assert sum(file.stat().st_size for file in files) <= CORPUS_LIMIT_BYTES
    for file in files:
        assert file.name == hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()
