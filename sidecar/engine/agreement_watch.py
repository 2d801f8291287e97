"""Counts for the tally what is agreed on the channels of one stay, and how soon after its guest came."""

from collections.abc import Callable, Iterable

from sidecar.engine.channel import Channel
from sidecar.engine.tally import Tally


class AgreementWatch:
    """See the module; told by the ``Stay``, which knows when its guest comes and when a channel changed."""

    def __init__(self, tally: Tally, loop_time: Callable[[], float]) -> None:
        """``loop_time`` is the event loop's clock."""
        self._tally, self._loop_time = tally, loop_time
        self._counted: dict[Channel, int] = {}
        self._awaited: set[Channel] = set()
        self._ran_at: float | None = None

    def expect(self, channels: Iterable[Channel]) -> None:
        """The guest comes, and we see it come: the first agreement on each of these channels is timed.

        Not so on a channel that is plugged later, or while somebody before us has followed this guest.
        """
        self._awaited = set(channels)

    def guest_runs(self) -> None:
        """The guest runs; the first time counts, not that a paused start is there."""
        if self._ran_at is None:
            self._ran_at = self._loop_time()

    def follow(self, channels: Iterable[Channel]) -> None:
        """These channels are there, and on any of them something may have been agreed."""
        before, self._counted = self._counted, {channel: channel.agreements for channel in channels}
        for channel, count in self._counted.items():
            self._tally.negotiations[channel.dialect] += count - before.get(channel, 0)
        if self._ran_at is not None:
            self._time(self._ran_at)

    def _time(self, ran_at: float) -> None:
        # A guest may be heard a moment before libvirt tells that it runs; that took no time.
        for channel in [channel for channel in self._awaited if self._counted.get(channel)]:
            self._tally.resume_to_agreed[channel.dialect].observe(self._loop_time() - ran_at)
            self._awaited.remove(channel)
        self._awaited &= self._counted.keys()
