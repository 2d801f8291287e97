"""A guest's tools in the record, as they should be now: who tells of them, and what this host makes of it."""

from collections.abc import Callable
from dataclasses import replace

from sidecar.engine.clocks import GuestClock
from sidecar.engine.entry import GuestTimer
from sidecar.engine.settings import Surroundings
from sidecar.protocol.tools import Source, ToolsReport, ToolsState, ToolsVersion, Tristate, is_up_to_date, judge
from sidecar.record.agreement import ToolsRow

# Two heartbeats of an original agent, and what it sends again when it has been told the version. A better source than
# those that speak at once would come and go with every arrival otherwise.
CARRIED_FIRST_S = 10.0

_INFINITY = float("inf")


class ToolsEntry:
    """What the sources tell during one stay; the best of them is the row.

    What a source told stands until it tells something else: the tools do not go away with the channel. Whenever ``row``
    may have changed ``changed`` is called.
    """

    def __init__(
        self, carried: ToolsRow | None, surroundings: Surroundings, clock: GuestClock, changed: Callable[[], None]
    ) -> None:
        """``carried`` is the row of the record that came along: it stands until the guest tells anew."""
        self._surroundings, self._clock, self._changed = surroundings, clock, changed
        self._told: dict[Source, ToolsReport] = {}
        self._carried = None if carried is None else _read_report(carried)
        self._upgradable = Tristate.UNKNOWN if carried is None else carried.upgradable
        self._carried_first_until = clock.now() + CARRIED_FIRST_S
        self._timer = GuestTimer(clock, self._prefer_told)

    @property
    def row(self) -> ToolsRow | None:
        """The element in the record, as it should be now; ``None`` while nobody has told of tools."""
        report = self._report
        if report is None:
            return None
        up_to_date = is_up_to_date(report, self._current(report))
        return ToolsRow(report.source, report.version, report.upgradable, up_to_date)

    @property
    def state(self) -> ToolsState:
        """This host's verdict."""
        report = self._report
        return judge(report, None if report is None else self._current(report))

    def _current(self, report: ToolsReport) -> ToolsVersion | None:
        return self._surroundings.settings.tools_current.get(report.source)

    @property
    def _report(self) -> ToolsReport | None:
        reports = [*self._told.values()] + ([] if self._carried is None else [self._carried])
        if not reports:
            return None
        best = min(reports, key=lambda report: report.source.rank)
        return best if best.source is Source.GUEST_TOOLS else replace(best, upgradable=self._upgradable)

    # What the channels tell.

    def has_told(self, source: Source) -> bool:
        """Whether this source has told of tools since the guest is here."""
        return source in self._told

    def tell(self, source: Source, report: ToolsReport | None) -> None:
        """A source tells what the guest has; ``None``: by this source it has no tools (any more)."""
        before = self.row
        if report is None:
            self._told.pop(source, None)
        else:
            self._told[source] = report
        if self._replaces_carried(source, report):
            self._carried = None
        self._notify(before)

    def _replaces_carried(self, source: Source, report: ToolsReport | None) -> bool:
        if self._carried is None or source is self._carried.source:
            return True
        late = self._clock.now() >= self._carried_first_until
        return report is not None and (late or source.rank < self._carried.source.rank)

    def tell_upgradable(self, upgradable: Tristate) -> None:
        """The guest's file system was looked at; counts for the sources that cannot tell by themselves."""
        before = self.row
        self._upgradable = upgradable
        self._notify(before)

    def _notify(self, before: ToolsRow | None) -> None:
        if self.row != before:
            self._changed()

    # What the stay tells.

    def start_afresh(self) -> None:
        """The guest was started, and did not come from anywhere: what came along is of an earlier life."""
        self._carried, self._upgradable = None, Tristate.UNKNOWN

    def clock_changed(self) -> None:
        """The guest's clock started or stopped."""
        self._timer.set(_INFINITY if self._carried is None else self._carried_first_until)

    def close(self) -> None:
        """The stay is over."""
        self._timer.cancel()

    def _prefer_told(self) -> None:
        before = self.row
        if self._told:
            self._carried = None
        self._notify(before)


def _read_report(row: ToolsRow) -> ToolsReport:
    """Without a verdict there, nobody knows whether the version is all that the guest had told: it is not compared."""
    return ToolsReport(row.source, row.version, row.up_to_date is not Tristate.UNKNOWN, row.upgradable)
