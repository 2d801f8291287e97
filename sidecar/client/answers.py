"""What an answer carries: a JSON document, or the problem that such a document names.

``http.client`` reads it from the socket, and bounds its head: a hundred headers of 64 KiB each. It reads HTTP
generously; what is nonsense to it or here is no answer of sidecard's.
"""

from http.client import HTTPException, HTTPResponse, IncompleteRead
from typing import Any

from sidecar.api.problems import Problem
from sidecar.client.strict_json import load_json

# Hundreds of domains with all that their guests told take a few MiB.
BODY_LIMIT_BYTES = 64 * 1024 * 1024

# Members of a problem document that are no details of the problem (RFC 9457), or no names.
_PROBLEM_MEMBERS = {"type", "title", "status", "instance", "code", "detail", "self"}

ANSWER_ERRORS = (OSError, HTTPException, EOFError, ValueError)
"""What reading an answer raises: the connection broke or was silent for too long, or what came is nonsense."""


def is_nonsense(error: Exception) -> bool:
    """Whether that much came, and is no answer; what ends too early is a connection that broke."""
    return isinstance(error, ValueError | HTTPException) and not isinstance(error, ConnectionError | IncompleteRead)


def is_good(response: HTTPResponse) -> bool:
    """Whether the answer is what was asked for, and no problem."""
    return 200 <= response.status < 300


def read_document(response: HTTPResponse) -> Any:
    """The body as a JSON document. Raises ``ValueError`` when it is none, or too large, and what the socket raises."""
    body = response.read(BODY_LIMIT_BYTES + 1)
    if len(body) > BODY_LIMIT_BYTES:
        raise ValueError(f"an answer of more than {BODY_LIMIT_BYTES >> 20} MiB")
    if response.length:  # which http.client leaves to who asks for a part
        raise IncompleteRead(body, response.length)
    return load_json(body)


def read_problem(response: HTTPResponse, document: Any) -> Problem:
    """The problem that a document of RFC 9457 names. Raises ``ValueError`` when it names none."""
    code = document.get("code") if isinstance(document, dict) else None
    if not (code and isinstance(code, str)):
        raise ValueError(f"HTTP status {response.status} without a problem document")
    extra = {key: value for key, value in document.items() if key not in _PROBLEM_MEMBERS and isinstance(value, str)}
    return Problem(code, str(document.get("detail", code)), extra)
