"""The API's description."""

import json
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from sidecar.api.operations import COMMON_PROBLEMS, OPERATIONS
from sidecar.api.problems import PROBLEMS
from sidecar.api.versions import API_VERSION, ApiVersion
from sidecar.bindings.openapi import describe_api
from tests.bindings.rest_client import RestClient

DOCUMENT = describe_api(API_VERSION)


def described_operations(document: dict[str, Any]) -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Path, method and description by name."""
    return {
        described["operationId"]: (path, method, described)
        for path, methods in document["paths"].items()
        for method, described in methods.items()
    }


@pytest.mark.parametrize("version", [ApiVersion(1, minor) for minor in range(API_VERSION.minor + 1)], ids=str)
def test_is_valid(version: ApiVersion) -> None:
    document = describe_api(version)
    OpenAPIV31SpecValidator(document).validate()
    assert json.loads(json.dumps(document)) == document
    assert document["info"]["version"] == str(version)


async def test_is_served(rest: RestClient) -> None:
    assert (await rest.get("/v1/openapi.json")).document == DOCUMENT


def test_has_every_operation_at_every_path() -> None:
    described = described_operations(DOCUMENT)
    assert described.keys() == OPERATIONS.keys() | {"doctor_domain", "openapi", "metrics"}
    for operation in OPERATIONS.values():
        for name, path in zip((operation.name, f"{operation.name}_domain"), operation.paths, strict=False):
            assert described[name][:2] == (path, operation.method.lower())


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda operation: str(operation.name))
def test_lists_every_argument_and_every_problem(operation: Any) -> None:
    path, _, described = described_operations(DOCUMENT)[operation.name]
    for argument in operation.arguments:
        in_path = f"{{{argument.name}}}" in path
        if operation.method == "POST" and not in_path:
            schema = described["requestBody"]["content"]["application/json"]["schema"]
            assert argument.is_body or argument.name in schema["properties"]
            continue
        (parameter,) = [item for item in described["parameters"] if item.get("name") == argument.name]
        assert parameter["in"] == ("path" if in_path else "query")
        assert parameter["required"] == (in_path or argument.required)
    for code in (*COMMON_PROBLEMS, *operation.problems):
        content = described["responses"][str(PROBLEMS[code].status)]["content"]
        assert code in content["application/problem+json"]["schema"]["properties"]["code"]["enum"]


def test_an_older_daemon_describes_what_it_serves() -> None:
    names = described_operations(describe_api(ApiVersion(1, 0))).keys()
    assert "send" in names
    assert not names & {"wait", "events", "preflight", "doctor", "doctor_domain"}


def test_every_schema_is_used() -> None:
    text = json.dumps(DOCUMENT)
    for name in DOCUMENT["components"]["schemas"]:
        assert name == "Event" or f'"#/components/schemas/{name}"' in text
