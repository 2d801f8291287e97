"""The host's end of the QGA dialect: one session negotiates with one channel's agent during one arrival.

The rules, each of which closes a hole that an implementation fell into (docs/protocol.md, "The QGA dialect"):

* The agent is unknown at every arrival and opening of the guest's end, whatever was recorded: ``guest-info`` is asked
  once, and nothing is asked again while the agent is healthy.
* What an agent cannot be told to have changed is found by the next call that anyone makes: silence, a poisoned
  connection, a freeze. Such an agent alone is asked again: see ``ASK_AGAIN_FIRST_S``.
* A frozen guest has nearly everything disabled and is not judged; what was agreed before stands.
* A command may go when its release is not above the agreed one *and* the agent's last list has it enabled.
* An answer counts for the agent that was asked: when the guest's end opened meanwhile, another is asked anew.

The session has inputs (``port_opened``, ``receive_report``, ``fail``, ``tick``…), ``ask_due`` for whether the agent is
to be asked now, ``deadline`` for when it wants to be told the time, and ``view`` for what it knows. Times are
monotonic seconds of a clock that stands still while the domain does.
"""

from sidecar.errors import Refusal
from sidecar.protocol.flapping import Flapping
from sidecar.protocol.qga_gate import refuse_command
from sidecar.protocol.qga_memory import AgentMemory
from sidecar.protocol.qga_report import Report
from sidecar.protocol.qga_states import MOVES, Stage, Step
from sidecar.protocol.qga_versions import common_release
from sidecar.protocol.releases import Release
from sidecar.protocol.states import ChannelView, Port, Reason, advance

# libvirt changes the live XML and tells of it at the same time: a report that comes later is of another opening.
SAME_REPORT_S = 0.2

# For how long a worker of those that hang is the one to ask it: a little longer than the last pause.
SUSPECT_S = 70.0

# An agent that cannot be judged is asked again after a second, and twice as long each time, up to a minute.
ASK_AGAIN_FIRST_S = 1.0
ASK_AGAIN_LAST_S = 60.0

_AGREED = (Stage.AGREED, Stage.FROZEN)
_INFINITY = float("inf")


