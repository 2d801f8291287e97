"""The QGA session against an agent that comes and goes, is upgraded, frozen, blocked or stuck: they come to agree.

``test_qga_gate`` has the session alone in any order of events. Here its owner does what the engine does: asks when it
is due and takes whatever comes of it, at once or late. What is looked at is how often it asks, what it shows meanwhile,
and that it shows the truth once nothing disturbs the two any more.
"""

from dataclasses import dataclass, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sidecar.errors import BadReplyError
from sidecar.protocol.qga_commands import FROZEN_COMMANDS, NEGOTIATION_COMMANDS, QGA_COMMANDS
from sidecar.protocol.qga_host import QgaSession
from sidecar.protocol.qga_report import Report, judge_report, read_report
from sidecar.protocol.qga_states import Step
from sidecar.protocol.releases import Release
from sidecar.protocol.states import ChannelView, Port, Reason, State

# Text, the release it is taken for, and whether that had to be found by its commands.
VERSIONS = (
    ("7.2.22", Release(7, 2), False),
    ("10.0.2 (Debian 1:10.0.2)", Release(10, 0), False),
    ("1.9.0", Release(1, 9), False),
    ("102.10.0", Release(10, 0), True),
    ("", Release(10, 0), True),
)
GARBAGE = (
    b"",
    b"{}",
    b"[]",
    b'{"supported_commands": 3}',
    b'{"supported_commands": [{"name": "guest-info"}]}',
    b"\xff",
)
MAXIMA = (Release(10, 0), Release(7, 2), Release(1, 10), Release(0, 0))


@dataclass
class Agent:
    """Who is at the guest's end: ``step`` says how asking it fails, if it does."""

    version: tuple[str, Release, bool] = VERSIONS[0]
    frozen: bool = False
    step: Step | None = None

    @property
    def report(self) -> Report:
        names = FROZEN_COMMANDS if self.frozen else QGA_COMMANDS.keys()
        return judge_report(self.version[0], [(name, name in names) for name in QGA_COMMANDS])


