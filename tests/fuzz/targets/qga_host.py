"""The host's end of the QGA dialect: hostile ``guest-info`` between reports of the port, failures, caps and time."""

from collections.abc import Iterable

from sidecar.errors import BadReplyError
from sidecar.protocol.qga_commands import NEGOTIATION_COMMANDS, QGA_COMMANDS
from sidecar.protocol.qga_host import QgaSession
from sidecar.protocol.qga_report import Report, judge_report, read_report
from sidecar.protocol.qga_states import Stage, Step
from sidecar.protocol.releases import Release
from sidecar.protocol.states import Port, Reason, State
from tests.fuzz.readings import check_line
from tests.fuzz.script import PAUSES_S, choose, run_steps

WORDS = (
    *(f'{{"name": "{name}", "enabled": true}}, '.encode() for name in ("guest-exec", "guest-info", "guest-get-load")),
    *(f'{{"name": "{name}", "enabled": true}}, '.encode() for name in ("guest-fsfreeze-thaw", "guest-sync")),
    b'{"version": "7.2.22", "supported_commands": [',
    b'"enabled": false',
    b"]}",
    b"102.10.0",
    b"\xffa\xffp0\xff",
    b"\xffw8\xffa",
)

MAXIMA = (Release(10, 0), Release(7, 2), Release(1, 10), Release(0, 15), Release(0, 0))
FAILURES = (Step.BLOCKED, Step.SILENCE, Step.POISONED, Step.BAD_REPLY, Step.JOB_HELD, None)
STAGES = {(stage.state, stage.reason) for stage in Stage}
SAMPLE = ("guest-exec", "guest-fsfreeze-thaw", "guest-sync")
HEALTHY = judge_report("7.2.22", [(name, True) for name in QGA_COMMANDS])


class Walk:
    """One session, and the reports that it has been given."""

    def __init__(self) -> None:
        self.now, self.number = 0.0, 0
        self.begin(b"")

    def begin(self, argument: bytes) -> None:
        """Another arrival: maximum, port, and perhaps what a daemon before us had agreed on."""
        port, agreed = choose(list(Port), argument, 1), choose((None, Release(7, 2)), argument, 2)
        self.maximum = choose(MAXIMA, argument)
        offer = None if agreed is None else "7.2.22"
        self.session = QgaSession(
            maximum=self.maximum, absent_s=120.0, now=self.now, port=port, offer=offer, agreed=agreed
        )
        self.told: list[Report] = []
        self.seen: object = None

    def receive(self, data: bytes) -> None:
        """The agent answers with these bytes, whoever they are the answer for."""
        try:
            report = read_report(data)
        except BadReplyError as error:
            check_line(str(error))
            self.session.fail(self.number, Step.BAD_REPLY, self.now)
            return
        self.told.append(report)
        self.session.receive_report(self.number, report, self.now)

    def ask(self, _: bytes) -> None:
        if self.session.ask_due:
            self.number = self.session.begin_round()
            assert not self.session.ask_due

    def fail(self, argument: bytes) -> None:
        self.session.fail(self.number, choose(FAILURES, argument), self.now)

    def report_port(self, argument: bytes) -> None:
        report = self.session.port_opened if choose((True, False), argument) else self.session.port_closed
        report(self.now)

    def see_port(self, argument: bytes) -> None:
        if choose((True, False), argument, 1):
            self.session.lose_track()
        self.session.port_seen(choose((True, False), argument), self.now)

    def connect(self, _: bytes) -> None:
        self.session.connect(self.now)

    def disconnect(self, argument: bytes) -> None:
        self.session.disconnect(self.now, choose((Step.DISCONNECTED, Step.BUSY), argument))

    def cap(self, argument: bytes) -> None:
        self.maximum = choose(MAXIMA, argument)
        self.session.set_maximum(self.maximum, self.now)

    def doubt(self, argument: bytes) -> None:
        self.session.doubt(self.now, left=choose((False, True), argument))

    def renegotiate(self, _: bytes) -> None:
        self.session.renegotiate(self.now)

    def wait(self, argument: bytes) -> None:
        self.now += choose(PAUSES_S, argument)

    # What always holds.

    def look(self) -> None:
        """The view is one of the table's; nothing passes that is not agreed and listed; a kept deadline is over."""
        self.session.tick(self.now)
        assert self.session.deadline > self.now
        view = self.session.view
        assert view.host == str(self.maximum)
        assert (view.version != "0") == (view.state is State.AGREED)
        assert Release.parse(view.version) <= self.maximum
        assert (view.state, view.reason) in STAGES or view.reason in (Reason.FLAPPING, Reason.INFERRED)
        assert view.guest is None or all(part.isdigit() and part.isascii() for part in view.guest.split("."))
        # All of the table each time would take most of the time.
        self.check_gate(QGA_COMMANDS if (view, len(self.told)) != self.seen else SAMPLE)
        self.seen = view, len(self.told)

    def check_gate(self, names: Iterable[str]) -> None:
        version, state = Release.parse(self.session.view.version), self.session.view.state
        for name in names:
            if self.session.refuse(name) is None:
                assert state is State.AGREED
                assert QGA_COMMANDS[name].since <= version
                assert name in self.told[-1].enabled - NEGOTIATION_COMMANDS

    def end(self) -> None:
        """Once it is calm a healthy agent is asked once, and agreed with, whatever was before."""
        self.session.port_closed(self.now)
        self.now += 130.0
        self.session.connect(self.now)
        self.session.port_opened(self.now)
        assert self.session.ask_due
        self.session.receive_report(self.session.begin_round(), HEALTHY, self.now)
        view = self.session.view
        assert view.state is (State.AGREED if self.maximum else State.UNVERSIONED)
        assert view.version == str(min(self.maximum, Release(7, 2)))
        assert self.session.ask_at == float("inf")


STEPS = {
    ord("a"): Walk.ask,
    ord("b"): Walk.begin,
    ord("c"): Walk.connect,
    ord("d"): Walk.disconnect,
    ord("f"): Walk.fail,
    ord("m"): Walk.cap,
    ord("o"): Walk.doubt,
    ord("p"): Walk.report_port,
    ord("r"): Walk.renegotiate,
    ord("w"): Walk.wait,
    ord("x"): Walk.see_port,
}


def check(data: bytes) -> None:
    """The script, and then a healthy agent."""
    walk = Walk()
    run_steps(walk, data, STEPS, Walk.receive, Walk.look)
    walk.end()
