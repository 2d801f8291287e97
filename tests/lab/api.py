"""The API of a lab host's sidecard, as any program uses it."""

from collections.abc import Iterator
from contextlib import contextmanager

from sidecar.api.problems import ProblemError
from sidecar.client import DEFAULT_SOCKET, READONLY_SOCKET, Client
from sidecar.errors import DaemonUnreachableError
from tests.lab.host import Host


@contextmanager
def api(host: Host, *, readonly: bool = False) -> Iterator[Client]:
    """A client of the host's daemon."""
    with Client(str(host.path(READONLY_SOCKET if readonly else DEFAULT_SOCKET))) as client:
        yield client


def wait_for_state(host: Host, domain: str, state: str, channel: str, timeout_s: float) -> None:
    """Return when the daemon says that the record stands so; at once when there is no daemon, or no such channel."""
    try:
        with api(host) as client:
            client.wait(domain, state, timeout_s=timeout_s, channel=channel)
    except DaemonUnreachableError:
        pass
    except ProblemError as error:
        if error.problem.code not in ("not-in-time", "channel-not-found"):
            raise
