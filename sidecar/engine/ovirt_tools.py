"""What an oVirt channel tells of the guest's tools: its agent's own message, and the agent's package.

An agent that has gone told of tools that may be gone with it. What it told stands until the next one has had the time
to tell the same: see ``ToolsEntry.renew``.
"""

from sidecar.engine.tools import ToolsEntry
from sidecar.protocol.ovirt_reader import Event, Heartbeat, MessageReceived
from sidecar.protocol.ovirt_tools import GUEST_TOOLS_SINCE, Applications, GuestTools, UpdatedMark
from sidecar.protocol.tools import Source


class OvirtTools:
    """See the module; ``receive`` is told of all that the agent says, in its order."""

    __slots__ = ("_known", "_mark", "_peer", "_settled", "_tools")

    def __init__(self, tools: ToolsEntry, maximum: int) -> None:
        """``maximum`` is this host's, after its cap."""
        self._tools = tools
        self._known = maximum >= GUEST_TOOLS_SINCE
        self._mark = UpdatedMark()
        self._peer: int | None = None
        self._settled = False  # whether a heartbeat has said more than 0, so that a 0 is another agent's greeting

    def set_maximum(self, maximum: int) -> None:
        """This host's cap changed; below 4 what ``guest-tools`` told is not to be had any more."""
        was_known, self._known = self._known, maximum >= GUEST_TOOLS_SINCE
        if was_known and not self._known:
            self._mark.forget()  # the same agent is heard again when the cap is lifted
            self._tools.renew(Source.GUEST_TOOLS)

    def receive(self, event: Event, peer: int) -> None:
        """Take what the agent said; ``peer`` is the session's number for it.

        An agent at 4 from another host says ``guest-tools`` before we agree, and not again after: it is heard at once.
        """
        if peer != self._peer:
            self._peer = peer
            self._meet_peer()
        match event:
            case Heartbeat(offer=offer):
                self._receive_heartbeat(offer)
            case GuestTools(report=report, updated=updated) if self._known and self._mark.advance(updated):
                self._tools.tell(Source.GUEST_TOOLS, report)
            case Applications(report=report):
                self._tools.tell(Source.APPLICATIONS, report)
            case MessageReceived(name="uninstalled"):
                self._tools.tell(Source.GUEST_TOOLS, None)
                self._tools.tell(Source.APPLICATIONS, None)

    def _receive_heartbeat(self, offer: int | None) -> None:
        if offer != 0:
            self._settled = True
        elif self._settled:
            self._meet_peer()
        else:
            # An original agent tells its packages before its first heartbeat, and one at 0 for good says nothing else:
            # neither takes back what it has told. Its clock is not trusted all the same.
            self._mark.forget()

    def _meet_peer(self) -> None:
        self._settled = False
        self._mark.forget()
        self._tools.renew(Source.GUEST_TOOLS, Source.APPLICATIONS)
