"""The table of operations: sound by itself, and as the contract has it."""

import re
from itertools import chain

from sidecar.api.operations import OPERATIONS, Access
from sidecar.api.problems import PROBLEMS
from sidecar.engine.operations import Operations


def test_every_operation_is_there_under_its_own_name() -> None:
    assert all(hasattr(Operations, name) for name in OPERATIONS if name != "can_send_version")


def test_every_parameter_of_a_path_is_a_text_that_is_required_or_the_paths_choice() -> None:
    for operation in OPERATIONS.values():
        for path in operation.paths:
            for name in re.findall(r"{(\w+)}", path):
                argument = operation.argument(name)
                assert argument is not None
                assert argument.kind.value == "string"
                assert argument.required or len(operation.paths) > 1


def test_no_two_operations_have_one_place() -> None:
    places = [(operation.method, path) for operation in OPERATIONS.values() for path in operation.paths]
    assert len(places) == len(set(places))


def test_only_what_changes_or_has_a_body_is_posted() -> None:
    for operation in OPERATIONS.values():
        has_body = any(argument.is_body for argument in operation.arguments)
        assert (operation.method == "POST") == (operation.changes or has_body)


def test_every_problem_is_known() -> None:
    assert set(chain.from_iterable(operation.problems for operation in OPERATIONS.values())) <= set(PROBLEMS)


def test_the_paths_of_the_contract() -> None:
    domain = "/v1/domains/{domain}"
    assert {(operation.method, path) for operation in OPERATIONS.values() for path in operation.paths} == {
        ("GET", "/v1/host"),
        ("GET", "/v1/can-send-version"),
        ("GET", "/v1/domains"),
        ("GET", domain),
        ("GET", f"{domain}/guest"),
        ("GET", f"{domain}/messages"),
        ("GET", f"{domain}/messages/{{message}}"),
        ("POST", f"{domain}/messages/{{message}}"),
        ("POST", f"{domain}/renegotiate"),
        ("GET", f"{domain}/wait"),
        ("POST", f"{domain}/preflight"),
        ("GET", f"{domain}/doctor"),
        ("GET", "/v1/doctor"),
        ("GET", "/v1/events"),
        ("GET", "/v1/summary"),
        ("GET", f"{domain}/preflight/{{host}}"),
        ("GET", "/v1/fleet"),
        ("POST", "/v1/fleet/{host}/forget"),
        ("GET", "/v1/fleet/{host}/preflight"),
    }


def test_who_may_only_read_gets_no_word_of_the_guests_own() -> None:
    assert {name for name, operation in OPERATIONS.items() if operation.access is Access.FULL} == {
        "guest",
        "send",
        "renegotiate",
        "preflight",
        "doctor",
        "preflight_to",
        "fleet",
        "fleet_forget",
        "fleet_preflight",
    }
