import pytest

from sidecar.protocol.ovirt_states import MOVES, Stage, Step
from sidecar.protocol.states import Reason, State, advance

# Stage by stage (rows) and step by step (columns), written out independently of the code; "." is refused.
# fmt: off
TABLE = """
             OPENED   CONNECTED  EVIDENCE  OFFER   ZERO       NO_OFFER    CAPPED  SUPPRESSED  CLOSED  SILENCE  OVERDUE     BUSY     UNREACHABLE  FOREIGN  DISCONNECTED  STOOD_BY
UNHEARD      UNHEARD  UNHEARD    INFERRED  AGREED  RESTARTED  NO_VERSION  CAPPED  FLAPPING    CLOSED  SILENT   NOT_OPENED  BUSY     UNREACHABLE  FOREIGN  .             STANDBY
RESTARTED    UNHEARD  UNHEARD    .         AGREED  AT_ZERO    NO_VERSION  CAPPED  FLAPPING    CLOSED  SILENT   .           YIELDED  .            .        CUT           .
BUSY         .        UNHEARD    .         AGREED  RESTARTED  NO_VERSION  CAPPED  FLAPPING    .       .        .           BUSY     UNREACHABLE  FOREIGN  .             STANDBY
UNREACHABLE  .        UNHEARD    .         AGREED  RESTARTED  NO_VERSION  CAPPED  FLAPPING    .       .        .           BUSY     UNREACHABLE  FOREIGN  .             STANDBY
FOREIGN      .        UNHEARD    .         AGREED  RESTARTED  NO_VERSION  CAPPED  FLAPPING    .       .        .           BUSY     UNREACHABLE  FOREIGN  .             STANDBY
STANDBY      UNHEARD  UNHEARD    .         AGREED  RESTARTED  NO_VERSION  CAPPED  FLAPPING    .       .        NOT_OPENED  BUSY     UNREACHABLE  FOREIGN  .             STANDBY
FLAPPING     UNHEARD  UNHEARD    .         AGREED  RESTARTED  NO_VERSION  CAPPED  FLAPPING    CLOSED  SILENT   .           BUSY     .            .        CUT           .
INFERRED     UNHEARD  UNHEARD    .         AGREED  RESTARTED  NO_VERSION  CAPPED  FLAPPING    CLOSED  SILENT   .           YIELDED  .            .        CUT           .
AGREED       UNHEARD  UNHEARD    .         AGREED  RESTARTED  NO_VERSION  CAPPED  FLAPPING    CLOSED  SILENT   .           YIELDED  .            .        CUT           .
NO_VERSION   UNHEARD  UNHEARD    .         AGREED  RESTARTED  NO_VERSION  CAPPED  FLAPPING    CLOSED  SILENT   .           YIELDED  .            .        CUT           .
AT_ZERO      UNHEARD  UNHEARD    .         AGREED  AT_ZERO    NO_VERSION  CAPPED  FLAPPING    CLOSED  SILENT   .           YIELDED  .            .        CUT           .
CAPPED       UNHEARD  UNHEARD    .         AGREED  RESTARTED  NO_VERSION  CAPPED  FLAPPING    CLOSED  SILENT   .           YIELDED  .            .        CUT           .
CLOSED       UNHEARD  .          .         AGREED  RESTARTED  NO_VERSION  CAPPED  FLAPPING    .       .        .           YIELDED  .            .        .             STANDBY
SILENT       UNHEARD  UNHEARD    .         AGREED  RESTARTED  NO_VERSION  CAPPED  FLAPPING    CLOSED  .        .           YIELDED  .            .        CUT           STANDBY
CUT          UNHEARD  UNHEARD    .         AGREED  RESTARTED  NO_VERSION  CAPPED  FLAPPING    CLOSED  .        .           YIELDED  .            .        .             STANDBY
YIELDED      .        UNHEARD    .         AGREED  RESTARTED  NO_VERSION  CAPPED  FLAPPING    .       .        .           .        .            .        .             STANDBY
NOT_OPENED   UNHEARD  .          .         AGREED  RESTARTED  NO_VERSION  CAPPED  FLAPPING    .       .        .           BUSY     .            .        .             .
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
    Stage.RESTARTED: ("waiting", "agent-restarted"),
    Stage.BUSY: ("waiting", "socket-busy"),
    Stage.UNREACHABLE: ("waiting", "socket-unreachable"),
    Stage.FOREIGN: ("waiting", "socket-foreign"),
    Stage.STANDBY: ("waiting", "other-channel"),
    Stage.FLAPPING: ("waiting", "flapping"),
    Stage.INFERRED: ("agreed", "inferred"),
    Stage.AGREED: ("agreed", None),
    Stage.NO_VERSION: ("unversioned", "no-version"),
    Stage.AT_ZERO: ("unversioned", "stays-at-zero"),
    Stage.CAPPED: ("unversioned", "host-capped"),
    Stage.CLOSED: ("lost", "port-closed"),
    Stage.SILENT: ("lost", "agent-silent"),
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


def test_the_words_are_the_documented_ones() -> None:
    assert [str(state) for state in State] == ["waiting", "agreed", "unversioned", "lost", "absent"]
    assert {reason for _, reason in STAGES.values() if reason} <= {str(reason) for reason in Reason}


@pytest.mark.parametrize("stage", list(Stage))
def test_a_good_heartbeat_always_counts(stage: Stage) -> None:
    assert advance(MOVES, stage, Step.OFFER) is Stage.AGREED


@pytest.mark.parametrize("stage", list(Stage))
def test_two_zeros_are_a_verdict_wherever_it_stood(stage: Stage) -> None:
    assert advance(MOVES, advance(MOVES, stage, Step.ZERO), Step.ZERO) is Stage.AT_ZERO
