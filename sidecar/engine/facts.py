"""What a guest told of itself last, with the time, so that it can be served also while nobody can ask the guest."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from sidecar.api.views import FactView
from sidecar.engine.clocks import render_time
from sidecar.protocol.fact_content import FactContent, read_content
from sidecar.protocol.ovirt_facts import read_fact
from sidecar.protocol.states import Dialect

_READERS: Mapping[Dialect, Callable[[FactContent], object]] = MappingProxyType(
    {Dialect.OVIRT: read_fact, Dialect.QGA: read_content}
)


@dataclass(frozen=True, slots=True)
class _Telling:
    dialect: Dialect
    content: FactContent
    received: datetime
    received_at: float


class Facts:
    """The newest word of each channel on each matter, during one stay; it outlives the channel that told it.

    Each name's content is bounded where it comes in, and the names are those of two tables: a guest cannot fill our
    memory.
    """

    def __init__(self, wall_clock: Callable[[], datetime], loop_time: Callable[[], float]) -> None:
        self._wall_clock, self._loop_time = wall_clock, loop_time
        self._told: dict[tuple[str, str], _Telling] = {}

    def note(self, name: str, channel: str, dialect: Dialect, content: FactContent) -> None:
        """The guest told this just now; ``name`` is the message's, or the command's that was answered."""
        self._told[name, channel] = _Telling(dialect, content, self._wall_clock(), self._loop_time())

    def views(self) -> tuple[FactView, ...]:
        """All that is known, by name, then channel; what turns out to be unusable is left out.

        Decodes everything: some milliseconds for an honest guest, a tenth of a second for the worst.
        """
        now = self._loop_time()
        views = (_view(name, channel, self._told[name, channel], now) for name, channel in sorted(self._told))
        return tuple(view for view in views if view is not None)


def _view(name: str, channel: str, telling: _Telling, now: float) -> FactView | None:
    try:
        value = _READERS[telling.dialect](telling.content)
    except ValueError:
        return None
    return FactView(
        name=name,
        channel=channel,
        dialect=telling.dialect.value,
        received=render_time(telling.received),
        age_seconds=round(now - telling.received_at, 3),
        truncated=telling.content.truncated,
        value=value,
    )
