import pytest

from sidecar.protocol.qga_states import MOVES, Stage, Step, resume_stage
from sidecar.protocol.states import Port, Reason, State, advance

# Stage by stage (rows) and step by step (columns), written out independently of the code; "." is refused.
# fmt: off
TABLE = """
             OPENED   CONNECTED  REPORT  FROZEN    BLOCKED  CAPPED  SUPPRESSED  CLOSED  SILENCE  POISONED  BAD_REPLY   JOB_HELD  OVERDUE     BUSY     UNREACHABLE  FOREIGN  DISCONNECTED
UNHEARD      UNHEARD  UNHEARD    AGREED  UNJUDGED  BLOCKED  CAPPED  FLAPPING    CLOSED  SILENT   POISONED  MISREPLIED  JOB_HELD  NOT_OPENED  BUSY     UNREACHABLE  FOREIGN  .
UNJUDGED     UNHEARD  UNHEARD    AGREED  UNJUDGED  BLOCKED  CAPPED  FLAPPING    CLOSED  SILENT   POISONED  MISREPLIED  .         .           YIELDED  .            .        CUT
JOB_HELD     UNHEARD  UNHEARD    AGREED  UNJUDGED  BLOCKED  CAPPED  FLAPPING    CLOSED  SILENT   POISONED  MISREPLIED  .         .           BUSY     .            .        CUT
BUSY         .        UNHEARD    AGREED  UNJUDGED  BLOCKED  CAPPED  FLAPPING    .       .        .         .           .         .           BUSY     UNREACHABLE  FOREIGN  .
UNREACHABLE  .        UNHEARD    AGREED  UNJUDGED  BLOCKED  CAPPED  FLAPPING    .       .        .         .           .         .           BUSY     UNREACHABLE  FOREIGN  .
FOREIGN      .        UNHEARD    AGREED  UNJUDGED  BLOCKED  CAPPED  FLAPPING    .       .        .         .           .         .           BUSY     UNREACHABLE  FOREIGN  .
FLAPPING     UNHEARD  UNHEARD    AGREED  UNJUDGED  BLOCKED  CAPPED  FLAPPING    CLOSED  SILENT   POISONED  MISREPLIED  JOB_HELD  .           BUSY     .            .        .
AGREED       UNHEARD  UNHEARD    AGREED  FROZEN    BLOCKED  CAPPED  FLAPPING    CLOSED  SILENT   POISONED  MISREPLIED  .         .           YIELDED  .            .        CUT
FROZEN       UNHEARD  UNHEARD    AGREED  FROZEN    BLOCKED  CAPPED  FLAPPING    CLOSED  SILENT   POISONED  MISREPLIED  .         .           YIELDED  .            .        CUT
BLOCKED      UNHEARD  UNHEARD    AGREED  UNJUDGED  BLOCKED  CAPPED  FLAPPING    CLOSED  SILENT   POISONED  MISREPLIED  .         .           YIELDED  .            .        CUT
CAPPED       UNHEARD  UNHEARD    AGREED  UNJUDGED  BLOCKED  CAPPED  FLAPPING    CLOSED  SILENT   POISONED  MISREPLIED  .         .           YIELDED  .            .        CUT
CLOSED       UNHEARD  .          AGREED  UNJUDGED  BLOCKED  CAPPED  FLAPPING    .       .        .         .           .         .           YIELDED  .            .        .
SILENT       UNHEARD  UNHEARD    AGREED  UNJUDGED  BLOCKED  CAPPED  FLAPPING    CLOSED  SILENT   POISONED  MISREPLIED  JOB_HELD  .           YIELDED  .            .        CUT
POISONED     UNHEARD  UNHEARD    AGREED  UNJUDGED  BLOCKED  CAPPED  FLAPPING    CLOSED  SILENT   POISONED  MISREPLIED  .         .           BUSY     .            .        CUT
MISREPLIED   UNHEARD  UNHEARD    AGREED  UNJUDGED  BLOCKED  CAPPED  FLAPPING    CLOSED  SILENT   POISONED  MISREPLIED  .         .           YIELDED  .            .        CUT
CUT          UNHEARD  UNHEARD    AGREED  UNJUDGED  BLOCKED  CAPPED  FLAPPING    CLOSED  .        .         .           .         .           YIELDED  .            .        .
YIELDED      .        UNHEARD    AGREED  UNJUDGED  BLOCKED  CAPPED  FLAPPING    .       .        .         .           .         .           .        .            .        .
NOT_OPENED   UNHEARD  .          AGREED  UNJUDGED  BLOCKED  CAPPED  FLAPPING    .       .        .         .           .         .           BUSY     .            .        .
"""  # noqa: E501
# fmt: on
HEADER, *ROWS = [line.split() for line in TABLE.strip().splitlines()]
CELLS = [
    pytest.param(Stage[stage], Step[step], None if cell == "." else Stage[cell], id=f"{stage}-{step}")
    for stage, *cells in ROWS
    for step, cell in zip(HEADER, cells, strict=True)
]


