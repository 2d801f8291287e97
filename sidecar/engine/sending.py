"""Which of a domain's channels a message goes to.

A message belongs to the dialect whose table has it; of several channels of that dialect the first that would take it
is used, unless the caller names one.
"""

from collections.abc import Iterable

from sidecar.engine.channel import Channel
from sidecar.errors import MessageNotAllowedError, Refusal, RefusalCode
from sidecar.protocol.ovirt_messages import HOST_TO_GUEST
from sidecar.protocol.qga_commands import QGA_COMMANDS
from sidecar.protocol.states import Dialect, State


def find_dialect(message: str) -> Dialect | None:
    """The dialect whose table has this message (from host to guest)."""
    if message in QGA_COMMANDS:
        return Dialect.QGA
    return Dialect.OVIRT if message in HOST_TO_GUEST else None


def choose_channel(channels: Iterable[Channel], message: str, name: str | None) -> Channel:
    """The channel that takes this message now; ``name``: that one, or none.

    Raises:
        MessageNotAllowedError: None takes it; the refusal is the one of the channel that is closest to it.
    """
    dialect = find_dialect(message)
    if dialect is None:
        raise MessageNotAllowedError(Refusal(RefusalCode.NOT_IN_TABLE, message, "in no message table"))
    candidates = [c for c in channels if c.dialect is dialect and name in (None, c.device.name)]
    if not candidates:
        which = f"no {dialect.value} channel" + ("" if name is None else f" of the name {name!a}")
        raise MessageNotAllowedError(Refusal(RefusalCode.NO_CHANNEL, message, f"the domain has {which}"))
    refusals = []
    for channel in candidates:
        refusal = channel.refuse(message)
        if refusal is None:
            return channel
        refusals.append((channel.row.state != State.AGREED, refusal))
    raise MessageNotAllowedError(min(refusals, key=lambda pair: pair[0])[1])
