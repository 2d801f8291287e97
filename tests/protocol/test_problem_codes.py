"""docs/problems.md against the code: a code that users see is explained, and none is explained that they cannot see."""

import re
from pathlib import Path

from sidecar.protocol.ovirt_reader import BadInputCode
from sidecar.protocol.states import Reason, Stage

PAGE = Path(__file__).parents[2] / "docs" / "problems.md"
ROWS = re.findall(r"^\| `([^`]+)` \| ([^|]*) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_page_lists_every_code_once_and_no_other() -> None:
    assert sorted(code for code, _ in ROWS) == sorted([*Reason, *BadInputCode])


def test_the_page_names_every_state_that_a_reason_goes_with() -> None:
    columns = dict(ROWS)
    for stage in Stage:
        if stage.reason is not None:
            assert f"`{stage.state}`" in columns[stage.reason]
