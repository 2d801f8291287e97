"""The two clocks of the engine: one that stands still while the guest does, and the one on the wall."""

from collections.abc import Callable
from datetime import UTC, datetime


class GuestClock:
    """Monotonic seconds during which the guest could run: deadlines stand still while it is paused or migrating.

    Starts standing; ``loop_time`` is the event loop's clock.
    """

    __slots__ = ("_loop_time", "_offset", "_stopped_at")

    def __init__(self, loop_time: Callable[[], float]) -> None:
        self._loop_time = loop_time
        self._offset = 0.0
        self._stopped_at: float | None = loop_time()

    @property
    def running(self) -> bool:
        """Whether the guest runs."""
        return self._stopped_at is None

    def now(self) -> float:
        """The guest's seconds."""
        return (self._loop_time() if self._stopped_at is None else self._stopped_at) - self._offset

    def to_loop_time(self, guest_time: float) -> float:
        """When the guest's clock will show this, in the loop's seconds, if the guest runs on."""
        return guest_time + self._offset

    def start(self) -> None:
        """The guest runs (again)."""
        if self._stopped_at is not None:
            self._offset += self._loop_time() - self._stopped_at
            self._stopped_at = None

    def stop(self) -> None:
        """The guest stands."""
        if self._stopped_at is None:
            self._stopped_at = self._loop_time()


def utc_now() -> datetime:
    """The time on the wall."""
    return datetime.now(UTC)


def render_time(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds, as the record shows times."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
