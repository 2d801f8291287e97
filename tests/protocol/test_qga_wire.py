import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import BadReplyError, CommandFailedError, MessageNotAllowedError
from sidecar.protocol.qga_wire import (
    NONCE_LIMIT,
    REPLY_LIMIT_CHARACTERS,
    REQUEST_LIMIT_BYTES,
    is_unsupported,
    parse_nonce,
    parse_reply,
    render_command,
)

ID = "sidecar-5c0f"

# Commands.


@pytest.mark.parametrize(
    ("arguments", "command_id", "text"),
    [
        (None, None, '{"execute": "guest-exec"}'),
        ({}, None, '{"execute": "guest-exec"}'),
        (None, "a-1", '{"execute": "guest-exec", "id": "a-1"}'),
        ({"id": 3}, "a-1", '{"execute": "guest-exec", "arguments": {"id": 3}, "id": "a-1"}'),
        ({"path": "Gr\u00fc\n"}, None, '{"execute": "guest-exec", "arguments": {"path": "Gr\\u00fc\\n"}}'),
    ],
)
def test_a_command_is_one_line_of_ascii(arguments: dict[str, object] | None, command_id: str | None, text: str) -> None:
    assert render_command("guest-exec", arguments, command_id) == text


@given(st.dictionaries(st.text(st.characters()), st.text(st.characters()) | st.integers()))
def test_arguments_survive_the_wire(arguments: dict[str, object]) -> None:
    text = render_command("guest-exec", arguments, ID)
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text).get("arguments", {}) == arguments


def endless() -> dict[str, object]:
    arguments: dict[str, object] = {}
    arguments["xsecret"] = arguments
    return arguments


