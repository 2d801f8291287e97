"""Problems as HTTP shows them."""

import json
from http.client import HTTPResponse
from io import BytesIO

import pytest

from sidecar.api.problems import PROBLEMS, Problem
from sidecar.api.versions import API_VERSION
from sidecar.bindings.exchange import make_problem_response, render_refusal


@pytest.mark.parametrize("code", PROBLEMS)
def test_every_problem_has_a_response(code: str) -> None:
    response = make_problem_response(Problem(code, "so \ud800 it is", {"agreed": "3"}), API_VERSION)
    assert response.status == PROBLEMS[code].status
    assert isinstance(response.body, bytes)
    assert json.loads(response.body) == Problem(code, "so \ud800 it is", {"agreed": "3"}).document
    assert response.headers["Content-Type"] == "application/problem+json"
    assert "Allow" not in response.headers


class Received:
    """What `HTTPResponse` wants of a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> BytesIO:
        return BytesIO(self._data)


def test_the_refusal_is_http() -> None:
    response = HTTPResponse(Received(render_refusal(API_VERSION)))  # type: ignore[arg-type]
    response.begin()
    assert response.status == 503
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Sidecar-API-Version"] == str(API_VERSION)
    assert json.loads(response.read())["code"] == "too-many-connections"
    assert response.will_close
