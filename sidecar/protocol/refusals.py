"""The refusal that both dialects share: a channel that has nothing agreed, or nobody to talk to."""

from sidecar.errors import Refusal, RefusalCode
from sidecar.protocol.states import ChannelView, Reason, VersionT


def refuse_unagreed(name: str, view: ChannelView[VersionT]) -> Refusal:
    """Why nothing at all may be sent on a channel in this state."""
    reason = None if view.reason is None else view.reason.value
    why = f"the channel is {view.state.value}" + ("" if reason is None else f" ({reason})")
    if view.reason is Reason.GUEST_FROZEN:
        why += "; thaw it with virsh domfsthaw"
    return Refusal(RefusalCode.NOT_AGREED, name, why, agreed=str(view.version), reason=reason)
