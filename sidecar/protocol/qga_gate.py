"""Whether a command may go to an agent: the command table, what is agreed, and what the agent lists.

Source: docs/protocol.md, "The QGA dialect"; docs/problems.md for the codes.
"""

from sidecar.errors import Refusal, RefusalCode
from sidecar.protocol.qga_commands import NEGOTIATION_COMMANDS, QGA_COMMANDS, Command
from sidecar.protocol.qga_report import Report
from sidecar.protocol.refusals import refuse_unagreed
from sidecar.protocol.releases import Release
from sidecar.protocol.states import ChannelView, Reason, State


def refuse_command(name: str, view: ChannelView[str], agreed: Release, latest: Report | None) -> Refusal | None:
    """Why a command may not go now; ``None``: it may.

    Args:
        name: The command.
        view: What is known of the channel.
        agreed: The release in force.
        latest: The agent's last list, frozen or not.
    """
    command = QGA_COMMANDS.get(name)
    if command is None:
        return Refusal(RefusalCode.NOT_IN_TABLE, name, "not in the command table", agreed=view.version)
    if name in NEGOTIATION_COMMANDS:
        return Refusal(RefusalCode.NEGOTIATION_ONLY, name, "only the negotiation itself sends it")
    if view.state is not State.AGREED or latest is None:
        return refuse_unagreed(name, view)
    if command.since > agreed:
        why = f"came with QEMU {command.since}, agreed is {agreed}"
        return Refusal(RefusalCode.VERSION_TOO_LOW, name, why, str(command.since), view.version, view.reason)
    if name not in latest.enabled:
        why = _explain_disabled(command, frozen=view.reason is Reason.GUEST_FROZEN)
        return Refusal(RefusalCode.NOT_ENABLED, name, why, str(command.since), view.version, view.reason)
    return None


def _explain_disabled(command: Command, *, frozen: bool) -> str:
    why = "the agent does not list it as enabled"
    if frozen:
        return f"{why}: the guest is frozen; thaw it with guest-fsfreeze-thaw"
    return f"{why} (it is there on {command.platforms})" if command.platforms else why
