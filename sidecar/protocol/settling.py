"""Which of a channel's live states go on record at once, and which have to last first.

A freshly started agent says 0 before it says what it can; a daemon that restarts knows nothing until the next
heartbeat; a broken connection is mostly dialled again at once. None of these is worth two writes to the domain's
XML, so such a state goes on record only when it lasts. A verdict, or the loss of the guest's end, goes at once.

Source: docs/record.md, "When it is written".
"""

from typing import Generic

from sidecar.protocol.states import ChannelView, Reason, VersionT

# One heartbeat (5 s) and a little.
SETTLE_S = 6.0

_PASSING = {Reason.NOT_HEARD, Reason.AGENT_RESTARTED, Reason.DISCONNECTED}


class Settling(Generic[VersionT]):
    """The settled view of one channel, fed with its live view and the time (monotonic seconds)."""

    __slots__ = ("_due", "settled")

    def __init__(self, settled: ChannelView[VersionT]) -> None:
        self.settled: ChannelView[VersionT] = settled
        self._due = float("inf")

    @property
    def deadline(self) -> float:
        """When a state that has to last becomes the settled one; infinity when none is."""
        return self._due

    def update(self, live: ChannelView[VersionT], now: float) -> None:
        """Take the live view as of ``now``; ``settled`` follows at once or when the deadline has passed."""
        passing = live.reason in _PASSING and live != self.settled
        if passing and self._due == float("inf"):
            self._due = now + SETTLE_S
        if not passing or now >= self._due:
            self.settled, self._due = live, float("inf")
