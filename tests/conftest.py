"""What holds for all tests: where the laboratory is required, nothing may be skipped and read as green."""

import os
from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skipped test is a failed one with SIDECAR_LAB=required: CI is root, and has everything."""
    report = yield
    if report.skipped and os.environ.get("SIDECAR_LAB") == "required":
        report.outcome = "failed"
        report.longrepr = f"skipped, and SIDECAR_LAB=required forbids it: {report.longrepr}"
    return report
