"""docs/security.md against the code: what it names is there, with the value that it tells, and no case is left out."""

import ast
import importlib
import re

import pytest

from sidecar.api.operations import OPERATIONS, Access, Operation
from sidecar.bindings.server import _FULL_MODE, _READ_MODE
from tests.security_page import ROOT, read_names, read_page, read_table, read_tests

# What a guest agent on a host has to survive, by the project's list; those after it are our own.
CASES = 15
GUESTS_CASES = 11

ATTACKS = read_table("Attacks and defences")


@pytest.mark.parametrize(("file", "test"), read_tests())
def test_a_test_that_is_named_is_there(file: str, test: str) -> None:
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert test in {node.name for node in found}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # oslo.messaging's, of what it imports
@pytest.mark.parametrize(("file", "name", "value"), read_names(), ids=lambda text: text or "-")
def test_a_name_of_the_code_is_there_and_has_that_value(file: str, name: str, value: str) -> None:
    module = importlib.import_module("sidecar." + file.removesuffix(".py").replace("/", "."))
    found = getattr(module, name)
    if value:
        assert found == ast.literal_eval(value)


def test_every_case_has_a_defence_and_a_test() -> None:
    assert [row[0] for row in ATTACKS] == [str(number) for number in range(1, len(ATTACKS) + 1)]
    assert len(ATTACKS) >= CASES
    for number, attack, must_hold, defence, tests in ATTACKS:
        assert attack
        assert must_hold
        assert ".py::" in defence or ".service" in defence, number
        assert "::test_" in tests, number


def test_every_case_is_mounted_on_a_real_daemon() -> None:
    """By a guest what guests can mount; hook, sockets, metadata and API are others' to attack."""
    for row in ATTACKS[:CASES]:
        file = "test_hostile" if int(row[0]) <= GUESTS_CASES else "test_hostile_host"
        assert f"`lab/{file}.py::test_{row[0]}_" in row[-1], row[0]


def test_the_operations_stand_where_they_may_be_asked_for() -> None:
    cells = {row[0]: row[1:] for row in read_table("Who may do what")}
    told = {name: answers for names, answers in cells.items() for name in re.findall(r"`(\w+)`", names)}
    assert told.keys() == OPERATIONS.keys()
    for name, operation in OPERATIONS.items():
        assert [answer != "no" for answer in told[name]] == _expected(operation), name


def _expected(operation: Operation) -> list[bool]:
    """Read-only socket, full socket, the bus for reading, the bus for changing."""
    return [operation.access is Access.READ, True, not operation.changes, operation.changes]


def test_the_modes_are_those_of_the_sockets() -> None:
    page = read_page()
    assert f"`api-ro.sock` (0{_READ_MODE:o})" in page
    assert f"`api.sock` (0{_FULL_MODE:o}, root and `libvirt`)" in page


def test_it_names_nothing_in_another_form() -> None:
    """A name that the patterns above miss would be believed, and not looked at."""
    named = set(re.findall(r"`([^`]*\.py::[^`]*)`", read_page()))
    known = {f"{file}::{name}" + (f" = {value}" if value else "") for file, name, value in read_names()}
    assert named == known | {"::".join(pair) for pair in read_tests()}