@pytest.mark.parametrize(
    "arguments",
    [
        {"xsecret": float("nan")},
        {"xsecret": float("inf")},
        {"xsecret": -float("inf")},
        {"xsecret": object()},
        {"xsecret": b"xsecret"},
        {"xsecret": {"xsecret"}},
        {("xsecret",): 1},
        {"a": "xsecret" * (REQUEST_LIMIT_BYTES // 7)},
        {"a": "\U0001f600" * (REQUEST_LIMIT_BYTES // 12)},
        endless(),
    ],
)
def test_arguments_that_are_no_json_or_too_large(arguments: dict[str, object]) -> None:
    with pytest.raises(MessageNotAllowedError) as caught:
        render_command("guest-exec", arguments, ID)
    refusal = caught.value.refusal
    assert (refusal.code, refusal.message) == ("bad-arguments", "guest-exec")
    assert len(str(caught.value)) < 200
    assert "xsecret" not in str(caught.value)


def test_the_limit_is_on_the_whole_command() -> None:
    envelope = len(render_command("guest-exec", {"a": ""}, ID))
    fits = "x" * (REQUEST_LIMIT_BYTES - envelope)
    assert len(render_command("guest-exec", {"a": fits}, ID)) == REQUEST_LIMIT_BYTES
    with pytest.raises(MessageNotAllowedError):
        render_command("guest-exec", {"a": fits + "x"}, ID)


# Replies.


def reply(body: str, reply_id: object = ID) -> str:
    return "{" + body + f', "id": {json.dumps(reply_id)}' + "}"


@pytest.mark.parametrize("result", ["{}", "5", "null", "[1, 2.5]", '"\\u0000"', '{"version": "7.2.22"}'])
def test_the_result_of_our_command(result: str) -> None:
    assert bytes(parse_reply(reply(f'"return": {result}'), ID)) == result.encode()
    assert bytes(parse_reply(f'{{"return": {result}}}\n', None)) == result.encode()


def test_members_that_we_do_not_know_are_ignored() -> None:
    assert bytes(parse_reply('{"time": {"s": 1}, "return": 5, "id": "sidecar-5c0f"}', ID)) == b"5"


@pytest.mark.parametrize("body", ['"return": {}', '"error": {"class": "CommandNotFound", "desc": "gone"}'])
@pytest.mark.parametrize("reply_id", ["", "sidecar-5c0", "SIDECAR-5C0F", "other", 5, True, None, [ID], {"id": ID}])
def test_a_reply_with_another_id_is_another_commands(body: str, reply_id: object) -> None:
    with pytest.raises(BadReplyError):
        parse_reply(reply(body, reply_id), ID)


@pytest.mark.parametrize("body", ['"return": {}', '"error": {"class": "CommandNotFound", "desc": "gone"}'])
def test_an_id_on_one_side_only_is_another_commands(body: str) -> None:
    with pytest.raises(BadReplyError):
        parse_reply("{" + body + "}", ID)
    with pytest.raises(BadReplyError):
        parse_reply(reply(body), None)


@pytest.mark.parametrize(
    ("error", "error_class", "description"),
    [
        ('{"class": "GenericError", "desc": "no such file"}', "GenericError", "no such file"),
        ('{"class": "CommandNotFound", "desc": "gone", "more": 1}', "CommandNotFound", "gone"),
        ('{"desc": "a\\nb\\u001b\\u00fc"}', "", "a\\nb\\x1b\\xfc"),
        ('{"class": "Failed"}', "Failed", ""),
        ("{}", "", ""),
    ],
)
def test_an_error_keeps_class_and_description(error: str, error_class: str, description: str) -> None:
    for text, command_id in ((reply(f'"error": {error}'), ID), (f'{{"error": {error}}}', None)):
        with pytest.raises(CommandFailedError) as caught:
            parse_reply(text, command_id)
        assert (caught.value.error_class or "", caught.value.description) == (error_class, description)


def test_the_agents_words_are_cut() -> None:
    with pytest.raises(CommandFailedError) as caught:
        parse_reply(json.dumps({"error": {"class": "\x00" * 9999, "desc": "\U0001f600" * 9999}, "id": ID}), ID)
    assert len(str(caught.value)) < 2100
    assert str(caught.value).isascii()


def test_an_error_beside_a_result_is_an_error() -> None:
    with pytest.raises(CommandFailedError):
        parse_reply(reply('"return": {}, "error": {"class": "GenericError", "desc": "half done"}'), ID)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "5",
        "[]",
        '"return"',
        "{",
        "{}",
        reply('"result": 5'),
        reply('"error": null'),
        reply('"error": "gone"'),
        reply('"error": {"class": 5}'),
        reply('"error": {"desc": null}'),
        reply('"return": NaN'),
        reply('"return": 1') + "{}",
        reply('"return": "\ud800"'),
        reply('"error": {"desc": "\\ud800"}'),
        reply('"return": ' + "[" * 100_000),
        reply('"return": ' + "[" * 100_000 + "]" * 100_000),
        reply('"return": 1').replace('"sidecar', '"\\ud800sidecar'),
        "\xff" + reply('"return": 1'),
        reply('"return": "' + "x" * REPLY_LIMIT_CHARACTERS + '"'),
    ],
    ids=range(21),
)
def test_what_is_no_reply(text: str) -> None:
    for command_id in (ID, None):
        with pytest.raises(BadReplyError) as caught:
            parse_reply(text, command_id)
        assert len(str(caught.value)) < 2100
        assert str(caught.value).isascii()


@given(st.text(st.characters()) | st.recursive(st.text(), st.lists).map(json.dumps), st.sampled_from([ID, None]))
def test_any_text_is_a_result_or_an_agents_error(text: str, command_id: str | None) -> None:
    for candidate in (text, reply(f'"return": {text}'), reply(f'"error": {text}')):
        try:
            parse_reply(candidate, command_id)
        except (BadReplyError, CommandFailedError):
            continue


# The number of a synchronisation.


@pytest.mark.parametrize(("result", "nonce"), [("1", 1), ("5", 5), (str(2**53 - 1), 2**53 - 1)])
def test_a_nonce(result: str, nonce: int) -> None:
    assert parse_nonce(msgspec.Raw(result.encode())) == nonce


@pytest.mark.parametrize(
    "result",
    [
        *("0", "-1", str(2**53), str(2**63), "9" * 5000, "5.0", "5.5", "5e0", "true", "null", '"5"', "[5]", "{}"),
        *("[" * 100_000, '"\\ud800"', ""),
    ],
    ids=range(16),
)
def test_no_nonce(result: str) -> None:
    assert parse_nonce(msgspec.Raw(result.encode())) is None


def test_a_nonce_fits_agents_that_keep_numbers_as_doubles() -> None:
    assert NONCE_LIMIT == 2**53
    assert int(float(NONCE_LIMIT - 1)) == NONCE_LIMIT - 1


# "There is no such command", in the words of each era.


@pytest.mark.parametrize(
    ("error_class", "description"),
    [
        ("CommandNotFound", "The command guest-get-load has not been found"),
        ("CommandNotFound", "Command guest-exec has been disabled: the command is not allowed"),
        ("CommandNotFound", ""),
        ("CommandDisabled", "The command guest-exec has been disabled for this instance"),
        ("GenericError", "The command guest-exec has been disabled for this instance"),
        (None, "internal error: unable to execute QEMU agent command 'x': The command x has not been found"),
        (None, "Command guest-exec has been disabled: the agent is in frozen state"),
        ("", "The command guest-exec has been disabled for this instance"),
    ],
)
def test_unknown_and_disabled_are_both_unsupported(error_class: str | None, description: str) -> None:
    assert is_unsupported(CommandFailedError(description, error_class))


@pytest.mark.parametrize(
    ("error_class", "description"),
    [
        ("GenericError", "failed to open file '/x': No such file or directory"),
        ("GenericError", "CommandNotFound"),
        ("Unsupported", "this feature or command is not currently supported"),
        ("InvalidParameter", "Invalid parameter 'path'"),
        (None, ""),
        ("", ""),
    ],
)
def test_every_other_error_is_the_commands_own(error_class: str | None, description: str) -> None:
    assert not is_unsupported(CommandFailedError(description, error_class))
