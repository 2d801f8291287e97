"""What the API shows of a domain: immutable snapshots of what its stay knows now."""

from sidecar.api.views import ChannelView, DomainView, MessageView, ToolsView
from sidecar.engine.channel import Channel
from sidecar.engine.domain import Domain
from sidecar.engine.news import describe_tools, read_row
from sidecar.engine.stay import Phase, Stay
from sidecar.engine.tools import ToolsEntry
from sidecar.errors import MessageNotAllowedError
from sidecar.protocol.ovirt_messages import HOST_TO_GUEST
from sidecar.protocol.qga_commands import QGA_COMMANDS
from sidecar.protocol.states import Dialect

_ACTIVITIES = {Phase.EXPECTED: "incoming", Phase.RUNNING: "running", Phase.PAUSED: "paused"}


def view_domain(domain: Domain, stay: Stay) -> DomainView:
    """The domain as it is now."""
    arrival = stay.arrival
    return DomainView(
        name=domain.name,
        uuid=str(domain.uuid),
        activity=_ACTIVITIES[stay.phase],
        host=None if arrival is None else arrival.host,
        host_uuid=None if arrival is None else arrival.host_uuid,
        run=stay.run_token,
        arrival=None if arrival is None else arrival.arrival,
        arrivals=None if arrival is None else arrival.arrivals,
        arrived=None if arrival is None else arrival.arrived,
        recorded=stay.recorded,
        channels=view_channels(stay),
        tools=_view_tools(stay.tools),
    )


def view_channels(stay: Stay) -> tuple[ChannelView, ...]:
    """Its channels as they are now."""
    return tuple(ChannelView(*read_row(channel.row)) for channel in stay.channels)


def _view_tools(tools: ToolsEntry) -> ToolsView | None:
    described = describe_tools(tools.row)
    return None if described is None else ToolsView(**described, state=tools.state.name.lower().replace("_", "-"))


def view_messages(stay: Stay, channel: str | None) -> tuple[MessageView, ...]:
    """Every message of the dialects that the domain has a channel for; ``channel``: by this one alone."""
    dialects = {c.dialect for c in stay.channels if channel in (None, c.device.name)}
    tables = {Dialect.OVIRT: HOST_TO_GUEST, Dialect.QGA: QGA_COMMANDS}
    return tuple(
        view_message(stay, name, channel) for dialect in Dialect if dialect in dialects for name in tables[dialect]
    )


def view_message(stay: Stay, name: str, channel: str | None) -> MessageView:
    """A message of the tables, and whether it may be sent now.

    Raises:
        MessageNotAllowedError: No table has it.
    """
    try:
        taker: Channel | None = stay.choose_channel(name, channel)
        refusal = None
    except MessageNotAllowedError as error:
        if name not in HOST_TO_GUEST and name not in QGA_COMMANDS:
            raise
        taker, refusal = None, error.refusal
    row = QGA_COMMANDS.get(name) or HOST_TO_GUEST[name]
    return MessageView(
        message=name,
        dialect=Dialect.QGA if name in QGA_COMMANDS else Dialect.OVIRT,
        since=str(row.since),
        purpose=row.why,
        allowed=refusal is None,
        channel=None if taker is None else taker.device.name,
        code=None if refusal is None else refusal.code,
        why=None if refusal is None else refusal.why,
        required=None if refusal is None else refusal.required,
        agreed=None if refusal is None else refusal.agreed,
        reason=None if refusal is None else refusal.reason,
    )
