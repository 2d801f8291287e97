import os
from collections.abc import Callable
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "golden"

Golden = Callable[[str, str], None]


@pytest.fixture
def golden() -> Golden:
    """Compare a text with the golden file of this name; with SIDECAR_REGENERATE=1, write the file anew."""

    def check(name: str, text: str) -> None:
        file = FOLDER / name
        if os.environ.get("SIDECAR_REGENERATE") == "1":
            file.write_text(text, encoding="utf-8")
        assert text == file.read_text(encoding="utf-8")

    return check