class Life(RuleBasedStateMachine):
    """One arrival of a guest, whose agent has one port; reports of it come at once."""

    @initialize(maximum=st.sampled_from(MAXIMA), opened=st.booleans())
    def arrive(self, maximum: Release, opened: bool) -> None:
        self.now, self.maximum, self.opened = 0.0, maximum, opened
        self.agent = Agent()
        port = Port.OPEN if opened else Port.CLOSED
        self.session = QgaSession(maximum=maximum, absent_s=120.0, now=0.0, port=port)
        self.asked: list[tuple[int, Agent]] = []  # on their way, with who was there when they were sent

    # The guest.

    @rule(version=st.sampled_from(VERSIONS))
    def restart(self, version: tuple[str, Release, bool]) -> None:
        """Stopped, or upgraded, or gone back; what was being asked is never answered by the new one."""
        self.agent = Agent(version)
        self.session.port_closed(self.now)
        self.open()

    def open(self) -> None:
        self.opened = True
        self.session.port_opened(self.now)

    @precondition(lambda self: self.opened)
    @rule()
    def stop(self) -> None:
        self.opened = False
        self.session.port_closed(self.now)

    @precondition(lambda self: not self.opened)
    @rule()
    def start(self) -> None:
        self.agent = Agent(self.agent.version)
        self.open()

    @rule(frozen=st.booleans())
    def freeze(self, frozen: bool) -> None:
        """Nothing tells, before somebody asks."""
        self.agent = Agent(self.agent.version, frozen, self.agent.step)

    @rule(step=st.sampled_from([None, Step.SILENCE, Step.BLOCKED, Step.POISONED, Step.JOB_HELD, Step.BAD_REPLY]))
    def trouble(self, step: Step | None) -> None:
        """Or the end of it."""
        self.agent = Agent(self.agent.version, self.agent.frozen, step)

    # The owner.

    @precondition(lambda self: self.session.ask_due)
    @rule()
    def ask(self) -> None:
        self.asked.append((self.session.begin_round(), self.agent))
        assert not self.session.ask_due

    @precondition(lambda self: self.asked)
    @rule(late=st.integers(0, 3))
    def answer(self, late: int) -> None:
        """Of several that are on their way any may come first."""
        number, agent = self.asked.pop(late % len(self.asked))
        is_gone, before = number != self.session.round, self.session.view
        self.take(number, agent)
        if is_gone:
            assert self.session.view == before
        elif agent.step is None and not agent.frozen:
            assert self.session.view in (shown := self.describe(agent), replace(shown, reason=Reason.FLAPPING))

    def take(self, number: int, agent: Agent) -> None:
        if agent.step is None:
            self.session.receive_report(number, agent.report, self.now)
        else:
            self.session.fail(number, agent.step, self.now)

    @precondition(lambda self: self.asked)
    @rule(data=st.sampled_from(GARBAGE))
    def answer_with_garbage(self, data: bytes) -> None:
        number, _ = self.asked.pop()
        try:
            read_report(data)
        except BadReplyError:
            self.session.fail(number, Step.BAD_REPLY, self.now)
        else:
            raise AssertionError(data)

    @rule()
    def doubt(self) -> None:
        """Somebody's call went wrong."""
        self.session.doubt(self.now)

    @rule(maximum=st.sampled_from(MAXIMA))
    def cap(self, maximum: Release) -> None:
        self.maximum = maximum
        self.session.set_maximum(maximum, self.now)

    @rule()
    def renegotiate(self) -> None:
        self.session.renegotiate(self.now)

    @rule(seconds=st.sampled_from([0.1, 1.0, 8.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.session.tick(self.now)

    # What always holds.

    @invariant()
    def nothing_is_agreed_with_nobody(self) -> None:
        view = self.session.view
        assert self.session.port_open == self.opened
        assert (view.state is State.AGREED) == (view.version != "0")
        assert Release.parse(view.version) <= self.maximum
        if not self.opened:
            assert view.state is not State.AGREED
            assert self.session.ask_at == float("inf")
            assert all(self.session.refuse(name) for name in QGA_COMMANDS)

    @invariant()
    def only_what_is_agreed_goes(self) -> None:
        version = Release.parse(self.session.view.version)
        for name, command in QGA_COMMANDS.items():
            if self.session.refuse(name) is None:
                assert command.since <= version
                assert name not in NEGOTIATION_COMMANDS

    # What it all comes to.

    def describe(self, agent: Agent) -> ChannelView[str]:
        """What is shown of a healthy agent that was just asked."""
        text, release, inferred = agent.version
        offer = text.partition(" ")[0] or None
        host = str(self.maximum)
        if not self.maximum:
            return ChannelView(State.UNVERSIONED, "0", offer, host, Reason.HOST_CAPPED)
        agreed = str(min(release, self.maximum))
        return ChannelView(State.AGREED, agreed, offer, host, Reason.INFERRED if inferred else None)

    def teardown(self) -> None:
        """Calm, and a healthy agent: the truth within two minutes, and after that it is never asked again."""
        if not hasattr(self, "session"):
            return
        self.freeze(False)
        self.trouble(None)
        if not self.opened:
            self.open()
        self.asked.clear()  # they are lost: whoever asks gives up in time
        self.session.doubt(self.now)
        self.pass_calmly(130.0)
        assert self.session.view == self.describe(self.agent)
        assert self.pass_calmly(3600.0) == 0
        assert self.session.view == self.describe(self.agent)

    def pass_calmly(self, seconds: float) -> int:
        """What its owner does at each of its deadlines; how often it asked."""
        end, asked = self.now + seconds, 0
        while self.now < end:
            while self.session.ask_due:
                self.session.receive_report(self.session.begin_round(), self.agent.report, self.now)
                asked += 1
                assert asked < 10
            self.now = min(end, max(self.now + 0.001, min(self.session.deadline, self.session.ask_at)))
            self.session.tick(self.now)
        return asked


TestLife = Life.TestCase
TestLife.settings = settings(stateful_step_count=40, deadline=None)


def test_openings_that_never_end_are_asked_about_six_times_a_minute() -> None:
    life = Life()
    life.arrive(Release(10, 0), opened=False)
    asked: list[float] = []
    for _ in range(3000):
        life.restart(VERSIONS[0])
        if life.session.ask_due:
            life.ask()
            asked.append(life.now)
        if life.asked:
            life.answer(0)
        life.wait(0.1)
    for begin in asked:
        assert sum(begin <= time < begin + 60.0 for time in asked) <= 6
    assert len(asked) >= 6 * 4  # five minutes
