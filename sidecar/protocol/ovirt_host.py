"""The host's end of the oVirt dialect: one session negotiates with one channel's agent during one arrival.

The rules, each of which closes a hole that an implementation fell into (cases of docs/protocol.md):

* The agent's version is unknown at every arrival, new connection and opening of the guest's end, whatever was
  recorded. The first heartbeat that offers 1 or more is answered with ``api-version`` even when the number equals
  the recorded one; after that only a change of the common version is.
* ``api-version`` carries 1 to this host's maximum, never 0 and never a negative number (which mutes an original
  agent for good). A host capped to 0 says ``refresh`` without ``apiVersion``, which drops the agent to 0.
* ``refresh`` goes out once a connection. Nothing a guest says is answered with ``refresh``, or the agents that
  answer it with ``session-startup`` would keep both ends busy for ever.
* An original agent offers its version only at its next heartbeat. What it sends in answer to ``refresh`` before that
  may prove that a version is in force at its end, and the record that came along says what it offered last. Both
  together, and neither alone, are answered with ``api-version`` once an arrival; the heartbeat confirms or corrects.
* One 0 is the greeting of a freshly started agent, not a verdict; the second in a row is. On a host capped to 0 the
  first does not even replace what was offered before.
* Everything a guest can repeat has a budget: see ``flapping``.

The session has inputs (``connect``, ``receive_data``, ``port_opened``, ``tick``…), ``data_to_send`` for the bytes to
write, ``deadline`` for when it wants to be told the time, and ``view`` for what it knows. Times are monotonic
seconds of a clock that stands still while the domain does.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace

from sidecar.errors import MessageNotAllowedError, Refusal, RefusalCode
from sidecar.protocol.bad_input import BadInputCode
from sidecar.protocol.fact_content import FactContent
from sidecar.protocol.flapping import Flapping
from sidecar.protocol.ovirt_messages import EVIDENCE, HOST_TO_GUEST, NEGOTIATION_MESSAGES, refuse
from sidecar.protocol.ovirt_outbox import Outbox
from sidecar.protocol.ovirt_reader import Event, Heartbeat, MessageReceived, OvirtReader
from sidecar.protocol.ovirt_states import MOVES, Stage, Step
from sidecar.protocol.refusals import refuse_unagreed
from sidecar.protocol.states import ChannelView, Port, State, advance
from sidecar.protocol.versions import PROMPT_SINCE, common_version

# QEMU reports an opening or closing of one port at most once a second, libvirt passes it on at once.
REPORT_DELAY_S = 2.0

_VERDICTS = (State.AGREED, State.UNVERSIONED)

_INFINITY = float("inf")


class HostSession:
    """Negotiates with the agent behind one channel; see the module for the rules."""

    def __init__(
        self,
        *,
        maximum: int,
        responsive_s: float,
        absent_s: float,
        now: float,
        port: Port,
        stage: Stage = Stage.UNHEARD,
        offer: int | None = None,
        hint: int | None = None,
    ) -> None:
        """Start with everything unknown.

        Args:
            maximum: This host's highest version after its cap, 0 to 4.
            responsive_s: How long a heartbeat counts.
            absent_s: How long the guest may take to open its end.
            now: The arrival, in the session's seconds.
            port: What the live XML says of the guest's end.
            stage: Where the negotiation stood, when a daemon before us followed this arrival.
            offer: What the guest had offered then.
            hint: What the guest offered last on another host, as the record that came along says.
        """
        self._maximum = maximum
        self._responsive_s, self._absent_s = responsive_s, absent_s
        self._port = port
        self._stage = stage
        self._version = 0
        self._offer, self._hint = offer, hint
        self._last_was_zero = False
        self._arrived_at = self._quiet_since = now
        self._flapping = Flapping()
        self._reader = OvirtReader()
        self._peer = self._agreements = 0
        self._outbox = Outbox()
        self._now = now

    # What is known.

    @property
    def view(self) -> ChannelView[int]:
        """The live state; a stale ``agreed`` never shows here."""
        reason = self._flapping.cover(self._stage.reason, self._now)
        return ChannelView(self._stage.state, self._version, self._offer, self._maximum, reason)

    @property
    def port_open(self) -> bool:
        """Whether the guest's end is known to be open."""
        return self._port.open

    @property
    def heard(self) -> bool:
        """Whether a heartbeat decided something that still holds."""
        return self._stage.state in _VERDICTS or self._stage is Stage.RESTARTED

    @property
    def peer(self) -> int:
        """Another number for each agent that may be there, but for one whose restart only its heartbeat tells."""
        return self._peer

    @property
    def received(self) -> Collection[str]:
        """The messages of the table that the guest has sent."""
        return self._reader.received

    @property
    def agreements(self) -> int:
        """How often a version was agreed."""
        return self._agreements

    @property
    def bad_input(self) -> Mapping[BadInputCode, int]:
        """How much unusable input the guest has sent in all, by code."""
        return self._reader.bad_input

    # Sending for others.

    def refuse(self, name: str) -> Refusal | None:
        """Why this message may not go to the guest now; ``None``: it may.

        What nobody has spoken to us for since our end was connected could be read by an agent that starts hours later.
        """
        return _refuse(name, self.view, heard=self.heard)

    def send(self, name: str, arguments: Mapping[str, object]) -> None:
        """Queue a message to the guest.

        Raises:
            MessageNotAllowedError: See ``refuse`` and ``render_message``; nothing was queued.
        """
        refusal = self.refuse(name)
        if refusal is not None:
            raise MessageNotAllowedError(refusal)
        self._outbox.send(name, self._version, arguments)

    # Our own connection.

    def renegotiate(self, now: float) -> None:
        """The operator wants it: ask the same agent anew, whatever it used up before; nothing while our end is down."""
        self._now = now
        if not self._outbox.connected:
            return
        self._flapping = Flapping()
        self._quiet_since = now  # a silent agent has as long again to answer
        self._forget(Step.CONNECTED)
        self._outbox.send_refresh(self._maximum, now)

    def connect(self, now: float) -> None:
        """Our end of a new connection is up: nothing is known, and ``refresh`` goes out."""
        self._now = now
        self._outbox.connect()
        self._peer += 1
        self._quiet_since = now  # while nobody listened, nobody was silent
        self._reader.start_anew()
        self._forget(Step.CONNECTED)
        self._outbox.send_refresh(self._maximum, now)

    def disconnect(self, now: float, step: Step = Step.DISCONNECTED) -> None:
        """Our end is down, or could not be brought up; ``step`` says how."""
        self._now = now
        self._outbox.disconnect()
        self._forget(step)

    # The guest's end.

    def port_opened(self, now: float) -> None:
        """QEMU reports that the guest opened its end."""
        self._now = now
        # QEMU merges reports within a second: open after open means that a close between them was swallowed. Open
        # after HEARD is the report of what we know already.
        if self._port is not Port.HEARD:
            self._meet_peer(lost_track=self._port is Port.OPEN)
        self._port = Port.OPEN

    def port_closed(self, now: float) -> None:
        """QEMU reports that the guest closed its end."""
        self._now = now
        if self._port is not Port.CLOSED:
            self._outbox.lose_peer()
        if self.port_open:
            self._forget(Step.CLOSED)
        self._port = Port.CLOSED

    def port_seen(self, opened: bool, now: float) -> None:
        """The live XML, read just now, shows the guest's end so; reports may have been lost, or still follow."""
        if opened and not self.port_open:
            self._now = now
            self._meet_peer()
            self._port = Port.HEARD
        elif not opened and self.port_open and not self._just_heard(now):
            self.port_closed(now)

    def _just_heard(self, now: float) -> bool:
        """Whether the guest spoke before the report of its opening, which QEMU puts off for up to a second."""
        return self._port is Port.HEARD and now < self._quiet_since + REPORT_DELAY_S

    def _meet_peer(self, *, lost_track: bool = False) -> None:
        if lost_track:
            self._outbox.lose_peer()
        self._peer += 1
        self._quiet_since = self._now
        self._forget(Step.OPENED)
        if not self._outbox.refresh_once(self._maximum, self._now):
            self._suppress()

    # What the guest says.

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        """Take bytes from the guest and return what they say; whatever they are, the next good line is still read."""
        self._now = now
        if not self.port_open:
            if self._port is Port.CLOSED:
                self._meet_peer()  # it opened and spoke before QEMU reported the opening
            self._port = Port.HEARD
        events = self._reader.receive_data(data)
        for event in events:
            if isinstance(event, Heartbeat):
                self._receive_heartbeat(event.offer)
        self._weigh_evidence(events)
        return events

    def take_facts(self) -> Mapping[str, FactContent]:
        """What the guest told of itself since the last call, by message: the newest word, given out once."""
        return self._reader.take_facts()

    def _weigh_evidence(self, events: list[Event]) -> None:
        """What the agent can send proves a version that is in force at its end, or a later one."""
        proved = max((EVIDENCE.get(event.name, 0) for event in events if isinstance(event, MessageReceived)), default=0)
        if not proved or self._hint is None or self._stage is not Stage.UNHEARD:
            return
        hint, self._hint = self._hint, None
        # Who offered that much more speaks its version at once.
        if proved <= hint < PROMPT_SINCE and self._maximum:
            self._conclude(Step.EVIDENCE, common_version(hint, self._maximum))

    def _receive_heartbeat(self, offer: int | None) -> None:
        self._quiet_since = self._now
        self._hint = None  # older than this
        self._outbox.refresh_once(self._maximum, self._now)  # the one that was held back while the port flapped
        # A host capped to 0 keeps what it knows: an agent that waits for a version says 0 now and then, for ever.
        if self._maximum or offer != 0 or self._last_was_zero or not self._offer:
            self._offer = offer
        self._last_was_zero = offer == 0
        self._conclude(*_judge_offer(offer, self._maximum))

    # The decision.

    def _conclude(self, step: Step, version: int) -> None:
        stage = advance(MOVES, self._stage, step)
        if (stage, version) == (self._stage, self._version):
            return  # agreed means told
        # The lone zero only lowers our guard; it is no verdict and costs nothing.
        if stage is not Stage.RESTARTED and not self._flapping.take(self._now):
            self._suppress()
            return
        confirmed = self._stage is Stage.INFERRED and version == self._version
        self._stage, self._version = stage, version
        if version > 0:
            self._agreements += not confirmed
            self._outbox.send("api-version", version, {"apiVersion": version})

    def _suppress(self) -> None:
        self._flapping.note(self._now)
        self._forget(Step.SUPPRESSED)

    def _forget(self, step: Step) -> None:
        """Nothing is agreed any more, and the agent's version is unknown."""
        self._stage = advance(MOVES, self._stage, step)
        self._version = 0
        if self._stage in (Stage.UNHEARD, Stage.FLAPPING):
            self._offer = None

    def set_maximum(self, maximum: int, now: float) -> None:
        """This host's cap changed: renegotiate at once with what the guest is known to offer."""
        self._now = now
        if maximum == self._maximum:
            return
        refresh = self._outbox.connected and 0 in (maximum, self._maximum)
        self._maximum = maximum
        if refresh:
            self._outbox.send_refresh(maximum, now)
        if self._stage is Stage.INFERRED:
            self._forget(Step.CONNECTED)  # the heartbeat will tell
        elif self._stage.state in _VERDICTS:
            self._conclude(*_judge_offer(self._offer, self._maximum))

    # Bytes to write.

    def data_to_send(self) -> bytes:
        """What has to be written to the channel now; each byte is given out once."""
        return self._outbox.take()

    # Time.

    @property
    def deadline(self) -> float:
        """When ``tick`` wants to be called; infinity when nothing is due."""
        due, step = self._next_step
        if advance(MOVES, self._stage, step) is self._stage:
            due = _INFINITY
        return min(due, self._flapping.deadline(self._now))

    @property
    def _next_step(self) -> tuple[float, Step]:
        """What time alone will bring, and when; the table may refuse it."""
        if self.port_open:
            return self._quiet_since + self._responsive_s, Step.SILENCE
        return self._arrived_at + self._absent_s, Step.OVERDUE

    def tick(self, now: float) -> None:
        """Tell the session the time; changes the view when a deadline has passed."""
        self._now = now
        due, step = self._next_step
        if now >= due:
            self._forget(step)

    def stand_by(self, now: float) -> None:
        """The guest speaks on the domain's other oVirt channel; this one is not needed."""
        self.disconnect(now, Step.STOOD_BY)


def _refuse(name: str, view: ChannelView[int], *, heard: bool) -> Refusal | None:
    if name in NEGOTIATION_MESSAGES:
        return Refusal(RefusalCode.NEGOTIATION_ONLY, name, "only the negotiation itself sends it")
    if name in HOST_TO_GUEST and not heard:
        return refuse_unagreed(name, view)
    refusal = refuse(HOST_TO_GUEST, name, view.version)
    return refusal if refusal is None else replace(refusal, reason=view.reason)


def _judge_offer(offer: int | None, maximum: int) -> tuple[Step, int]:
    """What a heartbeat's offer means to a host with this maximum, and the version that comes of it."""
    if maximum == 0:
        return Step.CAPPED, 0
    if offer is None:
        return Step.NO_OFFER, 0
    if offer == 0:
        return Step.ZERO, 0
    return Step.OFFER, common_version(offer, maximum)
