"""A client of REST that holds every exchange against the API's own description."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
from jsonschema import Draft202012Validator
from yarl import URL

from sidecar.api.versions import API_VERSION, ApiVersion
from sidecar.bindings.openapi import describe_api


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The problem's."""
        return str(self.document["code"])


class RestClient:
    """`version` is the daemon's."""

    def __init__(self, session: aiohttp.ClientSession, version: ApiVersion) -> None:
        self._session, self._version = session, version

    async def get(self, path: str, query: str = "", **headers: str) -> Answer:
        return await self.ask("GET", path, query, None, headers)

    async def post(self, path: str, document: object = None, **headers: str) -> Answer:
        return await self.ask("POST", path, "", None if document is None else json.dumps(document).encode(), headers)

    async def ask(
        self, method: str, path: str, query: str = "", body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Ask and check; names of headers have `_` for `-`."""
        url = URL(f"http://localhost{path}{'?' if query else ''}{query}", encoded=True)
        named = {name.replace("_", "-"): value for name, value in (headers or {}).items()}
        async with self._session.request(method, url, data=body, headers=named) as response:
            answer = Answer(response.status, dict(response.headers), await response.read())
        assert answer.headers["Sidecar-API-Version"] == str(self._version)
        described = find_described(self._version, "get" if method == "HEAD" else method.lower(), path)
        if described is None:
            assert answer.status in (404, 405)
            check_schema(self._version, {"$ref": "#/components/schemas/Problem"}, answer.document)
            return answer
        if answer.status == 200:
            check_request(self._version, described, query, body)
        if method != "HEAD":
            check_answer(self._version, described, answer)
        return answer


@asynccontextmanager
async def rest_client(path: Path, version: ApiVersion = API_VERSION) -> AsyncIterator[RestClient]:
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
        yield RestClient(session, version)


@cache
def description(version: ApiVersion) -> dict[str, Any]:
    return describe_api(version)


def find_described(version: ApiVersion, method: str, path: str) -> dict[str, Any] | None:
    """What the document says of the operation at the path."""
    segments = path.split("/")
    for template, methods in description(version)["paths"].items():
        wanted = template.split("/")
        if len(wanted) == len(segments) and all(
            ours == given or (ours.startswith("{") and given) for ours, given in zip(wanted, segments, strict=True)
        ):
            found: dict[str, Any] | None = methods.get(method)
            return found
    return None


def check_request(version: ApiVersion, described: dict[str, Any], query: str, body: bytes | None) -> None:
    """What was done must be what the document lets a client ask."""
    known = {item["name"]: item for item in described.get("parameters", []) if item.get("in") == "query"}
    given = dict(URL(f"/?{query}", encoded=True).query)
    for name, text in given.items():
        schema = known[name]["schema"]
        check_schema(version, schema, float(text) if schema["type"] == "number" else text)
    assert {name for name, item in known.items() if item["required"]} <= given.keys()
    if body:
        content = described["requestBody"]["content"]["application/json"]
        check_schema(version, content["schema"], json.loads(body))
    else:
        assert not described.get("requestBody", {}).get("required", False)


def check_answer(version: ApiVersion, described: dict[str, Any], answer: Answer) -> None:
    """The status is a listed one, and so is the type of what came; its schema holds."""
    listed = described["responses"][str(answer.status)]["content"]
    schema = listed[answer.headers["Content-Type"]]["schema"]
    is_text = schema == {"type": "string"}
    check_schema(version, schema, answer.body.decode() if is_text else answer.document)


def check_schema(version: ApiVersion, schema: dict[str, Any], value: object) -> None:
    whole = {**schema, "components": description(version)["components"]}
    Draft202012Validator(whole).validate(value)
