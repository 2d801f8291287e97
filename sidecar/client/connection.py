"""A connection to the daemon's socket: opened when needed, kept open, and nothing that changes is ever sent twice.

How long the daemon may take is how long it may be silent: a time-out of the socket, for each time it is read. A daemon
that trickles could take longer; ours sends an answer in one go.
"""

import select
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from http.client import HTTPResponse
from typing import Any, NoReturn

from sidecar.api.events import Event
from sidecar.api.operations import Operation
from sidecar.api.problems import Problem, ProblemCode, ProblemError
from sidecar.api.versions import ApiVersion
from sidecar.client.answers import ANSWER_ERRORS, is_good, is_nonsense, read_document, read_problem
from sidecar.client.event_stream import EventStream
from sidecar.client.request import VERSION_HEADER, Request, build_request
from sidecar.client.sent_events import read_events
from sidecar.client.unix_http import UnixConnection
from sidecar.errors import DaemonUnreachableError, SidecarError

# What came instead of an answer is quoted up to here.
_QUOTED_CHARACTERS = 200


class Connection:
    """See the module; a ``Line``, for one thread at a time.

    Attributes:
        place: The socket's path.
        timeout_s: For opening it, and for the answers to requests that have no time of their own.
        served: The version of the API at the other end, once it said so on this connection.
    """

    def __init__(self, path: str, timeout_s: float) -> None:
        self.place, self.timeout_s = path, timeout_s
        self.served: ApiVersion | None = None
        self._http = UnixConnection(path, timeout_s)
        self._has_answered = False

    @property
    def has_sent(self) -> bool:
        """Whether the daemon may have read something of the last request."""
        return self._http.has_sent

    def check(self) -> bool:
        """Whether the connection is open; one that the daemon has closed meanwhile is forgotten.

        It may be another daemon's by now, of another version.
        """
        if self._http.sock is None:
            return False
        poll = select.poll()
        poll.register(self._http.sock, select.POLLIN)
        if poll.poll(0):
            self.close()  # the daemon hung up, or said something that nobody asked for
        return self._http.sock is not None

    def open(self) -> socket.socket:
        """Open the connection if it is not.

        Raises:
            SocketForbiddenError: This user may not.
            DaemonUnreachableError: Nobody takes it.
        """
        if self._http.sock is None:
            self._http.connect()
            self.served, self._has_answered = None, False
        return self._http.sock

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._http.close()

    def another(self) -> "Connection":
        """One more to the same socket, which is not open yet."""
        return Connection(self.place, self.timeout_s)

    def exchange(self, operation: Operation, arguments: Mapping[str, Any], version: ApiVersion) -> Any:
        """Send a request; the JSON document that answers it.

        A kept connection can turn out closed: then it is opened anew, once, if the daemon cannot have read anything of
        the request, or the request changes nothing.

        Raises:
            DaemonUnreachableError: There is no answer, and nothing was changed.
            ProblemError: The daemon's problem; or no-answer, bad-reply: there is no answer, and it was sent; or
                bad-request: the arguments cannot be sent.
        """
        request = build_request(operation, arguments, version, self.timeout_s)
        is_kept = self.check() and self._has_answered
        answer = self._try(request)
        # A ConnectionError, http.client's RemoteDisconnected among them, is one that hung up without a word.
        if is_kept and isinstance(answer, ConnectionError) and not (request.changes and self._http.has_sent):
            answer = self._try(request)
        if isinstance(answer, Exception):
            raise self._explain(request.name, answer, request.timeout_s, changes=request.changes) from answer
        if isinstance(answer, Problem):
            raise ProblemError(answer.code, answer.detail, **answer.extra)
        return answer

    def _try(self, request: Request) -> Any:
        """One attempt: the document, a ``Problem``, or what went wrong with the connection."""
        try:
            with self._ask(request) as response:
                document = read_document(response)
            answer = document if is_good(response) else read_problem(response, document)
        except ANSWER_ERRORS as error:
            self.close()
            return error
        except BaseException:
            self.close()  # interrupted: the answer, when it comes, must not be taken for the next one
            raise
        self._has_answered = True
        return answer

    def follow(self, operation: Operation, arguments: Mapping[str, Any], version: ApiVersion) -> EventStream:
        """Send a request whose answer has no end; the events in it, for which is waited without a time-out.

        Raises:
            DaemonUnreachableError: There is no answer.
            ProblemError: The daemon's problem; or bad-request, as above.
        """
        response = self._stream(build_request(operation, arguments, version, self.timeout_s))

        def hang_up() -> None:
            self.close()
            response.close()

        return EventStream(self._follow(response), hang_up)

    def _follow(self, response: HTTPResponse) -> Iterator[Event]:
        try:
            yield from read_events(response)
        except ANSWER_ERRORS as error:
            why = f"what came is no event: {error}" if is_nonsense(error) else "the daemon ended the stream of events"
            raise DaemonUnreachableError(f"{self.place}: {why}") from error

    def _stream(self, request: Request) -> HTTPResponse:
        try:
            connection = self.open()
            response = self._ask(request)
            if is_good(response) and response.headers.get("Content-Type", "").startswith("text/event-stream"):
                connection.settimeout(None)
                return response
            with response:
                problem = read_problem(response, read_document(response))
        except ANSWER_ERRORS as error:
            self.close()
            raise self._explain(request.name, error, request.timeout_s, changes=request.changes) from error
        self.close()
        raise ProblemError(problem.code, problem.detail, **problem.extra)

    def _ask(self, request: Request) -> HTTPResponse:
        self._http.has_sent = False
        self.open().settimeout(request.timeout_s)
        # It may hang up before it has read all; what it said first, if anything, tells why.
        with suppress(BrokenPipeError, ConnectionResetError):
            self._http.request(request.method, request.target, request.body, dict(request.headers))
        response = self._http.getresponse()
        text = response.headers.get(VERSION_HEADER)
        self.served = None if text is None else ApiVersion.parse(text.strip())
        return response

    def misread(self, operation: Operation, why: str) -> NoReturn:
        """Raise what it means that the answer, though a good document, is not that operation's."""
        raise self._explain(operation.name, ValueError(why), self.timeout_s, changes=operation.changes)

    def _explain(self, name: str, error: Exception, timeout_s: float, *, changes: bool) -> SidecarError:
        what = _describe(error, timeout_s)
        if changes and self._http.has_sent:
            code = ProblemCode.BAD_REPLY if is_nonsense(error) else ProblemCode.NO_ANSWER
            return ProblemError(code, f"{name}: it was sent, and nobody knows whether it ran: {what}")
        return DaemonUnreachableError(f"{self.place}: {what}; see the daemon's log (journalctl -u sidecard)")


def _describe(error: Exception, timeout_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"the daemon gave no answer within {timeout_s:g} s"
    if is_nonsense(error):
        return f"what came back is no answer of sidecard's: {str(error)[:_QUOTED_CHARACTERS]}"
    return "the daemon hung up before it had answered"
