"""docs/problems.md against the code: a code that users see is explained, and none is explained that they cannot see."""

import re
from pathlib import Path

import pytest

from sidecar.engine.remedies import FindingCode
from sidecar.errors import RefusalCode
from sidecar.protocol import ovirt_states, qga_states
from sidecar.protocol.bad_input import BadInputCode
from sidecar.protocol.states import Reason

PAGE = Path(__file__).parents[2] / "docs" / "problems.md"
ROWS = re.findall(r"^\| `([^`]+)` \| ([^|]*) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
STAGES: list[ovirt_states.Stage | qga_states.Stage] = [*ovirt_states.Stage, *qga_states.Stage]


def test_the_page_lists_every_code_once_and_no_other() -> None:
    assert sorted(code for code, _ in ROWS) == sorted([*Reason, *BadInputCode, *RefusalCode, *FindingCode])


def test_a_code_means_one_thing() -> None:
    codes = [str(code) for codes in (Reason, BadInputCode, RefusalCode, FindingCode) for code in codes]
    assert sorted(set(codes)) == sorted(codes)


def test_every_reason_but_the_one_that_only_warns_is_a_stages() -> None:
    assert {stage.reason for stage in STAGES} == {None, *Reason} - {Reason.INFERRED}


@pytest.mark.parametrize("stage", STAGES, ids=str)
def test_the_page_names_every_state_that_a_reason_goes_with(stage: ovirt_states.Stage | qga_states.Stage) -> None:
    if stage.reason is not None:
        column = dict(ROWS).get(stage.reason, "not on the page")
        assert f"`{stage.state}`" in column


@pytest.mark.parametrize("reason", [Reason.FLAPPING, Reason.GUEST_FROZEN, Reason.INFERRED])
def test_the_page_says_what_is_a_warning_on_agreed(reason: Reason) -> None:
    column = dict(ROWS).get(reason, "not on the page")
    assert "`agreed`" in column
