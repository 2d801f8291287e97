"""What the client needs of a way to the daemon; ``Connection`` is one over its socket, ``bus.line`` one over a bus."""

from collections.abc import Mapping
from typing import Any, NoReturn, Protocol, Self

from sidecar.api.operations import Operation
from sidecar.api.versions import ApiVersion
from sidecar.client.event_stream import EventStream


class Line(Protocol):
    """A way to one daemon, for one thread at a time; it carries operations, and judges no versions."""

    @property
    def place(self) -> str:
        """Where the daemon is, for messages."""

    @property
    def served(self) -> ApiVersion | None:
        """The version of the API at the other end, where it said so with its last answer."""

    @property
    def has_sent(self) -> bool:
        """Whether the daemon may have read something of the last request."""

    def check(self) -> bool:
        """Whether it is still the daemon that answered last, so that ``served`` still holds."""

    def open(self) -> object:
        """Have the way open, to know whether one may.

        Raises:
            DaemonUnreachableError: Nobody is there.
        """

    def close(self) -> None:
        """Close it; the next request opens it again."""

    def exchange(self, operation: Operation, arguments: Mapping[str, Any], version: ApiVersion) -> Any:
        """The JSON document that answers an operation; what changes something is sent once at most.

        Args:
            operation: Its row.
            arguments: JSON values by name; ``None`` counts as not given.
            version: What is declared.

        Raises:
            ProblemError: The daemon's problem; or no-answer, bad-reply: there is no answer, and it was sent; or
                bad-request: the arguments cannot be sent.
            DaemonUnreachableError: There is no answer, and nothing was changed.
        """

    def follow(self, operation: Operation, arguments: Mapping[str, Any], version: ApiVersion) -> EventStream:
        """The events that answer an operation that streams; the stream has the line for its own, and closes it.

        Raises:
            ProblemError: The daemon's problem.
            DaemonUnreachableError: There is no answer.
        """

    def misread(self, operation: Operation, why: str) -> NoReturn:
        """Raise what it means that the answer, though a good document, is not that operation's."""

    def another(self) -> Self:
        """One more to the same daemon, which is not open yet."""
