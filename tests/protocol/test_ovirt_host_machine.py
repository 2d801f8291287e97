"""The host's end in any order of events, against what the rules say in plain words; hostile lines are among the events.

``test_journeys`` lets both ends talk and looks at where they come to. Here each single answer is foretold: what is
written after which event, and when nothing may be.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sidecar.protocol.ovirt_host import REPORT_DELAY_S, HostSession
from sidecar.protocol.ovirt_states import Step
from sidecar.protocol.states import Port, Reason, State
from tests.protocol.host_sessions import GOOD, heartbeat, sent
from tests.protocol.worthless_lines import NO_JSON, NO_MESSAGES, NO_VERSIONS

RESPONSIVE_S = 120.0
Verdict = tuple[State, Reason | None, int]
RESTARTED: Verdict = (State.WAITING, Reason.AGENT_RESTARTED, 0)
AT_ZERO: Verdict = (State.UNVERSIONED, Reason.STAYS_AT_ZERO, 0)


class Minute:
    """What happened within the last one; six are allowed."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def take(self, now: float, *, forced: bool = False) -> bool:
        self.times = [time for time in self.times if time > now - 60.0][-6:]
        allowed = len(self.times) < 6
        if allowed or forced:
            self.times.append(now)
        return allowed


class Trace(RuleBasedStateMachine):
    """A session, and beside it what is known of the agent: the last verdict, ``None`` while it is unknown."""

    @initialize(maximum=st.integers(0, 4), port=st.sampled_from(Port))
    def arrive(self, maximum: int, port: Port) -> None:
        self.now = self.quiet_since = 0.0
        self.maximum, self.port = maximum, port
        self.session = HostSession(
            maximum=maximum, responsive_s=RESPONSIVE_S, absent_s=RESPONSIVE_S, now=0.0, port=port
        )
        self.online = self.refreshed = False
        self.verdict: Verdict | None = None
        self.offer: int | None = None
        self.last: int | None = None
        self.verdicts, self.refreshes = Minute(), Minute()
        self.flaps_until = 0.0

    # What has to be written.

    @property
    def refresh(self) -> dict[str, object]:
        return {"__name__": "refresh", **({"apiVersion": self.maximum} if self.maximum else {})}

    def owe_refresh(self) -> list[dict[str, object]]:
        """Once a peer; what is one too many waits for calmer times, and the guest flaps."""
        if not self.online or self.refreshed:
            return []
        if not self.refreshes.take(self.now):
            return []
        self.refreshed = True
        return [self.refresh]

    def force_refresh(self) -> list[dict[str, object]]:
        self.refreshes.take(self.now, forced=True)
        self.refreshed = True
        return [self.refresh]

    def meet(self) -> list[dict[str, object]]:
        """Whoever is there now is unknown."""
        self.verdict = None
        self.quiet_since = self.now
        messages = self.owe_refresh()
        if self.online and not self.refreshed:
            self.flaps_until = self.now + 60.0
        return messages

    def judge(self) -> Verdict:
        """What the last offer means to this host."""
        if self.maximum == 0:
            return State.UNVERSIONED, Reason.HOST_CAPPED, 0
        if self.offer is None:
            return State.UNVERSIONED, Reason.NO_VERSION, 0
        if self.offer == 0:
            return AT_ZERO if self.verdict in (RESTARTED, AT_ZERO) else RESTARTED
        return State.AGREED, None, min(self.offer, self.maximum)

    def conclude(self) -> list[dict[str, object]]:
        """Another verdict is told once, equal ones never again; one too many within a minute is none."""
        verdict = self.judge()
        if verdict == self.verdict:
            return []
        if verdict != RESTARTED and not self.verdicts.take(self.now):
            self.verdict = None
            self.flaps_until = self.now + 60.0
            return []
        self.verdict = verdict
        return [{"__name__": "api-version", "apiVersion": verdict[2]}] if verdict[2] else []

    def check_sent(self, wanted: list[dict[str, object]]) -> None:
        assert sent(self.session) == wanted
        self.session.tick(self.now)
        assert sent(self.session) == []
        if self.port.open and self.is_quiet(RESPONSIVE_S):
            self.verdict = None

    def is_quiet(self, seconds: float) -> bool:
        return self.now >= self.quiet_since + seconds

    # The guest's words.

    def receive(self, line: bytes) -> list[dict[str, object]]:
        """A line, and in the same piece a good one after it, which is read whatever the first one was."""
        before = self.meet() if self.port is Port.CLOSED else []
        if not self.port.open:
            self.port = Port.HEARD
        self.session.receive_data(line + b"\n" + GOOD, self.now)
        assert self.session.take_facts()["host-name"].raw == GOOD.rstrip()
        return before

    @precondition(lambda self: self.online)
    @rule(offers=st.lists(st.none() | st.integers(0, 5) | st.just(2**31 - 1), min_size=1, max_size=4))
    def beat(self, offers: list[int | None]) -> None:
        for offer in offers:
            before = self.receive(heartbeat(offer).rstrip())
            self.take_offer(offer, before)

    @precondition(lambda self: self.online)
    @rule(times=st.integers(2, 5))
    def flap(self, times: int) -> None:
        self.beat([offer for _ in range(times) for offer in (3, 2)])

    @precondition(lambda self: self.online)
    @rule(times=st.integers(1, 3))
    def stay_at_zero(self, times: int) -> None:
        self.beat([0] * times)

    @precondition(lambda self: self.online)
    @rule(text=st.sampled_from(NO_VERSIONS + NO_JSON))
    def beat_with_no_version(self, text: bytes) -> None:
        """It lives, and offers nothing: never one more, one less, or the last one."""
        before = self.receive(b'{"__name__": "heartbeat", "apiVersion": ' + text + b"}")
        if text in NO_JSON:
            self.check_sent(before)  # and so it is no heartbeat
        else:
            self.take_offer(None, before)

    def take_offer(self, offer: int | None, before: list[dict[str, object]]) -> None:
        self.quiet_since = self.now
        greets = offer == 0 and self.last != 0
        if not (greets and self.maximum == 0 and self.offer):
            self.offer = offer
        self.last = offer
        self.check_sent([*before, *self.owe_refresh(), *self.conclude()])

    @precondition(lambda self: self.online)
    @rule(line=st.sampled_from(NO_MESSAGES) | st.binary(max_size=40).map(lambda data: data.replace(b"\n", b"")))
    def say_nothing_useful(self, line: bytes) -> None:
        view = self.session.view
        closed = self.port is Port.CLOSED
        self.check_sent(self.receive(line))
        assert closed or self.session.view == view

    @precondition(lambda self: self.online)
    @rule(name=st.sampled_from(["session-startup", "os-info", "containers", "guest-tools", "completion", "echo"]))
    def say_anything_else(self, name: str) -> None:
        """No message is answered with ``refresh``, and none is an agreement."""
        self.check_sent(self.receive(b'{"__name__": "%s", "apiVersion": 3}' % name.encode()))

    # The guest's end.

    @rule()
    def open_port(self) -> None:
        wanted = []
        if self.port is not Port.HEARD:
            self.refreshed &= self.port is not Port.OPEN
            wanted = self.meet()
        self.port = Port.OPEN
        self.session.port_opened(self.now)
        self.check_sent(wanted)

    @rule()
    def close_port(self) -> None:
        self.refreshed &= self.port is Port.CLOSED
        self.verdict = None if self.port.open else self.verdict
        self.port = Port.CLOSED
        self.session.port_closed(self.now)
        self.check_sent([])

    @rule(opened=st.booleans())
    def see_port(self, opened: bool) -> None:
        """The report of what the XML shows may still follow; the guest may have spoken before it."""
        wanted = []
        if opened and not self.port.open:
            wanted = self.meet()
            self.port = Port.HEARD
        elif not opened and (self.port is Port.OPEN or (self.port is Port.HEARD and self.is_quiet(REPORT_DELAY_S))):
            self.refreshed, self.verdict, self.port = False, None, Port.CLOSED
        self.session.port_seen(opened, self.now)
        self.check_sent(wanted)

    # Our own end.

    @rule()
    def connect(self) -> None:
        self.online = True
        self.verdict = None
        self.quiet_since = self.now
        self.session.connect(self.now)
        self.check_sent(self.force_refresh())

    @precondition(lambda self: self.online)
    @rule(step=st.sampled_from([Step.DISCONNECTED, Step.BUSY]))
    def disconnect(self, step: Step) -> None:
        self.online = self.refreshed = False
        self.verdict = None
        self.session.disconnect(self.now, step)
        self.check_sent([])

    @rule()
    def renegotiate(self) -> None:
        self.session.renegotiate(self.now)
        if self.online:
            self.verdict, self.verdicts, self.flaps_until = None, Minute(), 0.0
        self.check_sent(self.force_refresh() if self.online else [])

    @rule(maximum=st.integers(0, 4))
    def cap(self, maximum: int) -> None:
        """To and from 0 a ``refresh`` says it; what is known of the agent is judged anew."""
        before, self.maximum = self.maximum, maximum
        wanted = []
        if before != maximum:
            wanted += self.force_refresh() if self.online and 0 in (before, maximum) else []
            wanted += self.conclude() if self.verdict not in (None, RESTARTED) else []
        self.session.set_maximum(maximum, self.now)
        self.check_sent(wanted)

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 30.0, 61.0, 130.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.check_sent([])

    # What always holds.

    @invariant()
    def the_view_is_the_verdict(self) -> None:
        view = self.session.view
        assert view.host == self.maximum
        if self.verdict is None:
            assert view.state in (State.WAITING, State.LOST, State.ABSENT)
            assert view.version == 0
            assert not self.session.heard
            return
        state, reason, version = self.verdict
        flaps = self.now < self.flaps_until and reason in (None, Reason.AGENT_RESTARTED)
        assert (view.state, view.version, view.guest) == (state, version, self.offer)
        assert view.reason is (Reason.FLAPPING if flaps else reason)

    @invariant()
    def a_kept_deadline_is_over(self) -> None:
        assert self.session.deadline > self.now


TestTrace = Trace.TestCase
TestTrace.settings = settings(stateful_step_count=40, deadline=None)