def test_the_table_here_is_whole() -> None:
    assert [Step[name] for name in HEADER] == list(Step)
    assert [Stage[stage] for stage, *_ in ROWS] == list(Stage)


@pytest.mark.parametrize(("stage", "step", "expected"), CELLS)
def test_every_cell(stage: Stage, step: Step, expected: Stage | None) -> None:
    assert MOVES.get((stage, step)) is expected
    assert advance(MOVES, stage, step) is (stage if expected is None else expected)


def test_no_move_beside_the_table() -> None:
    assert len(MOVES) == sum(cell != "." for _, *cells in ROWS for cell in cells)


def test_nobody_can_add_a_move() -> None:
    with pytest.raises(TypeError):
        MOVES[Stage.AGREED, Step.OVERDUE] = Stage.AGREED  # type: ignore[index]


STAGES = {
    Stage.UNHEARD: ("waiting", "not-heard"),
    Stage.UNJUDGED: ("waiting", "guest-frozen"),
    Stage.JOB_HELD: ("waiting", "agent-job-held"),
    Stage.BUSY: ("waiting", "socket-busy"),
    Stage.UNREACHABLE: ("waiting", "socket-unreachable"),
    Stage.FOREIGN: ("waiting", "socket-foreign"),
    Stage.FLAPPING: ("waiting", "flapping"),
    Stage.AGREED: ("agreed", None),
    Stage.FROZEN: ("agreed", "guest-frozen"),
    Stage.BLOCKED: ("unversioned", "guest-info-blocked"),
    Stage.CAPPED: ("unversioned", "host-capped"),
    Stage.CLOSED: ("lost", "port-closed"),
    Stage.SILENT: ("lost", "agent-silent"),
    Stage.POISONED: ("lost", "agent-poisoned"),
    Stage.MISREPLIED: ("lost", "bad-reply"),
    Stage.CUT: ("lost", "disconnected"),
    Stage.YIELDED: ("lost", "socket-busy"),
    Stage.NOT_OPENED: ("absent", "not-opened"),
}


@pytest.mark.parametrize("stage", list(Stage))
def test_state_and_reason(stage: Stage) -> None:
    assert (stage.state, stage.reason) == STAGES[stage]


def test_a_reason_whenever_not_agreed() -> None:
    for stage in Stage:
        assert stage.reason is not None or stage.state is State.AGREED


def test_every_reason_of_this_dialect_has_a_stage_but_the_one_that_only_warns() -> None:
    ovirts_own = {Reason.AGENT_RESTARTED, Reason.OTHER_CHANNEL, Reason.NO_VERSION, Reason.STAYS_AT_ZERO}
    assert {*Reason} - {stage.reason for stage in Stage} == ovirts_own | {Reason.INFERRED}


def test_every_stage_can_be_reached() -> None:
    reached = {Stage.UNHEARD}
    while found := {stage for (before, _), stage in MOVES.items() if before in reached} - reached:
        reached |= found
    assert reached == {*Stage}


@pytest.mark.parametrize("stage", list(Stage))
def test_nothing_but_a_report_makes_agreed(stage: Stage) -> None:
    for step in Step:
        after = advance(MOVES, stage, step)
        if step is Step.REPORT:
            assert after is Stage.AGREED
        elif after.state is State.AGREED:
            assert stage.state is State.AGREED
            assert after is (Stage.FROZEN if step is Step.FROZEN else stage)


@pytest.mark.parametrize("stage", [Stage.AGREED, Stage.FROZEN])
def test_what_was_agreed_outlives_a_freeze_and_other_clients_jobs_only(stage: Stage) -> None:
    kept = {step for step in Step if advance(MOVES, stage, step).state is State.AGREED}
    only_before = {Step.OVERDUE, Step.UNREACHABLE, Step.FOREIGN}  # cannot happen to an end that was heard
    assert kept == {Step.REPORT, Step.FROZEN, Step.JOB_HELD, *only_before}


@pytest.mark.parametrize("stage", list(Stage))
def test_an_answer_always_counts(stage: Stage) -> None:
    assert advance(MOVES, stage, Step.BLOCKED) is Stage.BLOCKED
    assert advance(MOVES, stage, Step.CAPPED) is Stage.CAPPED
    assert advance(MOVES, stage, Step.FROZEN).reason is Reason.GUEST_FROZEN


@pytest.mark.parametrize("port", Port)
@pytest.mark.parametrize("state", [None, *State])
def test_where_a_negotiation_goes_on(state: State | None, port: Port) -> None:
    resumed = {State.LOST: Stage.CLOSED, State.ABSENT: Stage.NOT_OPENED}
    if port is Port.CLOSED:
        resumed |= {State.AGREED: Stage.CLOSED, State.UNVERSIONED: Stage.CLOSED}
    expected = Stage.UNHEARD
    if state is not None and port in (Port.CLOSED, Port.UNKNOWN):
        expected = resumed.get(state, Stage.UNHEARD)
    assert resume_stage(state, port) is expected
