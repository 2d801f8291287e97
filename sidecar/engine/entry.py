"""A channel's row in the record, as it should be now, and the timer for what changes by itself."""

import asyncio
import re
from collections.abc import Callable
from datetime import datetime
from typing import Generic

from sidecar.engine.clocks import GuestClock, render_time
from sidecar.protocol.settling import Settling
from sidecar.protocol.states import ChannelView, Dialect, Reason, State, VersionT
from sidecar.record.agreement import ChannelRow

# A timer fires this much late, and so never a hair too early for the deadline it was set for: it would be set again and
# again until the hair is over.
TIMER_SLACK_S = 0.001

# An API version, or a release: what we write, and nothing that int() takes beside it.
_VERSION = re.compile(r"[0-9]{1,10}|[0-9]{1,9}(\.[0-9]{1,9}){1,3}")

_INFINITY = float("inf")


class Entry(Generic[VersionT]):
    """The settled view of one channel, since when it holds, and both as a row of the record.

    Attributes:
        row: The channel's element in the record, as it should be now.
    """

    def __init__(
        self,
        name: str,
        dialect: Dialect,
        live: ChannelView[VersionT],
        wall_clock: Callable[[], datetime],
        earlier: ChannelView[VersionT] | None = None,
        since: str | None = None,
    ) -> None:
        """``earlier`` and ``since``: what the same QEMU process's record says already."""
        self._name, self._dialect, self._wall_clock = name, dialect, wall_clock
        self._settling: Settling[VersionT] = Settling(earlier or live)
        self._since = since if earlier and since else render_time(wall_clock())
        self.row = self._render_row()

    def _render_row(self) -> ChannelRow:
        view = self._settling.settled
        return ChannelRow(
            name=self._name,
            dialect=self._dialect,
            state=view.state,
            version=str(view.version),
            guest=None if view.guest is None else str(view.guest),
            host=str(view.host),
            since=self._since,
            reason=view.reason,
        )

    @property
    def settled(self) -> bool:
        """Whether the row is what is known now, and no state that may pass is being waited out."""
        return self._settling.deadline == _INFINITY

    @property
    def deadline(self) -> float:
        """When the row will change by itself, in the guest's seconds."""
        return self._settling.deadline

    def begin(self) -> None:
        """The arrival that the row is about is now: it was not in any state before."""
        self._since = render_time(self._wall_clock())
        self.row = self._render_row()

    def update(self, live: ChannelView[VersionT], now: float) -> None:
        """Take the live view as of ``now``, in the guest's seconds."""
        before = self._settling.settled
        self._settling.update(live, now)
        after = self._settling.settled
        if (before.state, before.version) != (after.state, after.version):
            self._since = render_time(self._wall_clock())
        if before != after:
            self.row = self._render_row()


class GuestTimer:
    """Calls ``tick`` once when the guest's clock shows the deadline; it stands while the clock does.

    Each heartbeat puts a deadline off, and the loop is not bothered with that: what it was told of earlier looks then
    whether it is time, and mostly there has been another heartbeat. That is one wake-up in ``responsive_seconds``.
    """

    def __init__(self, clock: GuestClock, tick: Callable[[], None]) -> None:
        self._clock, self._tick = clock, tick
        self._due = _INFINITY
        self._handle: asyncio.TimerHandle | None = None

    def set(self, deadline: float) -> None:
        """Replace the deadline; infinity: none. To be called again when the clock has started or stopped."""
        if not self._clock.running or deadline == _INFINITY:
            self.cancel()
            return
        self._due = self._clock.to_loop_time(deadline) + TIMER_SLACK_S
        if self._handle is None or self._handle.when() > self._due:
            self._arm()

    def cancel(self) -> None:
        """No call any more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self) -> None:
        self.cancel()
        self._handle = asyncio.get_running_loop().call_at(self._due, self._look)

    def _look(self) -> None:
        if self._handle is not None and self._handle.when() < self._due:
            self._arm()
        else:
            self._handle = None
            self._tick()


def read_view(
    row: ChannelRow | None, dialect: Dialect, parse_version: Callable[[str], VersionT]
) -> ChannelView[VersionT] | None:
    """The settled view that a row of our own record stands for; ``None`` when it is not one that we write.

    ``parse_version`` raises ``ValueError`` for a text that is no version.
    """
    if row is None or row.dialect != dialect:
        return None

    def read(text: str) -> VersionT:
        if _VERSION.fullmatch(text) is None:
            raise ValueError("no version")
        return parse_version(text)

    try:
        return ChannelView(
            State(row.state),
            read(row.version),
            None if row.guest is None else read(row.guest),
            read(row.host),
            None if row.reason is None else Reason(row.reason),
        )
    except ValueError:
        return None
