"""What is told of one stay as it goes: arrival, rows, tools, record, end. The log of events is for all domains.

A row that changes is told at once, or, when it has changed too often (``ROW_LIMIT``), as it is when the next record is
written.
"""

import asyncio
from collections.abc import Callable
from dataclasses import fields
from typing import Any
from uuid import UUID

from sidecar.api.events import EventType
from sidecar.engine.event_log import EventLog
from sidecar.protocol.budget import Budget
from sidecar.record.agreement import Agreement, ChannelRow, ToolsRow

# An arrival changes a row three times, a restart of the agent four. What is over this is told when it goes on record,
# which has a limit of its own, so that a guest that flaps does not drive the news of all others out of the log.
ROW_LIMIT = 12
ROW_WINDOW_S = 60.0

# No channel has such a name.
_TOOLS = "\0tools"

_ROW_KEYS = tuple(field.name for field in fields(ChannelRow))

_Latest = tuple[tuple[ChannelRow, ...], ToolsRow | None, bool]


class StayNews:
    """See the module; ``recorded`` is what stood there before us, of the same QEMU process: no news."""

    def __init__(self, name: str, uuid: UUID, events: EventLog, recorded: Agreement | None) -> None:
        self._name, self._uuid, self._events = name, uuid, events
        self._rows = {} if recorded is None else {row.name: row for row in recorded.channels}
        self._tools = None if recorded is None else recorded.tools
        self._budgets: dict[str, Budget] = {}
        self._latest: _Latest = ((), None, False)

    def note_arrival(self, arrival: Agreement) -> None:
        """The guest is here."""
        self._publish(EventType.ARRIVED, arrival=arrival.arrival, arrivals=arrival.arrivals, run=arrival.run)

    def note_left(self, arrival: Agreement) -> None:
        """The QEMU process is gone from here, with its guest or without."""
        self._publish(EventType.LEFT, arrivals=arrival.arrivals, run=arrival.run)

    def note_rows(self, rows: tuple[ChannelRow, ...], tools: ToolsRow | None, recorded: bool) -> None:
        """The rows are so now, on record or not."""
        latest = rows, tools, recorded
        if self._latest != latest:
            self._latest = latest
            self._events.bell.ring()
            self._tell_latest(self._may_tell)

    def note_record(self, agreement: Agreement) -> None:
        """The agreement stands in the XML."""
        self._tell_latest(lambda name: True)
        self._publish(EventType.AGREEMENT, **describe_agreement(agreement))

    def _tell_latest(self, may_tell: Callable[[str], bool]) -> None:
        rows, tools, _ = self._latest
        for row in rows:
            if row != self._rows.get(row.name) and may_tell(row.name):
                self._rows[row.name] = row
                self._publish(EventType.CHANNEL, channel=describe_row(row))
        if tools != self._tools and may_tell(_TOOLS):
            self._tools = tools
            self._publish(EventType.TOOLS, tools=describe_tools(tools))

    def _may_tell(self, name: str) -> bool:
        budget = self._budgets.setdefault(name, Budget(ROW_LIMIT, ROW_WINDOW_S))
        return budget.take(asyncio.get_running_loop().time())

    def _publish(self, kind: EventType, **details: Any) -> None:
        self._events.publish(kind, self._name, self._uuid, **details)


def describe_row(row: ChannelRow) -> dict[str, Any]:
    """The row as JSON values."""
    return {name: getattr(row, name) for name in _ROW_KEYS}


def describe_tools(tools: ToolsRow | None) -> dict[str, str] | None:
    """The tools as JSON values."""
    if tools is None:
        return None
    names = ("source", "version", "upgradable", "up_to_date")
    return {name: str(getattr(tools, name)) for name in names}


def describe_agreement(agreement: Agreement) -> dict[str, Any]:
    """The record as JSON values."""
    return {
        "host": agreement.host,
        "host_uuid": agreement.host_uuid,
        "run": agreement.run,
        "arrival": agreement.arrival,
        "arrivals": agreement.arrivals,
        "arrived": agreement.arrived,
        "channels": [describe_row(row) for row in agreement.channels],
        "tools": describe_tools(agreement.tools),
    }