class QgaSession:
    """Negotiates with the agent behind one channel; see the module for the rules."""

    def __init__(
        self,
        *,
        maximum: Release,
        absent_s: float,
        now: float,
        port: Port,
        stage: Stage = Stage.UNHEARD,
        offer: str | None = None,
        agreed: Release | None = None,
    ) -> None:
        """Start with everything unknown.

        Args:
            maximum: This host's newest release after its cap.
            absent_s: How long the guest may take to open its end.
            now: The arrival, in the session's seconds.
            port: What the live XML says of the guest's end.
            stage: Where the negotiation stood, when a daemon before us followed this arrival.
            offer: What the agent had called itself then.
            agreed: What was agreed then, if it was.
        """
        self._maximum = maximum
        self._absent_s, self._arrived_at = absent_s, now
        self._port, self._stage = port, stage
        self._version = Release(0, 0)
        self._round = self._agreements = 0
        earlier = None if agreed is None else (offer, agreed)
        self._memory = AgentMemory(None if stage is Stage.UNHEARD else offer, earlier)
        self._heard_at = now
        self._untracked = self._postponed = False
        self._retold = agreed is not None
        self._pause_s = ASK_AGAIN_FIRST_S
        self._suspect_until = -_INFINITY
        self._flapping = Flapping()
        self._now = now
        self._ask_at = _INFINITY
        if port.open:
            self._meet_agent()

    # What is known.

    @property
    def view(self) -> ChannelView[str]:
        """The live state; a stale ``agreed`` never shows here."""
        reason = self._stage.reason
        if self._stage is Stage.AGREED and self._memory.inferred:
            reason = Reason.INFERRED
        reason = self._flapping.cover(reason, self._now)
        return ChannelView(self._stage.state, str(self._version), self._memory.offer, str(self._maximum), reason)

    @property
    def port_open(self) -> bool:
        """Whether the guest's end is known to be open."""
        return self._port.open

    @property
    def suspect(self) -> bool:
        """Whether the agent kept somebody waiting lately: reopening its end does not clear it of that."""
        return self._now < self._suspect_until

    @property
    def agreements(self) -> int:
        """How often a version was agreed anew."""
        return self._agreements

    def refuse(self, name: str) -> Refusal | None:
        """Why this command may not go to the agent now; ``None``: it may."""
        return refuse_command(name, self.view, self._version, self._memory.latest)

    # The guest's end.

    def port_opened(self, now: float) -> None:
        """The guest's end opened, as QEMU or libvirt reports."""
        self._now = now
        # What the XML showed just now is reported once more.
        if self._port is not Port.HEARD or now >= self._heard_at + SAME_REPORT_S:
            # Back from a restart, libvirt tells anew of each end that it finds open: nobody was seen leaving.
            if not (self._retold and self.port_open):
                self._memory.forget_agreed()
            self._meet_agent()
        elif self._ask_at < _INFINITY:
            self._ask_at = now  # we asked before libvirt was ready to
        self._port, self._retold = Port.OPEN, False

    def port_closed(self, now: float) -> None:
        """The guest's end closed, as QEMU or libvirt reports."""
        self._now = now
        if self.port_open:
            self._forget(Step.CLOSED)
        self._memory.forget_agreed()
        self._port, self._retold = Port.CLOSED, False
        self._ask_at = _INFINITY

    def port_seen(self, opened: bool, now: float) -> None:
        """The live XML, read just now, shows the guest's end so; reports may have been lost, or still follow."""
        if opened and not self.port_open:
            self._now = self._heard_at = now
            self._port = Port.HEARD
            self._meet_agent()
        elif not opened and self.port_open:
            self.port_closed(now)
        elif opened and self._untracked:
            self._now = now
            self._meet_agent()
        self._untracked = False

    def lose_track(self) -> None:
        """Reports were lost: whoever is there when the XML shows the end next may be another agent."""
        self._untracked = self._retold = True

    def _meet_agent(self) -> None:
        self._pause_s = ASK_AGAIN_FIRST_S
        self._forget(Step.OPENED)
        if self._flapping.take(self._now):
            self._ask_at = self._now
        else:
            self._flapping.note(self._now)
            self._forget(Step.SUPPRESSED)
            self._ask_at, self._postponed = self._flapping.next_free(), True

    def renegotiate(self, now: float) -> None:
        """The operator wants it: ask the agent anew, whatever it used up before."""
        self._now = now
        self._flapping = Flapping()
        self._pause_s, self._postponed = ASK_AGAIN_FIRST_S, False
        self._forget(Step.CONNECTED)
        if self.port_open:
            self._ask_at = now

    # Our own connection, where there is one.

    def connect(self, now: float) -> None:
        """Our end of a new connection is up."""
        self._now = now
        self._forget(Step.CONNECTED)
        if self.port_open:
            self._ask_at = now

    def disconnect(self, now: float, step: Step) -> None:
        """Our end is down, or could not be brought up; ``step`` says how."""
        self._now = now
        self._forget(step)
        self._ask_at = _INFINITY

    # Asking.

    @property
    def ask_at(self) -> float:
        """When the agent is to be asked; infinity: not of our own accord."""
        return self._ask_at

    @property
    def ask_due(self) -> bool:
        """Whether ``guest-info`` is to be asked now."""
        return self._now >= self._ask_at

    @property
    def round(self) -> int:
        """Another number for each agent that may be there."""
        return self._round

    def begin_round(self) -> int:
        """The agent is being asked; returns the number by which its answer is taken."""
        if self._postponed:
            self._flapping.take(self._now)
        self._ask_at, self._postponed = _INFINITY, False
        return self._round

    def doubt(self, now: float, *, left: bool = False) -> None:
        """A call ended in a way that lets us doubt what we know of the agent: ask it.

        ``left``: it went away, which is mostly reported in a moment.
        """
        self._now = now
        if self.port_open:
            self._ask_at = min(self._ask_at, now + ASK_AGAIN_FIRST_S if left else now)

    def receive_report(self, number: int, report: Report, now: float) -> None:
        """``guest-info`` was answered; ``number`` is that of ``begin_round``."""
        self._now = now
        if number != self._round:
            return
        self._memory.take(report)
        self._ask_at = _INFINITY  # whatever made us doubt came before this answer
        if not report.frozen:
            self._pause_s = ASK_AGAIN_FIRST_S
        self._decide()
        if report.frozen:
            self._ask_again()

    def fail(self, number: int, step: Step | None, now: float) -> None:
        """Asking failed; ``step`` says what that shows, ``None`` nothing: the agent is asked again after a while."""
        self._now = now
        if number != self._round:
            return
        if step in (Step.SILENCE, Step.JOB_HELD):
            self._suspect_until = now + SUSPECT_S
        if step is not None:
            self._conclude(step)
        if step is not Step.BLOCKED:
            self._ask_again()

    def _ask_again(self) -> None:
        if self.port_open:
            self._ask_at = self._now + self._pause_s
            self._pause_s = min(2 * self._pause_s, ASK_AGAIN_LAST_S)

    def _decide(self) -> None:
        """By the last list that could be judged; that the guest is frozen now only adds to it."""
        if not self._maximum:
            self._conclude(Step.CAPPED)
            return
        release = self._memory.release
        if release is not None:
            before = self._version
            self._conclude(Step.REPORT)
            self._version = common_release(release, self._maximum)
            self._agreements += self._version != before
            self._memory.keep_agreed(release)
        if self._memory.frozen:
            self._conclude(Step.FROZEN)

    def _conclude(self, step: Step) -> None:
        self._stage = advance(MOVES, self._stage, step)
        if self._stage not in _AGREED:
            self._version = Release(0, 0)

    def _forget(self, step: Step) -> None:
        """Nothing is agreed any more, and what is being asked is asked of somebody who is gone."""
        self._round += 1
        self._conclude(step)
        self._memory.forget_lists()
        if self._stage in (Stage.UNHEARD, Stage.FLAPPING):
            self._memory.offer = None

    def set_maximum(self, maximum: Release, now: float) -> None:
        """This host's cap changed: decide anew with what the agent is known to be."""
        self._now = now
        self._maximum = maximum
        if self._stage in (*_AGREED, Stage.CAPPED, Stage.UNJUDGED):
            self._decide()

    # Time.

    @property
    def deadline(self) -> float:
        """When ``tick`` wants to be called; infinity when nothing is due. When to ask is ``ask_at``."""
        return min(self._overdue_at, self._flapping.deadline(self._now))

    @property
    def _overdue_at(self) -> float:
        overdue = not self.port_open and advance(MOVES, self._stage, Step.OVERDUE) is not self._stage
        return self._arrived_at + self._absent_s if overdue else _INFINITY

    def tick(self, now: float) -> None:
        """Tell the session the time; changes the view when a deadline has passed."""
        self._now = now
        if now >= self._overdue_at:
            self._conclude(Step.OVERDUE)
