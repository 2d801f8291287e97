"""Which commands a QGA session lets through, while frozen and capped too; and what holds in any order of events."""

import copy

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from sidecar.errors import Refusal, RefusalCode
from sidecar.protocol.qga_commands import FROZEN_COMMANDS, QGA_COMMANDS
from sidecar.protocol.qga_host import SAME_REPORT_S, QgaSession
from sidecar.protocol.qga_report import Report, judge_report
from sidecar.protocol.qga_states import Step
from sidecar.protocol.releases import Release
from sidecar.protocol.states import ChannelView, Port, Reason, State

NONE, TEN = Release(0, 0), Release(10, 0)
SYNC = {"guest-sync", "guest-sync-delimited"}


def report(version: str, *without: str, frozen: bool = False) -> Report:
    enabled = FROZEN_COMMANDS if frozen else QGA_COMMANDS.keys() - {*without}
    return judge_report(version, [(name, name in enabled) for name in QGA_COMMANDS])


HEALTHY, FROZEN = report("7.2.22"), report("7.2.22", frozen=True)
FROZEN_VIEW = ChannelView(State.AGREED, "7.2", "7.2.22", "10.0", Reason.GUEST_FROZEN)


def answered(*reports: Report, maximum: Release = TEN) -> QgaSession:
    """A session whose agent was asked, and asked again, and answered so."""
    session = QgaSession(maximum=maximum, absent_s=120.0, now=0.0, port=Port.OPEN)
    for now, report in enumerate(reports):
        session.doubt(float(now))
        session.receive_report(session.begin_round(), report, float(now))
    return session


def passed(session: QgaSession) -> set[str]:
    return {name for name in QGA_COMMANDS if session.refuse(name) is None}


# The gate.


@pytest.mark.parametrize("maximum", ["0.15", "1.10", "2.10", "7.2", "10.0"])
@pytest.mark.parametrize("version", ["0.15.0", "2.9.0", "2.10.0", "7.2.22", "11.2.0"])
def test_a_command_goes_when_both_ends_have_it(version: str, maximum: str) -> None:
    session = answered(report(version), maximum=Release.parse(maximum))
    major, minor = min(tuple(map(int, text.split(".")[:2])) for text in (version, maximum))
    for name, command in QGA_COMMANDS.items():
        refusal = session.refuse(name)
        if name in SYNC:
            assert refusal == Refusal(RefusalCode.NEGOTIATION_ONLY, name, "only the negotiation itself sends it")
        elif (command.since.major, command.since.minor) <= (major, minor):
            assert refusal is None
        else:
            why = f"came with QEMU {command.since}, agreed is {major}.{minor}"
            code = RefusalCode.VERSION_TOO_LOW
            assert refusal == Refusal(code, name, why, str(command.since), f"{major}.{minor}", None)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("guest-exec", "the agent does not list it as enabled"),
        ("guest-suspend-hybrid", "the agent does not list it as enabled (it is there on Linux)"),
        ("guest-get-devices", "the agent does not list it as enabled (it is there on Windows)"),
    ],
)
def test_what_the_agent_does_not_list_as_enabled_does_not_go(name: str, why: str) -> None:
    refusal = answered(report("7.2.22", name)).refuse(name)
    assert refusal == Refusal(RefusalCode.NOT_ENABLED, name, why, str(QGA_COMMANDS[name].since), "7.2", None)


def test_a_warning_goes_with_the_refusal() -> None:
    refusal = answered(report("102.10.0", "guest-exec")).refuse("guest-exec")
    assert refusal is not None
    assert (refusal.agreed, refusal.reason) == ("10.0", "inferred")


@pytest.mark.parametrize("name", ["", "guest-get-driver-packages", "Guest-ping", "echo", "x\n\ud800"])
def test_what_the_table_lacks_never_goes(name: str) -> None:
    for session in (answered(), answered(HEALTHY)):
        refusal = session.refuse(name)
        assert refusal is not None
        assert (refusal.code, refusal.message) == ("not-in-table", name)


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (None, "not-heard"),
        (Step.BLOCKED, "guest-info-blocked"),
        (Step.SILENCE, "agent-silent"),
        (Step.POISONED, "agent-poisoned"),
        (Step.BAD_REPLY, "bad-reply"),
        (Step.JOB_HELD, "agent-job-held"),
    ],
)
def test_nothing_goes_while_nothing_is_agreed(step: Step | None, reason: str) -> None:
    session = answered()
    session.fail(session.begin_round(), step, 0.0)
    for name in QGA_COMMANDS.keys() - SYNC:
        refusal = session.refuse(name)
        assert refusal is not None
        assert (refusal.code, refusal.agreed, refusal.reason) == ("not-agreed", "0", reason)


# Frozen.


