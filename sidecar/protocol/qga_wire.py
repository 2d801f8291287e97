"""What goes over the wire of a QEMU guest agent: commands out, replies in, as values.

A reply that is not the answer to our command never becomes one: each command carries an ``id`` that nobody can guess,
and its reply carries the same. Agents of before QEMU 3.1 know no ``id``; they are synchronised with right before
each command, and what they say next is taken for the answer, for want of better.

Source: docs/protocol.md, "The QGA dialect".
"""

import json
from collections.abc import Mapping
from typing import Annotated

import msgspec

from sidecar.errors import (
    BadReplyError,
    CommandFailedError,
    MessageNotAllowedError,
    Refusal,
    RefusalCode,
    UncorrelatedReplyError,
)
from sidecar.protocol.guest_text import clean_line

# libvirt's own bound on a text between its client and its daemon, and so on what it can pass on; our envelope is in it.
REQUEST_LIMIT_BYTES = 4 * 1024 * 1024 - 4096
REPLY_LIMIT_CHARACTERS = 4 * 1024 * 1024

# A nonce has to survive agents that keep numbers as doubles.
NONCE_LIMIT = 2**53

_REFUSED = ("CommandNotFound", "CommandDisabled")
_REFUSALS = ("has not been found", "has been disabled")


class _Error(msgspec.Struct, frozen=True):
    # "class" is a keyword of ours.
    kind: str = msgspec.field(name="class", default="")
    desc: str = ""


class _Reply(msgspec.Struct, frozen=True):
    result: msgspec.Raw | msgspec.UnsetType = msgspec.field(name="return", default=msgspec.UNSET)
    error: _Error | msgspec.UnsetType = msgspec.UNSET
    id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_REPLY = msgspec.json.Decoder(_Reply)
_NONCE: msgspec.json.Decoder[int] = msgspec.json.Decoder(Annotated[int, msgspec.Meta(gt=0, lt=NONCE_LIMIT)])
_ID: msgspec.json.Decoder[str | None] = msgspec.json.Decoder(str | None)
DECODE_ERRORS = (msgspec.DecodeError, UnicodeError, RecursionError)
"""What msgspec raises for a guest's bad JSON: syntax or shape, text that is no Unicode, nesting."""


def render_command(name: str, arguments: Mapping[str, object] | None, command_id: str | None) -> str:
    """One command as JSON in ASCII; without an ``id`` for an agent that knows none.

    Raises:
        MessageNotAllowedError: The arguments are no JSON, or too large; the text does not repeat them.
    """
    request: dict[str, object] = {"execute": name}
    if arguments:
        request["arguments"] = dict(arguments)
    if command_id is not None:
        request["id"] = command_id
    try:
        text = json.dumps(request, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise _bad_arguments(name, "the arguments are no JSON object") from error
    if len(text) > REQUEST_LIMIT_BYTES:
        raise _bad_arguments(name, f"the arguments are over {REQUEST_LIMIT_BYTES} bytes")
    return text


def _bad_arguments(name: str, why: str) -> MessageNotAllowedError:
    return MessageNotAllowedError(Refusal(RefusalCode.BAD_ARGUMENTS, name, why))


def parse_reply(text: str, command_id: str | None) -> msgspec.Raw:
    """The result in the reply to the command with this ``id``, still as JSON.

    Raises:
        CommandFailedError: The reply is an error.
        UncorrelatedReplyError: It has no ``id``, and the command had one.
        BadReplyError: The reply is none, or another command's.
    """
    if len(text) > REPLY_LIMIT_CHARACTERS:
        raise BadReplyError(f"a reply of {len(text)} characters")
    try:
        reply = _REPLY.decode(text)
        carried = None if reply.id is msgspec.UNSET else _ID.decode(reply.id)
    except DECODE_ERRORS as error:
        raise BadReplyError(f"a reply that cannot be read: {clean_line(str(error))}") from error
    if carried is None and command_id is not None:
        raise UncorrelatedReplyError("a reply without the command's id")
    if carried != command_id:
        raise BadReplyError("a reply to another command")
    if reply.error is not msgspec.UNSET:
        raise CommandFailedError(clean_line(reply.error.desc), clean_line(reply.error.kind))
    if reply.result is msgspec.UNSET:
        raise BadReplyError("a reply without a result")
    return reply.result


def parse_nonce(result: msgspec.Raw) -> int | None:
    """The number that the agent gave back; ``None`` when it is none."""
    try:
        return _NONCE.decode(result)
    except DECODE_ERRORS:
        return None


def is_unsupported(error: CommandFailedError) -> bool:
    """Whether the agent says that it has no such command, or has it disabled: both are the same.

    By class where it is known; agents of 2.x call it ``GenericError``, and libvirt passes on the description alone.
    """
    return error.error_class in _REFUSED or any(words in error.description for words in _REFUSALS)
