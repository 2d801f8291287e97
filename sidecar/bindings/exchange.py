"""One HTTP request: who sent it, what it declares, its body; and how a problem is answered.

Source: docs/api.md; RFC 9457 for problem documents.
"""

import asyncio
import functools
import json
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import HttpVersion11, hdrs, web
from multidict import CIMultiDict

from sidecar.api.operations import Access
from sidecar.api.problems import Problem, ProblemCode, ProblemError
from sidecar.api.versions import ApiVersion
from sidecar.config import LimitsSection
from sidecar.engine.bridge import Caller

VERSION_HEADER = "Sidecar-API-Version"
PROBLEM_TYPE = "application/problem+json"

# Nothing that the read-only socket offers takes more than a few names; and to parse a body costs everybody's time.
READ_BODY_BYTES = 64 * 1024

# What a browser says of a request that a page of another site had it make.
_FETCH_SITE = "Sec-Fetch-Site"
_HARMLESS_SITES = ("none", "same-origin")


@dataclass(frozen=True, slots=True)
class Peer:
    """The process that connected, as the kernel knows it."""

    uid: int
    pid: int


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request, of ``peer`` at the socket that gives ``access``."""

    request: web.BaseRequest
    peer: Peer
    access: Access
    limits: LimitsSection

    @property
    def caller(self) -> Caller:
        """For the bridge.

        Raises:
            ProblemError: What the caller declares is no version.
        """
        return Caller(self.peer.uid, self.peer.pid, self.access, self._read_version())

    def _read_version(self) -> ApiVersion | None:
        declared = self.request.headers.getall(VERSION_HEADER, [])
        if not declared:
            return None
        try:
            (text,) = declared
            return ApiVersion.parse(text)
        except ValueError as error:
            raise ProblemError(ProblemCode.BAD_REQUEST, f"{VERSION_HEADER}: {error}") from error

    def refuse_browser(self) -> None:
        """A page that somebody's browser shows must not manage domains, should a proxy stand before the socket.

        Raises:
            ProblemError: A browser sent this for a page.
        """
        headers = self.request.headers
        if hdrs.ORIGIN in headers or headers.get(_FETCH_SITE, "none") not in _HARMLESS_SITES:
            raise ProblemError(ProblemCode.FORBIDDEN, "requests of web pages are not served")

    async def read_body(self) -> bytes:
        """The whole body.

        Raises:
            ProblemError: It is too large, comes too slowly, or is not framed as HTTP wants it.
        """
        limit = self.limits.body_bytes
        if self.access is Access.READ:
            limit = min(limit, READ_BODY_BYTES)
        if (self.request.content_length or 0) > limit:
            raise _too_large(limit)
        try:
            async with asyncio.timeout(self.limits.request_seconds):
                await self._invite_body()
                return await self._collect_body(limit)
        except TimeoutError:
            text = f"the body did not arrive within {self.limits.request_seconds:g} s"
            raise ProblemError(ProblemCode.TOO_SLOW, text) from None
        except web.RequestPayloadError as error:
            raise ProblemError(ProblemCode.BAD_REQUEST, "the body is not framed as HTTP wants it") from error

    async def _invite_body(self) -> None:
        """Some clients send a large body only when they are told that it is welcome."""
        if (
            self.request.version >= HttpVersion11
            and self.request.headers.get(hdrs.EXPECT, "").lower() == "100-continue"
        ):
            await self.request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.request.writer.output_size = 0  # the answer has not begun

    async def _collect_body(self, limit: int) -> bytes:
        body = bytearray()
        while chunk := await self.request.content.readany():
            body += chunk
            if len(body) > limit:
                raise _too_large(limit)
        return bytes(body)


def _too_large(limit: int) -> ProblemError:
    return ProblemError(ProblemCode.TOO_LARGE, f"the body has more than {limit} bytes")


def make_response(body: bytes, content_type: str, version: ApiVersion, status: int = 200) -> web.Response:
    """An answer; ``version`` is what is served."""
    headers = _prepare_headers(content_type, version).copy()
    return web.Response(status=status, body=body, headers=headers)


@functools.cache
def _prepare_headers(content_type: str, version: ApiVersion) -> "CIMultiDict[str]":
    """Made once for each of the few there are; an answer has a copy, since it adds its own."""
    return CIMultiDict({hdrs.CONTENT_TYPE: content_type, **make_headers(version)})


def make_headers(version: ApiVersion) -> dict[str, str]:
    """The headers of every answer; none of them is worth keeping."""
    return {VERSION_HEADER: str(version), hdrs.CACHE_CONTROL: "no-store", hdrs.SERVER: "sidecard"}


def make_problem_response(problem: Problem, version: ApiVersion) -> web.Response:
    """A problem document; after a body that we would not read to its end the connection is closed."""
    response = make_response(_render_problem(problem), PROBLEM_TYPE, version, problem.kind.status)
    if "allow" in problem.extra:
        response.headers[hdrs.ALLOW] = problem.extra["allow"]
    if problem.code in (ProblemCode.TOO_LARGE, ProblemCode.TOO_SLOW):
        response.force_close()
    return response


def render_refusal(version: ApiVersion) -> bytes:
    """The whole answer, as bytes, to a client that is one too many, whatever it asks."""
    problem = Problem(ProblemCode.TOO_MANY_CONNECTIONS, "too many connections are open: try again later")
    status, body = HTTPStatus(problem.kind.status), _render_problem(problem)
    headers = {
        hdrs.CONTENT_TYPE: PROBLEM_TYPE,
        hdrs.CONTENT_LENGTH: str(len(body)),
        hdrs.CONNECTION: "close",
        **make_headers(version),
    }
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _render_problem(problem: Problem) -> bytes:
    # In ASCII, so that no text of a client's or a guest's can make it fail.
    return json.dumps(problem.document).encode()
