"""What comes over the wire of a QEMU guest agent: replies, nonces, ``guest-info``; and what goes out again."""

import contextlib
import json
import re

import msgspec

from sidecar.errors import BadReplyError, CommandFailedError, MessageNotAllowedError, UncorrelatedReplyError
from sidecar.protocol.fact_content import bound_content, read_content
from sidecar.protocol.qga_commands import QGA_COMMANDS
from sidecar.protocol.qga_report import Report, read_report
from sidecar.protocol.qga_versions import FOREIGN_MAJOR
from sidecar.protocol.qga_wire import NONCE_LIMIT, is_unsupported, parse_nonce, parse_reply, render_command
from sidecar.protocol.tools import read_qga_version
from tests.fuzz.readings import check_line, check_tools, check_value

COMMAND_ID = "4f7c"

WORDS = (
    b'{"return": ',
    b', "id": "4f7c"}',
    b'"id": null',
    b'{"error": {"class": "GenericError", "desc": "',
    b'"version": "7.2.22"',
    b'"supported_commands": [{"name": "guest-info", "enabled": true, "success-response": true}]',
    *(f'"{name}"'.encode() for name in ("guest-exec", "guest-get-load", "guest-fsfreeze-thaw")),
    b"9007199254740991",
    b"1e999",
    b"\\ud800",
)


def check(data: bytes) -> None:
    """The line as a reply to a command with an id, and to one without."""
    text = data.decode("utf-8", "surrogateescape")
    for command_id in (COMMAND_ID, None):
        result = read_reply(text, command_id)
        if result is not None:
            check_nonce(result)
            check_report(bytes(result))
            check_result(bytes(result))
    check_report(data)
    # The two halves of a surrogate pair that a caller gives apart are one character to whoever reads them.
    check_command(data.decode("utf-8", "replace"))


def read_reply(text: str, command_id: str | None) -> msgspec.Raw | None:
    """The result, if the reply has one; then it is the answer to the command, by another reader's judgement, too."""
    try:
        result = parse_reply(text, command_id)
    except CommandFailedError as error:
        check_line(error.description)
        check_line(error.error_class or "")
        is_unsupported(error)
        return None
    except (BadReplyError, UncorrelatedReplyError) as error:
        check_line(str(error))
        return None
    # The standard library reads no half of a surrogate pair otherwise, and its bound on integers is another.
    with contextlib.suppress(ValueError, RecursionError):
        assert json.loads(text).get("id") == command_id
    return result


def check_nonce(result: msgspec.Raw) -> None:
    number = parse_nonce(result)
    assert number is None or 0 < number < NONCE_LIMIT


def check_report(result: bytes) -> None:
    """A report that is plausible, or ``BadReplyError``."""
    try:
        report = read_report(result)
    except BadReplyError as error:
        check_line(str(error))
        return
    assert report.enabled <= QGA_COMMANDS.keys()
    assert report.offer is None or re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9}){1,3}", report.offer, re.ASCII)
    check_tools(read_qga_version(report.offer))
    check_placing(report)


def check_placing(report: Report) -> None:
    """By what it calls itself, or by what it can do."""
    if report.inferred:
        assert report.release in {command.since for command in QGA_COMMANDS.values()}
    else:
        assert report.offer is not None
        assert report.offer.split(".")[:2] == str(report.release).split(".") or "0" in report.offer
        assert report.release.major < FOREIGN_MAJOR


def check_result(result: bytes) -> None:
    """As a caller of ``send`` gets it."""
    content = bound_content(result, 1024 * 1024, cuttable=False)
    assert content is not None
    try:
        value = read_content(content)
    except ValueError as error:
        check_line(str(error))
        return
    check_value(value)


def check_command(text: str) -> None:
    """What a caller gives as arguments goes out as one line of ASCII, as it was."""
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError):
        return
    if not isinstance(arguments, dict):
        return
    try:
        line = render_command("guest-exec", arguments, COMMAND_ID)
    except MessageNotAllowedError:
        return
    check_one_line(line)
    sent = json.loads(line)
    assert sent == {"execute": "guest-exec", "id": COMMAND_ID, **({"arguments": arguments} if arguments else {})}


def check_one_line(line: str) -> None:
    assert line.isascii()
    assert "\n" not in line
