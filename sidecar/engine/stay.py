"""One QEMU process's stay on this host: its phase, its channels, its record.

A stay begins when a domain is first seen under a new ``run`` token and ends with the process. Its arrival is counted
once: when the guest first runs here (a paused start: when it started), or never, when a migration is cancelled.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from types import MappingProxyType

from sidecar.api.views import DomainView
from sidecar.engine.agreement_watch import AgreementWatch
from sidecar.engine.channel import Channel
from sidecar.engine.clocks import GuestClock, render_time
from sidecar.engine.domain_views import view_domain
from sidecar.engine.facts import Facts
from sidecar.engine.news import StayNews
from sidecar.engine.ports import Activity, DomainSnapshot
from sidecar.engine.record_log import RecordLog
from sidecar.engine.recorder import Recorder
from sidecar.engine.sending import choose_channel
from sidecar.engine.settings import Surroundings
from sidecar.engine.stay_channels import StayChannels
from sidecar.engine.tools import ToolsEntry
from sidecar.record.agreement import ARRIVALS_LIMIT, Agreement, Origin, is_written_by_us

logger = logging.getLogger(__name__)

# An operator who wants a channel renegotiated again within this time gets what is under way already.
RENEGOTIATE_PAUSE_S = 1.0


class Phase(Enum):
    """Where the guest is."""

    EXPECTED = "QEMU is here, its guest not yet: attached, first words queued, nothing counted or written"
    RUNNING = "the guest runs here"
    PAUSED = "the guest is here and stands"


class Turn(Enum):
    """What can happen to the guest's CPUs."""

    RUNS = "they run"
    STANDS = "they stand"
    HERE_PAUSED = "they stand, and the guest belongs here already: a paused start"


PHASES: Mapping[tuple[Phase, Turn], Phase] = MappingProxyType(
    {
        (Phase.EXPECTED, Turn.RUNS): Phase.RUNNING,
        (Phase.EXPECTED, Turn.HERE_PAUSED): Phase.PAUSED,
        (Phase.RUNNING, Turn.STANDS): Phase.PAUSED,
        (Phase.RUNNING, Turn.HERE_PAUSED): Phase.PAUSED,
        (Phase.PAUSED, Turn.RUNS): Phase.RUNNING,
    }
)
"""Every legal move; leaving EXPECTED is the arrival."""


_ACTIVITIES = {Phase.EXPECTED: "incoming", Phase.RUNNING: "running", Phase.PAUSED: "paused"}


