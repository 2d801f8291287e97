"""``Client``: one method an operation, named and typed as the table has them (``sidecar.api.operations``)."""

from collections.abc import Mapping
from typing import Any, Self

from sidecar.api.versions import ApiVersion
from sidecar.api.views import (
    DoctorView,
    DomainView,
    FleetForecastView,
    FleetView,
    ForgottenView,
    GuestView,
    HostView,
    MessageView,
    PreflightView,
    SentView,
    SummaryView,
    VersionView,
)
from sidecar.client.connection import Connection
from sidecar.client.documents import Documents
from sidecar.client.event_stream import EventStream
from sidecar.client.line import Line

DEFAULT_SOCKET = "/run/sidecar/api.sock"
"""Every operation, for root and the libvirt group."""

READONLY_SOCKET = "/run/sidecar/api-ro.sock"
"""What every local user may read."""


class Client:
    """A client of the daemon, for one thread at a time; the connection is opened when it is needed, and kept.

    Every method raises what ``Documents.request`` raises: ``ProblemError``, ``DaemonUnreachableError`` and
    ``VersionCapError``. ``domain`` is a name or UUID, ``channel`` a target name; without one, the daemon chooses.

    Attributes:
        documents: The same operations by name, with JSON documents for results.
    """

    def __init__(
        self,
        socket: str = DEFAULT_SOCKET,
        *,
        version_cap: ApiVersion | str | None = None,
        timeout_s: float = 30.0,
        line: Line | None = None,
    ) -> None:
        """Nothing is opened yet.

        Args:
            socket: The path of the daemon's socket.
            version_cap: Speak no newer version of the API than this; by default what the operation needs.
            timeout_s: How long the daemon may be silent; with ``send``, ``wait`` and all else that has a time of its
                own that time, and 10 s more.
            line: Another way to a daemon than this host's socket; then ``socket`` and ``timeout_s`` do not matter.

        Raises:
            VersionCapError: The cap is of another major.
            ValueError: The cap is no version.
        """
        cap = ApiVersion.parse(version_cap) if isinstance(version_cap, str) else version_cap
        self._line = Connection(socket, timeout_s) if line is None else line
        self.documents = Documents(self._line, cap)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def connect(self) -> None:
        """Open the connection now, to know whether one may."""
        self._line.open()

    def close(self) -> None:
        """Close the connection; another call would open it again."""
        self._line.close()

    def host(self) -> HostView:
        """This host and what it offers."""
        return self.documents.view(HostView, "host")

    def can_send_version(self, version: ApiVersion | str) -> bool:
        """Whether the daemon serves a caller that speaks this version of the API."""
        return self.documents.view(VersionView, "can_send_version", version=str(version)).allowed

    def list(self) -> tuple[DomainView, ...]:
        """Every domain that runs here: channels, agreement, tools."""
        return self.documents.views(DomainView, "list")

    def show(self, domain: str) -> DomainView:
        """One domain: channels, agreement, tools."""
        return self.documents.view(DomainView, "show", domain=domain)

    def guest(self, domain: str) -> GuestView:
        """What the guest told of itself last, each with its age; during a migration, too."""
        return self.documents.view(GuestView, "guest", domain=domain)

    def messages(self, domain: str, channel: str | None = None) -> tuple[MessageView, ...]:
        """The message table, with what may be sent now and, where not, why."""
        return self.documents.views(MessageView, "messages", domain=domain, channel=channel)

    def can_send(self, domain: str, message: str, channel: str | None = None) -> MessageView:
        """Whether a message may be sent now."""
        return self.documents.view(MessageView, "can_send", domain=domain, message=message, channel=channel)

    def send(
        self,
        domain: str,
        message: str,
        arguments: Mapping[str, Any] | None = None,
        timeout_s: float = 10.0,
        channel: str | None = None,
    ) -> SentView:
        """Send a message, when it may be sent, and wait for its answer where it has one; never sent twice."""
        own = None if arguments is None else dict(arguments)
        return self.documents.view(
            SentView, "send", domain=domain, message=message, arguments=own, timeout=timeout_s, channel=channel
        )

    def renegotiate(self, domain: str, channel: str | None = None) -> DomainView:
        """Forget what was agreed and negotiate anew; the answer does not wait for the agent's."""
        return self.documents.view(DomainView, "renegotiate", domain=domain, channel=channel)

    def wait(
        self, domain: str, state: str = "agreed", timeout_s: float = 60.0, channel: str | None = None
    ) -> DomainView:
        """The domain as soon as this arrival's record stands with that state; else a problem, not-in-time."""
        return self.documents.view(
            DomainView, "wait", domain=domain, **{"for": state}, timeout=timeout_s, channel=channel
        )

    def preflight(self, domain: str, offer: Mapping[str, Any]) -> PreflightView:
        """What the guest would lose on another host, before it moves there; ``offer`` is that host's ``host``."""
        return self.documents.view(PreflightView, "preflight", domain=domain, offer=dict(offer))

    def preflight_to(self, domain: str, host: str, timeout_s: float = 5.0) -> PreflightView:
        """The same for a host of the fleet, which is asked for its offer over the message bus."""
        return self.documents.view(PreflightView, "preflight_to", domain=domain, host=host, timeout=timeout_s)

    def doctor(self, domain: str | None = None) -> DoctorView:
        """What is wrong with host, hook, sockets and channels, or with one domain's, and how to mend it."""
        return self.documents.view(DoctorView, "doctor", domain=domain)

    def summary(self) -> SummaryView:
        """This host in a line: its offer, how many guests run, the oldest agreement in each dialect."""
        return self.documents.view(SummaryView, "summary")

    def fleet(self, timeout_s: float = 5.0) -> FleetView:
        """Every host of the fleet, and who did not answer in time."""
        return self.documents.view(FleetView, "fleet", timeout=timeout_s)

    def fleet_forget(self, host: str) -> ForgottenView:
        """Have every host of the fleet count a host no more that will not come back."""
        return self.documents.view(ForgottenView, "fleet_forget", host=host)

    def fleet_preflight(self, host: str, timeout_s: float = 5.0) -> FleetForecastView:
        """For every guest of a host: which hosts would keep its agreement, and what the others lose."""
        return self.documents.view(FleetForecastView, "fleet_preflight", host=host, timeout=timeout_s)

    def events(self, domain: str | None = None, after: str | None = None) -> EventStream:
        """What happens from now on, or, with an event's ``id``, after it; over a connection of its own."""
        return self.documents.follow(domain=domain, after=after)
