"""A test whose guest's kernel died of corrupted memory is run once more, in a new laboratory; the summary tells of it.

That is no fault that a test could find, and happens once in some hundred migrations. Were it ours it would come more
often: after so many in one worker a test that fails stays failed.
"""

import pytest
from _pytest.runner import runtestprotocol

LIMIT = 2
SIGNS = pytest.StashKey[list[str]]()
_COUNT = pytest.StashKey[int]()
_PROPERTY = "guest's kernel died"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """Runs one test, and says so; `SIGNS` was set by whoever looked at the guests when it failed."""
    hook = item.ihook
    hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, log=False, nextitem=nextitem)
    signs = item.stash.get(SIGNS, [])
    if signs and _may_run_again(item):
        item.session._setupstate.teardown_exact(None)
        item.stash[SIGNS] = []
        item._initrequest()  # type: ignore[attr-defined]
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        reports[0].user_properties.append((_PROPERTY, signs[0]))
    for report in reports:
        hook.pytest_runtest_logreport(report=report)
    hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _may_run_again(item: pytest.Item) -> bool:
    count = item.config.stash[_COUNT] = item.config.stash.get(_COUNT, 0) + 1
    return count <= LIMIT


def list_runs(terminalreporter: pytest.TerminalReporter) -> list[str]:
    """A line for each test that was run again."""
    return [
        f"{report.nodeid}: {sign}"
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport)
        for name, sign in report.user_properties
        if name == _PROPERTY
    ]
