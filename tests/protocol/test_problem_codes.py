"""docs/problems.md against the code: a code that users see is explained, and none is explained that they cannot see."""

import re
from collections import Counter
from pathlib import Path

import pytest

from sidecar.api.problems import PROBLEMS, REFUSED, ProblemCode
from sidecar.engine.remedies import FindingCode
from sidecar.errors import RefusalCode
from sidecar.protocol import ovirt_states, qga_states
from sidecar.protocol.bad_input import BadInputCode
from sidecar.protocol.states import Reason

PAGE = Path(__file__).parents[2] / "docs" / "problems.md"
ROWS = re.findall(r"^\| `([^`]+)` \| ([^|]*) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
STAGES: list[ovirt_states.Stage | qga_states.Stage] = [*ovirt_states.Stage, *qga_states.Stage]


def test_the_page_lists_every_code_once_and_no_other() -> None:
    codes = {*map(str, [*Reason, *BadInputCode, *RefusalCode, *FindingCode, *ProblemCode])}
    assert sorted(code for code, _ in ROWS) == sorted(codes)


def test_a_code_means_one_thing() -> None:
    kinds = (Reason, BadInputCode, RefusalCode, FindingCode, ProblemCode)
    codes = Counter(str(code) for codes in kinds for code in codes)
    # An agent's reply that is none, and a libvirt that is away, are the same wherever they are met.
    assert {code for code, count in codes.items() if count > 1} == {"bad-reply", "libvirt-unavailable"}


def test_the_page_has_every_problems_status_and_exit_code() -> None:
    for code, kind in PROBLEMS.items():
        column = dict(ROWS)[code]
        if column.startswith(("4", "5")) and code in list(ProblemCode):
            exits = f" (exit {kind.exit_code})" if kind.exit_code != REFUSED else ""
            assert column == f"{kind.status}{exits}"
    assert {code for code, kind in PROBLEMS.items() if code in list(RefusalCode) and kind.status != 409} == {
        RefusalCode.NOT_IN_TABLE,
        RefusalCode.BAD_ARGUMENTS,
    }


def test_every_reason_is_a_stages() -> None:
    assert {stage.reason for stage in STAGES} == {None, *Reason}


@pytest.mark.parametrize("stage", STAGES, ids=str)
def test_the_page_names_every_state_that_a_reason_goes_with(stage: ovirt_states.Stage | qga_states.Stage) -> None:
    if stage.reason is not None:
        column = dict(ROWS).get(stage.reason, "not on the page")
        assert f"`{stage.state}`" in column


@pytest.mark.parametrize("reason", [Reason.FLAPPING, Reason.GUEST_FROZEN, Reason.INFERRED])
def test_the_page_says_what_is_a_warning_on_agreed(reason: Reason) -> None:
    column = dict(ROWS).get(reason, "not on the page")
    assert "`agreed`" in column