class Stay:
    """See the module. ``run`` owns the tasks; the other methods are told by the ``Domain``, on the loop's thread."""

    def __init__(self, snapshot: DomainSnapshot, surroundings: Surroundings) -> None:
        """Read what came along; nothing is dialled or written before ``run``."""
        self.run_token = snapshot.run
        self._surroundings = surroundings
        self._name, self._uuid, self._label = snapshot.name, snapshot.uuid, ascii(snapshot.name)
        self._view: DomainView | None = None
        self._renegotiated_at: dict[str, float] = {}
        self._phase = Phase.EXPECTED
        self._clock = GuestClock(asyncio.get_running_loop().time)
        self._record_present = snapshot.record_present
        self._count = snapshot.record.arrivals if snapshot.record else 0
        if snapshot.record_present and snapshot.record is None:
            logger.warning("%s: the record that came along is broken; its count starts anew", self._label)
        self._origin: Origin | None = None
        # The arrival is counted already when the record that came along is of this host and this QEMU process.
        own = self._own_record(snapshot.record)
        self._arrival = own
        self._log = RecordLog(self._label, own)
        self._news = StayNews(snapshot.name, snapshot.uuid, surroundings.events, own)
        tally = surroundings.tally
        self._recorder = Recorder(surroundings.hypervisor, snapshot.uuid, self._label, own, self._recorded, tally)
        self._watch = AgreementWatch(tally, asyncio.get_running_loop().time)
        came_along = None if snapshot.record is None else snapshot.record.tools
        self._tools = ToolsEntry(came_along, surroundings, self._clock, self._publish)
        self._facts = Facts(surroundings.wall_clock, asyncio.get_running_loop().time)
        self._channels = StayChannels(
            snapshot.uuid,
            snapshot.pid,
            self._label,
            surroundings,
            self._clock,
            own,
            None if own else snapshot.record,
            self._tools,
            self._facts,
            self._publish,
        )

    def _own_record(self, record: Agreement | None) -> Agreement | None:
        """The record of this arrival, when a daemon before us wrote it; a host that was renamed has its new name."""
        identity = self._surroundings.identity
        if record is None or (record.host_uuid, record.run) != (identity.uuid, self.run_token):
            return None
        return replace(record, host=identity.hostname) if is_written_by_us(record) else None

    async def run(self, snapshot: DomainSnapshot, came: Origin | None) -> None:
        """Attach to the channels and keep the record, until cancelled; closes every connection on the way out."""
        async with asyncio.TaskGroup() as group:
            self._channels.start(group)
            try:
                group.create_task(self._recorder.run())
                self.look(snapshot, came)
                await asyncio.Event().wait()  # until we are cancelled, or one of the tasks fails
            finally:
                self._tools.close()
                self._channels.close()

    def end(self) -> None:
        """The QEMU process is gone."""
        if self._arrival is not None:
            self._news.note_left(self._arrival)

    @property
    def expected(self) -> bool:
        """Whether the guest has not arrived yet."""
        return self._phase is Phase.EXPECTED

    @property
    def unrecorded(self) -> bool:
        """Whether nothing of this stay stands in the XML yet."""
        return self._recorder.recorded is None

    @property
    def origin(self) -> Origin | None:
        """How the domain came, as far as anybody told."""
        return self._origin

    # What the domain tells.

    def look(self, snapshot: DomainSnapshot, came: Origin | None) -> None:
        """Take a fresh look at the same QEMU process; ``came``: how it came, when the notice behind the look tells."""
        self._origin = came or self._origin or snapshot.origin
        self._channels.replace(snapshot.channels)
        if snapshot.activity is Activity.RUNNING:
            self.turn(Turn.RUNS)
        elif snapshot.activity is Activity.PAUSED:
            # A guest that was restored or migrated in, and left paused, arrives when it resumes.
            here = self._arrival is not None or self._origin in (Origin.START, Origin.ATTACH)
            self.turn(Turn.HERE_PAUSED if here else Turn.STANDS)
        self._recorder.look_again()

    def turn(self, turn: Turn, told: Origin | None = None, *, job_over: bool = False) -> None:
        """The guest's CPUs started or stopped.

        Args:
            turn: Which.
            told: How the domain came, as far as libvirt's event tells.
            job_over: The event also means that no job holds the domain (but for its last milliseconds).
        """
        phase = PHASES.get((self._phase, turn))
        if phase is not None:
            arriving = self._phase is Phase.EXPECTED
            self._phase = phase
            self._set_clock()
            if arriving:
                self._arrive(self._origin or told or Origin.ATTACH)
            if phase is Phase.RUNNING:
                self._watch.guest_runs()
            self._publish(at_once=job_over)
        self._recorder.look_again(at_once=job_over and self._phase is not Phase.EXPECTED)

    def _set_clock(self) -> None:
        if self._phase is Phase.RUNNING:
            self._clock.start()
        else:
            self._clock.stop()
        self._tools.clock_changed()
        for channel in self._channels:
            channel.clock_changed()

    def port_changed(self, alias: str, opened: bool) -> None:
        """QEMU reports the guest's end of the channel with this device alias."""
        for channel in self._channels:
            if channel.device.alias == alias:
                channel.port_changed(opened)

    def agent_changed(self, connected: bool) -> None:
        """Libvirt reports its connection to the QEMU guest agent."""
        for channel in self._channels:
            channel.agent_changed(connected)

    def record_touched(self) -> None:
        """Somebody wrote or removed our element, or defined the configuration anew."""
        self._recorder.record_touched()

    def settings_changed(self) -> None:
        """The configuration was read again."""
        for channel in self._channels:
            channel.settings_changed()
        self._publish()  # another version of the tools may be current

    def connection_renewed(self) -> None:
        """Libvirt was away; a look follows."""
        self.reports_lost()
        self._recorder.connection_renewed()

    def reports_lost(self) -> None:
        """What libvirt told of the channels' ends did not all reach us; a look follows."""
        for channel in self._channels:
            channel.reports_lost()

    # What others ask for.

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The channels that are there now."""
        return tuple(self._channels)

    @property
    def phase(self) -> Phase:
        """Where the guest is."""
        return self._phase

    @property
    def view(self) -> DomainView:
        """The domain as it is now; the same object as long as nothing changes."""
        recorded = self.recorded
        if self._view is None or self._view.recorded != recorded:
            activity, rows = _ACTIVITIES[self._phase], self._channels.rows
            parts = self._name, self._uuid, self.run_token, activity, self._arrival, rows, self._tools
            self._view = view_domain(*parts, recorded=recorded)
        return self._view

    @property
    def recorded(self) -> bool:
        """Whether the live XML holds what is known now."""
        return self._recorder.settled and self._channels.settled

    def renegotiate(self, name: str | None) -> None:
        """Negotiate anew on the channel of this name, or on all of them."""
        now = self._clock.now()
        for channel in self._channels:
            before = self._renegotiated_at.get(channel.device.name, float("-inf"))
            if name in (None, channel.device.name) and now >= before + RENEGOTIATE_PAUSE_S:
                self._renegotiated_at[channel.device.name] = now
                channel.renegotiate()

    @property
    def facts(self) -> Facts:
        """What the guest told of itself since it is here."""
        return self._facts

    async def refresh_facts(self) -> None:
        """Have those asked that tell nothing by themselves; takes 2 s at most, and raises nothing."""
        await asyncio.gather(*(channel.refresh() for channel in self._channels))

    def choose_channel(self, message: str, channel: str | None) -> Channel:
        """See ``engine.sending``."""
        return choose_channel(self._channels, message, channel)

    # The arrival.

    def _arrive(self, origin: Origin) -> None:
        if self._arrival is not None:
            return  # counted already, by us or by the daemon before us
        if origin is Origin.START:
            self._tools.start_afresh()
        identity = self._surroundings.identity
        self._arrival = Agreement(
            host=identity.hostname,
            host_uuid=identity.uuid,
            run=self.run_token,
            arrival=origin,
            arrivals=min(self._count + 1, ARRIVALS_LIMIT - 1),
            arrived=render_time(self._surroundings.wall_clock()),
            channels=(),
        )
        for channel in self._channels:
            channel.arrived()
        logger.info("%s: arrived (%s), arrival %d", self._label, origin, self._arrival.arrivals)
        self._news.note_arrival(self._arrival)
        self._surroundings.tally.arrivals[origin] += 1
        if origin is not Origin.ATTACH:
            self._watch.expect(self._channels)

    def _publish(self, *, at_once: bool = False) -> None:
        self._view = None
        self._watch.follow(self._channels)
        if self._arrival is None or self._phase is Phase.EXPECTED:
            return
        rows = self._channels.rows
        if not rows and not self._record_present:
            return
        self._record_present = True  # from now on a channel that is unplugged must vanish from it, even the last one
        self._recorder.want(replace(self._arrival, channels=rows, tools=self._tools.row), at_once=at_once)
        self._news.note_rows(rows, self._tools.row, self.recorded)

    def _recorded(self, agreement: Agreement) -> None:
        self._log.note(agreement)
        self._news.note_record(agreement)
