"""What holds for everything that was read from a guest, whichever target made the code read it."""

import json
import re
from collections.abc import Iterable, Mapping

from sidecar.protocol.bad_input import BadInput
from sidecar.protocol.fact_content import FactContent
from sidecar.protocol.guest_text import DEPTH_LIMIT, VALUES_LIMIT, clean_text
from sidecar.protocol.ovirt_facts import FACTS, read_fact
from sidecar.protocol.ovirt_messages import GUEST_TO_HOST
from sidecar.protocol.ovirt_reader import REPLY_ID_LIMIT, Completion, Event, Heartbeat, MessageReceived
from sidecar.protocol.ovirt_tools import Applications, GuestTools
from sidecar.protocol.tools import ToolsReport, ToolsVersion
from sidecar.protocol.versions import OFFER_LIMIT

# A line of a log with this in it stays one line that anybody can read.
_PRINTABLE = re.compile(r"[ -~]*")
LINE_LIMIT_CHARACTERS = 2200


def check_line(text: str) -> None:
    """One printable line of ASCII, and no longer than ours are."""
    assert _PRINTABLE.fullmatch(text), text
    assert len(text) <= LINE_LIMIT_CHARACTERS


def check_ovirt_events(events: Iterable[Event]) -> None:
    """Every event is one of the documented ones, within their bounds."""
    for event in events:
        match event:
            case BadInput():
                check_line(event.detail)
            case Heartbeat(offer):
                assert offer is None or (type(offer) is int and 0 <= offer <= OFFER_LIMIT)
            case MessageReceived(name):
                assert name in GUEST_TO_HOST
            case Completion(reply_id):
                assert len(reply_id) <= REPLY_ID_LIMIT
            case GuestTools(report) | Applications(report):
                check_tools(report)


def check_tools(report: ToolsReport | None) -> None:
    """What goes on record can be read back from it."""
    if report is not None:
        assert ToolsVersion.parse(str(report.version)) == report.version


def check_ovirt_facts(facts: Mapping[str, FactContent]) -> None:
    """What was kept is within its bounds, and a value or ``ValueError`` comes of it."""
    for name, content in facts.items():
        assert len(content.raw) <= FACTS[name]
        try:
            value = read_fact(content)
        except ValueError:
            continue
        check_value(value)


def check_value(value: object) -> None:
    """A JSON value for our own users: finite, moderate, not deep, and clean."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    assert clean_text(text) == text
    level, count = [value], 0
    for _ in range(DEPTH_LIMIT + 2):
        count += len(level)
        level = [inner for outer in level for inner in _open(outer)]
    assert not level
    assert count <= VALUES_LIMIT


def _open(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    assert not isinstance(value, int) or -(2**63) <= value < 2**64
    return value if isinstance(value, list) else ()