def test_a_guest_that_arrives_frozen_is_not_judged() -> None:
    session = answered(FROZEN)
    assert session.view == ChannelView(State.WAITING, "0", "7.2.22", "10.0", Reason.GUEST_FROZEN)
    refusal = session.refuse("guest-fsfreeze-thaw")
    assert refusal is not None
    assert (refusal.code, refusal.reason) == ("not-agreed", "guest-frozen")
    assert "virsh domfsthaw" in refusal.why


def test_what_was_agreed_before_the_freeze_stands_and_only_the_six_go() -> None:
    session = answered(HEALTHY, FROZEN)
    assert session.view == FROZEN_VIEW
    assert passed(session) == FROZEN_COMMANDS - SYNC
    refusal = session.refuse("guest-exec")
    assert refusal is not None
    assert (refusal.code, refusal.agreed, refusal.reason) == ("not-enabled", "7.2", "guest-frozen")
    assert "guest-fsfreeze-thaw" in refusal.why


@pytest.mark.parametrize("before", [(), (HEALTHY,)])
def test_a_guest_that_thaws_is_judged(before: tuple[Report, ...]) -> None:
    session = answered(*before, FROZEN, report("8.2.0"))
    assert session.view == ChannelView(State.AGREED, "8.2", "8.2.0", "10.0", None)
    assert "guest-exec" in passed(session)
    assert session.deadline == float("inf")


def test_an_agent_that_was_silent_until_it_told_that_it_is_frozen_keeps_what_was_agreed() -> None:
    session = answered(HEALTHY)
    session.doubt(1.0)
    session.fail(session.begin_round(), Step.SILENCE, 1.0)
    assert passed(session) == set()
    session.receive_report(session.begin_round(), FROZEN, 2.0)
    assert session.view == FROZEN_VIEW


def test_a_frozen_agent_does_not_get_what_was_agreed_with_one_that_left() -> None:
    session = answered(HEALTHY)
    session.port_closed(1.0)
    session.receive_report(session.begin_round(), FROZEN, 2.0)
    assert session.view == ChannelView(State.WAITING, "0", "7.2.22", "10.0", Reason.GUEST_FROZEN)


# A new cap.


def test_a_cap_decides_anew_with_what_is_known() -> None:
    session = answered(HEALTHY)
    for text, state, reason in [
        ("5.2", State.AGREED, None),
        ("0", State.UNVERSIONED, Reason.HOST_CAPPED),
        ("2.10", State.AGREED, None),
    ]:
        session.set_maximum(Release.parse(text), 1.0)
        assert session.view == ChannelView(state, text, "7.2.22", text, reason)
        assert not session.ask_due
    session.set_maximum(TEN, 1.0)
    assert session.view == ChannelView(State.AGREED, "7.2", "7.2.22", "10.0", None)


def test_a_cap_while_it_is_asked_holds_for_the_answer() -> None:
    session = answered()
    number = session.begin_round()
    session.set_maximum(Release(5, 2), 1.0)
    session.receive_report(number, HEALTHY, 2.0)
    assert session.view.version == "5.2"


def test_a_cap_makes_nothing_of_an_agent_that_is_not_known() -> None:
    session = answered(HEALTHY)
    session.port_closed(1.0)
    for maximum in (NONE, Release(5, 2)):
        session.set_maximum(maximum, 2.0)
        assert (session.view.state, session.view.version) == (State.LOST, "0")


def test_a_cap_while_frozen() -> None:
    session = answered(HEALTHY, FROZEN)
    session.set_maximum(Release(5, 2), 2.0)
    assert session.view == ChannelView(State.AGREED, "5.2", "7.2.22", "5.2", Reason.GUEST_FROZEN)
    session.set_maximum(TEN, 2.0)
    assert session.view == FROZEN_VIEW


def test_a_host_capped_to_zero_while_frozen_agrees_on_nothing_and_back() -> None:
    session = answered(HEALTHY, FROZEN)
    session.set_maximum(NONE, 2.0)
    assert session.view == ChannelView(State.UNVERSIONED, "0", "7.2.22", "0", Reason.HOST_CAPPED)
    assert passed(session) == set()
    session.set_maximum(TEN, 3.0)
    assert session.view.version == "7.2"
    assert passed(session) == FROZEN_COMMANDS - SYNC


# In any order.

REPORTS = [HEALTHY, FROZEN, report("10.0.2", "guest-exec"), report("102.10.0", "guest-get-load"), report("1.9.0")]


