"""A guest's tools in the record, as they should be now: who tells of them, and what this host makes of it."""

from collections.abc import Callable
from dataclasses import replace

from sidecar.engine.clocks import GuestClock
from sidecar.engine.entry import GuestTimer
from sidecar.engine.settings import Surroundings
from sidecar.protocol.qga_versions import share_numbering
from sidecar.protocol.tools import Source, ToolsReport, ToolsState, ToolsVersion, Tristate, is_up_to_date, judge
from sidecar.record.agreement import ToolsRow

# Two heartbeats of an original agent, and what it sends again when it has been told the version. A better source than
# those that speak at once would come and go with every arrival, and with every restart of an agent, otherwise.
CARRIED_FIRST_S = 10.0

# Of several channels that tell by one source the first counts: the oVirt ones, of which one speaks, and libvirt's own
# have this name here, the QGA ones that are dialled directly have theirs. The order in the XML would not do: a channel
# that is plugged again is the last one, until the daemon restarts.
FIRST_CHANNEL = ""

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
        self._told: dict[tuple[int, str], ToolsReport] = {}
        self._found: dict[str, Tristate] = {}
        self._carried = None if carried is None else _read_report(carried)
        self._carried_upgradable = Tristate.UNKNOWN if carried is None else _read_upgradable(carried)
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
        """What the report is to be compared with."""
        current = self._surroundings.settings.tools_current.get(report.source)
        if report.source is not Source.QGA or current is None:
            return current
        return current if share_numbering(report.version.major, current.major) else None

    @property
    def _report(self) -> ToolsReport | None:
        best = self._told[min(self._told)] if self._told else None
        if self._carried is not None and (best is None or self._carried.source.rank <= best.source.rank):
            best = self._carried
        if best is None or best.source is Source.GUEST_TOOLS:
            return best
        upgradable = self._found[min(self._found)] if self._found else self._carried_upgradable
        return replace(best, upgradable=upgradable)

    # What the channels tell.

    def has_told(self, source: Source) -> bool:
        """Whether this source has told of tools since the guest is here, or may be about to tell them again."""
        expected = self._carried is not None and self._carried.source is source and not self._carried_is_late
        return expected or any(report.source is source for report in self._told.values())

    def tell(self, source: Source, report: ToolsReport | None, channel: str = FIRST_CHANNEL) -> None:
        """A source tells what the guest has; ``None``: by this source it has no tools (any more).

        ``channel``: see ``FIRST_CHANNEL``.
        """
        before = self.row
        rank = source.rank, channel
        if report is None:
            self._told.pop(rank, None)
        else:
            self._told[rank] = report
        if self._replaces_carried(source, report, channel):
            self._carried = None
        self._notify(before)

    def _replaces_carried(self, source: Source, report: ToolsReport | None, channel: str) -> bool:
        if self._carried is None or (report is None and source is not self._carried.source):
            return False
        return self._carried_is_late or (source.rank, channel) <= (self._carried.source.rank, FIRST_CHANNEL)

    @property
    def _carried_is_late(self) -> bool:
        return self._clock.now() >= self._carried_first_until

    def renew(self, *sources: Source) -> None:
        """Whoever told by these may be gone: what it told stands like what came along, until the guest tells anew."""
        gone = [report for report in self._told.values() if report.source in sources]
        self._told = {rank: report for rank, report in self._told.items() if report not in gone}
        if self._carried is not None:
            gone.append(self._carried)
        best = min(gone, key=lambda report: report.source.rank, default=None)
        if best is not None and best.source in sources:
            self._carried = best
            self._carried_first_until = self._clock.now() + CARRIED_FIRST_S
            self.clock_changed()

    def tell_upgradable(self, upgradable: Tristate, channel: str = FIRST_CHANNEL) -> None:
        """The guest's file system was looked at; counts for the sources that cannot tell by themselves.

        ``channel``: see ``FIRST_CHANNEL``.
        """
        before = self.row
        self._found[channel] = upgradable
        self._notify(before)

    def _notify(self, before: ToolsRow | None) -> None:
        if self.row != before:
            self._changed()

    # What the stay tells.

    def start_afresh(self) -> None:
        """The guest was started, and did not come from anywhere: what came along is of an earlier life."""
        self._carried, self._carried_upgradable = None, Tristate.UNKNOWN

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
    """Without a verdict there, nobody knows whether the version is all that the guest had told: it is not compared.

    ``up-to-date`` is none where ``upgradable`` is false: it says nothing of the version then.
    """
    complete = row.up_to_date is not Tristate.UNKNOWN and row.upgradable is not Tristate.FALSE
    return ToolsReport(row.source, row.version, complete, row.upgradable)


def _read_upgradable(row: ToolsRow) -> Tristate:
    """What is known of the sources that cannot tell by themselves; ``guest-tools`` speaks for itself alone."""
    return Tristate.UNKNOWN if row.source is Source.GUEST_TOOLS else row.upgradable
