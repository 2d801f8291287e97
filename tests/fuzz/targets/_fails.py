"""Fails for a word, as a fault would that is easily found: see ``test_campaigns``."""

WORDS = (b"broken",)


def check(data: bytes) -> None:
    """Fail for the word."""
    assert b"broken" not in data
