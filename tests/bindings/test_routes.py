"""Paths and methods, as the table has them."""

import pytest

from sidecar.api.operations import OPERATIONS, Operation
from sidecar.api.problems import ProblemError
from sidecar.bindings.routes import find_operation


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda operation: str(operation.name))
def test_finds_every_operation_at_every_path(operation: Operation) -> None:
    for path in operation.paths:
        found, arguments = find_operation(operation.method, path.format(domain="d%20", message="m%2Fn", host="h%2E"))
        assert found is operation
        expected = {"domain": "d ", "message": "m/n", "host": "h."}
        assert arguments == {name: text for name, text in expected.items() if f"{{{name}}}" in path}


def test_one_path_two_methods() -> None:
    path = "/v1/domains/vm/messages/m"
    assert [find_operation(method, path)[0].name for method in ("GET", "HEAD", "POST")] == [
        "can_send",
        "can_send",
        "send",
    ]


@pytest.mark.parametrize("path", ["", "/", "v1/host", "/v1/host/", "/v1/domains//wait", "/v1/{domain}", "/v1/Host"])
def test_nothing_else_is_there(path: str) -> None:
    with pytest.raises(ProblemError) as caught:
        find_operation("GET", path)
    assert caught.value.problem.code == "unknown-operation"


def test_hostile_paths_are_told_in_one_short_line() -> None:
    with pytest.raises(ProblemError) as caught:
        find_operation("GET", "/\x1b[2J\n" + "x" * 10_000)
    assert caught.value.problem.detail.isprintable()
    assert len(caught.value.problem.detail) < 400
