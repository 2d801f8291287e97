"""What the API shows of a domain: the record's texts, as they are now."""

from dataclasses import fields
from operator import attrgetter
from uuid import UUID

from sidecar.api.views import ChannelView, DomainView, ToolsView
from sidecar.engine.tools import ToolsEntry
from sidecar.record.agreement import Agreement, ChannelRow, ToolsRow

_read_row = attrgetter(*(field.name for field in fields(ChannelView)))


def view_domain(
    name: str,
    uuid: UUID,
    run: str,
    activity: str,
    arrival: Agreement | None,
    rows: tuple[ChannelRow, ...],
    tools: ToolsEntry,
    *,
    recorded: bool,
) -> DomainView:
    """One domain; ``arrival`` is its record without the channels, ``None`` while its guest has not come."""
    return DomainView(
        name=name,
        uuid=str(uuid),
        activity=activity,
        host=None if arrival is None else arrival.host,
        host_uuid=None if arrival is None else arrival.host_uuid,
        run=run,
        arrival=None if arrival is None else arrival.arrival,
        arrivals=None if arrival is None else arrival.arrivals,
        arrived=None if arrival is None else arrival.arrived,
        recorded=recorded,
        channels=tuple(ChannelView(*_read_row(row)) for row in rows),
        tools=_view_tools(tools.row, tools.state.name.lower().replace("_", "-")),
    )


def _view_tools(row: ToolsRow | None, state: str) -> ToolsView | None:
    if row is None:
        return None
    return ToolsView(str(row.source), str(row.version), str(row.upgradable), str(row.up_to_date), state)
