"""Operations by name, with their answers as the JSON documents that they are.

Here versions are judged (``api.versions``). Without a cap a request declares the version that brought its operation, so
that a daemon as old as that serves it. Under a cap (oslo.messaging's word) it declares the cap, and what is newer is
not sent: so a program can be tried against what older daemons will take. Once the daemon has said which version it
serves, what is newer than that is not sent either.
"""

from typing import Any, NoReturn, TypeVar

from sidecar.api.operations import OPERATIONS, Operation
from sidecar.api.problems import ProblemCode, ProblemError
from sidecar.api.versions import API_VERSION, ApiVersion
from sidecar.api.views import read_view
from sidecar.client.event_stream import EventStream
from sidecar.client.line import Line
from sidecar.errors import VersionCapError

ViewT = TypeVar("ViewT")


class Documents:
    """See the module; over one line, for one thread at a time."""

    def __init__(self, line: Line, version_cap: ApiVersion | None) -> None:
        """``version_cap`` ``None``: what this code speaks. Raises ``VersionCapError``: a cap of another major."""
        if version_cap is not None and version_cap.major != API_VERSION.major:
            raise VersionCapError(f"version_cap {version_cap}: this client speaks {API_VERSION}, and no other major")
        self._line, self._cap = line, version_cap

    @property
    def has_sent(self) -> bool:
        """Whether the daemon may have read something of the last request: of use to who was interrupted meanwhile."""
        return self._line.has_sent

    def request(self, name: str, /, **arguments: Any) -> Any:
        """The document that answers an operation, keys of newer daemons included.

        Args:
            name: The operation's, of those in ``api.operations`` that do not stream.
            **arguments: JSON values; ``None`` counts as not given.

        Raises:
            ProblemError: The daemon's; or no-answer, bad-reply: a changing operation was sent, and nobody knows.
            DaemonUnreachableError: There is no answer; nothing was changed.
            VersionCapError: The operation is newer than the cap, or than the daemon; nothing was done.
        """
        operation, declared = self._prepare(name)
        try:
            document = self._line.exchange(operation, arguments, declared)
        except ProblemError as error:
            self._judge(operation, declared, error, self._line.served)
            raise
        self._require_same_major(operation, self._line.served)
        return document

    def view(self, kind: type[ViewT], name: str, /, **arguments: Any) -> ViewT:
        """The same, as a view of the kind that the operation results in; raises what ``request`` raises."""
        return self.read(kind, name, self.request(name, **arguments))

    def views(self, kind: type[ViewT], name: str, /, **arguments: Any) -> tuple[ViewT, ...]:
        """The same, of an operation whose result is a list."""
        return self.read_list(kind, name, self.request(name, **arguments))

    def read(self, kind: type[ViewT], name: str, document: Any) -> ViewT:
        """The view in the document that just answered; raises as for an answer that nobody understands."""
        try:
            return read_view(kind, document)
        except (AttributeError, TypeError):
            self._misread(name, "a document of another shape")

    def read_list(self, kind: type[ViewT], name: str, documents: Any) -> tuple[ViewT, ...]:
        """The views in the list that just answered; raises likewise."""
        if not isinstance(documents, list):
            self._misread(name, "no list where one should be")
        return tuple(self.read(kind, name, document) for document in documents)

    def _misread(self, name: str, why: str) -> NoReturn:
        self._line.misread(OPERATIONS[name], why)

    def follow(self, **arguments: Any) -> EventStream:
        """Events from now on, over a line of its own; raises what ``request`` raises."""
        operation, declared = self._prepare("events")
        line = self._line.another()
        try:
            stream = line.follow(operation, arguments, declared)
        except ProblemError as error:
            self._judge(operation, declared, error, line.served)
            raise
        try:
            self._require_same_major(operation, line.served)
        except VersionCapError:
            stream.close()
            raise
        return stream

    def _prepare(self, name: str) -> tuple[Operation, ApiVersion]:
        """The operation's row, and the version to declare with it."""
        operation = OPERATIONS[name]
        declared = operation.since if self._cap is None else min(self._cap, API_VERSION)
        if not declared.serves(operation.since):
            raise VersionCapError(f"{name} came with version {operation.since} of the API, above the cap {self._cap}")
        served = self._line.served if self._line.check() else None
        if served is not None and not served.serves(declared):
            raise self._refuse(operation, served)
        return operation, declared

    def _judge(
        self, operation: Operation, declared: ApiVersion, error: ProblemError, served: ApiVersion | None
    ) -> None:
        """Raise ``VersionCapError`` when this is how the daemon says that it is too old: by version, or by path.

        It may also hand on that another ``host`` is, which its words say: those are left alone.
        """
        wanted: dict[str, ApiVersion] = {
            ProblemCode.UNSUPPORTED_VERSION: declared,
            ProblemCode.UNKNOWN_OPERATION: operation.since,
        }
        version = wanted.get(error.problem.code)
        if version is None or "host" in error.problem.extra:
            return
        if served is None or not served.serves(version):
            raise self._refuse(operation, served) from error

    def _refuse(self, operation: Operation, served: ApiVersion | None) -> VersionCapError:
        wanted = f"{operation.name} came with version {operation.since} of the API"
        if self._cap is not None:
            wanted += f" and is asked for with {min(self._cap, API_VERSION)}"
        return VersionCapError(f"{wanted}; the daemon at {self._line.place} serves {served or 'an older one'}")

    def _require_same_major(self, operation: Operation, served: ApiVersion | None) -> None:
        if served is None or served.major == API_VERSION.major:
            return
        why = f"it is of version {served} of the API, and this client speaks {API_VERSION}"
        if operation.changes:
            self._misread(operation.name, why)
        raise VersionCapError(f"{operation.name}: the answer is not understood: {why}")
