"""The API of the daemon for Python programs: synchronous, typed, of the standard library alone.

    from sidecar.client import Client

    with Client() as client:
        for domain in client.list():
            print(domain.name, [(channel.name, channel.state, channel.version) for channel in domain.channels])

Results are the views of ``sidecar.api.views``. A problem that the daemon names is a ``ProblemError``
(``sidecar.api.problems``) with its stable code; without an answer it is a ``DaemonUnreachableError``, or, once
something that changes was sent, a ``ProblemError`` that says that nobody knows; what one of the ends is too old for is
a ``VersionCapError``. See docs/api.md.
"""

from sidecar.client.client import DEFAULT_SOCKET, READONLY_SOCKET, Client
from sidecar.client.event_stream import EventStream

__all__ = ["DEFAULT_SOCKET", "READONLY_SOCKET", "Client", "EventStream"]
