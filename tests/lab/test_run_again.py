import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONFTEST = """
import pytest
from tests.lab.run_again import SIGNS, list_runs, pytest_runtest_protocol

@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    if report.failed:
        item.stash[SIGNS] = ["Kernel panic - not syncing"] if "guest" in item.name else []
    return report

def pytest_terminal_summary(terminalreporter):
    for line in list_runs(terminalreporter):
        terminalreporter.write_line(f"again: {line}")
"""
TESTS = """
import pytest

laboratories = []

@pytest.fixture(scope="session")
def laboratory():
    laboratories.append("one more")
    return len(laboratories)

def test_guest_that_died_once(laboratory):
    assert laboratory == 2

def test_of_the_same_laboratory(laboratory):
    assert laboratory == 2

def test_that_fails(laboratory):
    assert laboratory == 3

def test_guest_that_dies_each_time(laboratory):
    assert laboratory == 1

def test_guest_that_dies_too_often(laboratory):
    assert laboratory == 4
"""


def test_once_more_in_a_new_laboratory_and_not_for_ever(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(TESTS)
    options = ["--rootdir", str(tmp_path), "-c", "/dev/null", "-p", "no:cacheprovider", "-rA", "-q", "--tb=no"]
    command = [sys.executable, "-m", "pytest", *options, "test_it.py"]
    run = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60, check=False
    )
    told = [line.partition(" - ")[0] for line in run.stdout.splitlines() if line[:5] in ("PASSE", "FAILE", "again")]
    assert sorted(told) == [
        "FAILED test_it.py::test_guest_that_dies_each_time",
        "FAILED test_it.py::test_guest_that_dies_too_often",
        "FAILED test_it.py::test_that_fails",
        "PASSED test_it.py::test_guest_that_died_once",
        "PASSED test_it.py::test_of_the_same_laboratory",
        "again: test_it.py::test_guest_that_died_once: Kernel panic",
        "again: test_it.py::test_guest_that_dies_each_time: Kernel panic",
    ], run.stdout + run.stderr