class AnyOrder(RuleBasedStateMachine):
    """A session, and next to it who is known to be at the guest's end and what was answered last."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.port, self.untracked, self.maximum = 0.0, Port.UNKNOWN, False, TEN
        self.retold = False
        self.session = QgaSession(maximum=TEN, absent_s=30.0, now=0.0, port=Port.UNKNOWN)
        self.asked: dict[int, bool] = {}  # each round's number, and whether its agent is still there
        self.last: Report | None = None
        self.judged: Report | None = None
        self.heard_at = 0.0
        self.remembered: tuple[str | None, Release] | None = None  # while its end was not seen closing

    @property
    def effective(self) -> Release | None:
        """Of the list that could be judged, or, while it is frozen, of what the same agent had agreed before."""
        if self.judged is not None:
            return self.judged.release
        if self.last is not None and self.remembered is not None and self.remembered[0] == self.last.offer is not None:
            return self.remembered[1]
        return None

    def remember(self) -> None:
        release = self.effective
        if self.session.view.state is State.AGREED and self.last is not None and release is not None:
            self.remembered = (self.last.offer, release)

    def forget(self) -> None:
        self.asked = dict.fromkeys(self.asked, False)
        self.last = self.judged = None

    @rule(seconds=st.sampled_from([0.1, 1.0, 8.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.session.tick(self.now)

    @rule()
    def port_opened(self) -> None:
        if self.port is not Port.HEARD or self.now >= self.heard_at + SAME_REPORT_S:
            self.forget()
            self.remembered = self.remembered if self.retold and self.port.open else None
        self.port, self.retold = Port.OPEN, False
        self.session.port_opened(self.now)

    @rule()
    def port_closed(self) -> None:
        if self.port.open:
            self.forget()
        self.port, self.remembered, self.retold = Port.CLOSED, None, False
        self.session.port_closed(self.now)

    @rule(opened=st.booleans())
    def port_seen(self, opened: bool) -> None:
        if opened != self.port.open or (opened and self.untracked):
            self.forget()
        if opened != self.port.open:
            self.retold = self.retold and opened
            self.port, self.heard_at = (Port.HEARD, self.now) if opened else (Port.CLOSED, self.heard_at)
            self.remembered = self.remembered if opened else None
        self.untracked = False
        self.session.port_seen(opened, self.now)

    @rule()
    def lose_track(self) -> None:
        self.untracked = self.retold = True
        self.session.lose_track()

    @rule(step=st.sampled_from([Step.BUSY, Step.DISCONNECTED]))
    def disconnect(self, step: Step) -> None:
        self.forget()
        self.session.disconnect(self.now, step)

    @precondition(lambda self: self.last is None)  # who answered is connected, until that connection breaks
    @rule(step=st.sampled_from([Step.UNREACHABLE, Step.FOREIGN]))
    def dial_in_vain(self, step: Step) -> None:
        self.forget()
        self.session.disconnect(self.now, step)

    @rule()
    def connect(self) -> None:
        self.forget()
        self.session.connect(self.now)

    @rule()
    def begin_round(self) -> None:
        self.asked[self.session.begin_round()] = True

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), report=st.sampled_from(REPORTS))
    def receive_report(self, data: st.DataObject, report: Report) -> None:
        number = data.draw(st.sampled_from(sorted(self.asked)))
        if self.asked[number]:
            self.last = report
            self.judged = self.judged if report.frozen else report
        self.session.receive_report(number, report, self.now)
        self.remember()

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), step=st.sampled_from([None, Step.SILENCE, Step.POISONED, Step.BLOCKED, Step.JOB_HELD]))
    def fail(self, data: st.DataObject, step: Step | None) -> None:
        self.session.fail(data.draw(st.sampled_from(sorted(self.asked))), step, self.now)

    @rule(maximum=st.sampled_from([NONE, Release(1, 10), Release(5, 2), TEN]))
    def set_maximum(self, maximum: Release) -> None:
        self.maximum = maximum
        self.session.set_maximum(maximum, self.now)
        self.remember()

    @rule()
    def doubt(self) -> None:
        self.session.doubt(self.now)

    @invariant()
    def agreed_is_the_lower_of_both(self) -> None:
        view = self.session.view
        assert view.host == str(self.maximum)
        assert (view.reason is not None) >= (view.state is not State.AGREED)
        if view.state is State.AGREED:
            assert self.effective is not None
            assert view.version == str(min(self.effective, self.maximum)) != "0"
        else:
            assert view.version == "0"

    @invariant()
    def the_gate_follows_the_last_list_and_the_agreement(self) -> None:
        wanted: set[str] = set()
        if self.session.view.state is State.AGREED and self.last is not None:
            version = Release.parse(self.session.view.version)
            wanted = {name for name in self.last.enabled if QGA_COMMANDS[name].since <= version} - SYNC
        assert passed(self.session) == wanted

    @invariant()
    def the_deadline_is_never_past_once_it_was_met(self) -> None:
        session = copy.deepcopy(self.session)
        session.tick(self.now)
        if session.ask_due:
            session.begin_round()
        assert session.deadline > self.now


def test_any_order() -> None:
    run_state_machine_as_test(AnyOrder, settings=settings(max_examples=100, stateful_step_count=40, deadline=None))
