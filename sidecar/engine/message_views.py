"""The message table of a domain, as the API shows it: what may be sent now and, where not, why."""

from sidecar.api.views import MessageView
from sidecar.engine.channel import Channel
from sidecar.engine.stay import Stay
from sidecar.errors import MessageNotAllowedError
from sidecar.protocol.ovirt_messages import HOST_TO_GUEST
from sidecar.protocol.qga_commands import QGA_COMMANDS
from sidecar.protocol.states import Dialect


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
