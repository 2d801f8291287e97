"""What an agent's answer to ``guest-info`` tells: who it is and what it may be asked.

The version text is a hint; the commands that it lists as enabled are the truth. Absent and disabled are the same: older
builds listed what their platform lacks as disabled, newer ones leave it out.

Source: docs/protocol.md, "The QGA dialect".
"""

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from sidecar.errors import BadReplyError
from sidecar.protocol.guest_text import clean_line
from sidecar.protocol.qga_commands import FROZEN_COMMANDS, QGA_COMMANDS
from sidecar.protocol.qga_versions import place_by_commands, read_release
from sidecar.protocol.qga_wire import DECODE_ERRORS
from sidecar.protocol.releases import Release, parse_version_text

# QEMU's newest agent lists some 45 commands in about 4 KiB. A list that is larger than this is nobody's honest work.
REPORT_LIMIT_BYTES = 256 * 1024
COMMANDS_LIMIT = 1024


class _Command(msgspec.Struct, frozen=True):
    name: str
    enabled: bool


class _Info(msgspec.Struct, frozen=True):
    supported_commands: list[_Command]
    version: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_INFO = msgspec.json.Decoder(_Info)
_TEXT = msgspec.json.Decoder(str)


@dataclass(frozen=True, slots=True)
class Report:
    """A judged ``guest-info``.

    Attributes:
        offer: What the agent calls itself: at most four dotted integers, ``None`` without any.
        release: The QEMU release it is taken for.
        inferred: The release was found by the commands, because the version text is not one of QEMU's own.
        enabled: The commands of our table that it lists as enabled.
        frozen: It has file systems frozen, and everything disabled that is not needed to thaw them.
    """

    offer: str | None
    release: Release
    inferred: bool
    enabled: frozenset[str]
    frozen: bool


def read_report(result: bytes) -> Report:
    """The report in the result of ``guest-info``, as JSON.

    Raises:
        BadReplyError: It is not what an agent answers, or too large.
    """
    if len(result) > REPORT_LIMIT_BYTES:
        raise BadReplyError(f"guest-info: {len(result)} bytes")
    try:
        info = _INFO.decode(result)
    except DECODE_ERRORS as error:
        raise BadReplyError(f"guest-info: {clean_line(str(error))}") from error
    if len(info.supported_commands) > COMMANDS_LIMIT:
        raise BadReplyError(f"guest-info: {len(info.supported_commands)} commands")
    return judge_report(_version_text(info), ((command.name, command.enabled) for command in info.supported_commands))


def judge_report(version_text: str, commands: Iterable[tuple[str, bool]]) -> Report:
    """The report of an agent that calls itself so and lists these commands, each with whether it is enabled.

    A command that is listed twice is enabled when both say so.
    """
    listed = list(commands)
    disabled = {name for name, enabled in listed if not enabled}
    enabled = frozenset(name for name, _ in listed if name in QGA_COMMANDS) - disabled
    numbers = parse_version_text(version_text)
    named = read_release(version_text)
    return Report(
        offer=".".join(map(str, numbers)) or None,
        release=named or place_by_commands(enabled),
        inferred=named is None,
        enabled=enabled,
        frozen=_is_frozen(enabled, disabled),
    )


def _is_frozen(enabled: frozenset[str], disabled: set[str]) -> bool:
    """A frozen agent lists everything else as disabled, and whatever was blocked before stays so."""
    return enabled <= FROZEN_COMMANDS and "guest-fsfreeze-thaw" in enabled and not disabled <= FROZEN_COMMANDS


def _version_text(info: _Info) -> str:
    try:
        return "" if info.version is msgspec.UNSET else _TEXT.decode(info.version)
    except DECODE_ERRORS:
        return ""
