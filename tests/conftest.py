"""What holds for all tests: nothing skipped reads as green where the laboratory is required, and golden files."""

import os
from collections.abc import Callable, Generator

import hypothesis
import pytest

# For contrib/check, which is run often: what it misses one day it finds the next, and contrib/test today.
hypothesis.settings.register_profile("quick", max_examples=20)

Golden = Callable[[str, str], None]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skipped test is a failed one with SIDECAR_LAB=required: CI is root, and has everything."""
    report = yield
    if report.skipped and os.environ.get("SIDECAR_LAB") == "required":
        report.outcome = "failed"
        report.longrepr = f"skipped, and SIDECAR_LAB=required forbids it: {report.longrepr}"
    return report


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compare a text with the golden file of this name beside the test; SIDECAR_REGENERATE=1 writes the file anew."""
    folder = request.path.parent / "golden"

    def check(name: str, text: str) -> None:
        file = folder / name
        if os.environ.get("SIDECAR_REGENERATE") == "1":
            file.write_text(text, encoding="utf-8")
        assert text == file.read_text(encoding="utf-8")

    return check
