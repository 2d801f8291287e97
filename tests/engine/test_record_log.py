import logging
from dataclasses import replace

import pytest

from sidecar.engine.record_log import RecordLog
from sidecar.protocol.tools import Source, ToolsVersion, Tristate
from sidecar.record.agreement import Agreement, ToolsRow
from tests.engine.lone_host import came_along

BARE = came_along()
ROW = ToolsRow(Source.GUEST_TOOLS, ToolsVersion(1, 4, 0, 12), Tristate.FALSE, Tristate.TRUE)
TOOLED = replace(BARE, tools=ROW)
TOOLS_LINE = "'vm1': tools: 1.4.0-12 by guest-tools (upgradable: false, up to date: true)"
CHANNEL_LINE = "'vm1': ovirt-guest-agent.0: agreed 4 (guest 4, host 4)"


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def lines(caplog: pytest.LogCaptureFixture, recorded: Agreement | None, *written: Agreement) -> list[str]:
    log = RecordLog("'vm1'", recorded)
    for agreement in written:
        log.note(agreement)
    return [record.getMessage() for record in caplog.records]


def test_one_line_a_row(caplog: pytest.LogCaptureFixture) -> None:
    assert lines(caplog, None, TOOLED, TOOLED) == [CHANNEL_LINE, TOOLS_LINE]


def test_what_stood_there_before_us_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    assert lines(caplog, TOOLED, TOOLED) == []


def test_tools_that_come_and_go(caplog: pytest.LogCaptureFixture) -> None:
    assert lines(caplog, BARE, TOOLED, BARE, BARE) == [TOOLS_LINE, "'vm1': tools: none any more"]


def test_a_channel_that_has_no_version(caplog: pytest.LogCaptureFixture) -> None:
    row = replace(BARE.channels[0], state="lost", version="0", guest=None, reason="port-closed")
    written = replace(BARE, channels=(row,))
    assert lines(caplog, BARE, written) == ["'vm1': ovirt-guest-agent.0: lost (guest none, host 4, port-closed)"]
