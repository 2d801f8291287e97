"""What the arguments come to."""

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from sidecar.api.operations import OPERATIONS
from sidecar.cli.arguments import STATES, parse

TIMED = {"send": "send vm1 m", "wait": "wait vm1", "fleet": "fleet"}
SEND = ("send", "vm1", "lock-screen")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-3.5", -3.5),
        ("true", True),
        ("null", None),
        ('"3"', "3"),
        ("[1, 2]", [1, 2]),
        ('{"a": null}', {"a": None}),
        ("", ""),
        ("text", "text"),
        ("/a=b", "/a=b"),
        ("True", "True"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("1e999", "1e999"),
        ("[1e999]", "[1e999]"),
        ("[", "["),
        ("[" * 100_000, "[" * 100_000),
        ("9" * 5000, "9" * 5000),
        ("01", "01"),
    ],
)
def test_a_value_is_json_where_it_can_be(text: str, value: Any) -> None:
    assert parse([*SEND, f"key={text}"]).arguments == {"key": value}


@pytest.mark.parametrize(
    "arguments",
    [
        ["a=1", "b=2", "--timeout", "3"],
        ["--timeout", "3", "a=1", "b=2"],
        ["a=1", "--timeout", "3", "b=2"],
        ["--timeout=3", "a=1", "--args", '{"a": 5, "b": 2}'],
        ["--timeout=3", "--args", '{"a": 1, "b": 2}'],
        ["--timeout", "3", "--", "a=1", "b=2"],
        ["a=1", "--timeout", "3", "--", "b=2"],
        ["a=1", "--timeout", "3", "b=2", "--"],
        ["--timeout", "3", "a=5", "--channel", "c", "b=2", "--", "a=1"],
    ],
)
def test_options_may_stand_anywhere(arguments: list[str]) -> None:
    options = parse([*SEND, *arguments])
    assert (options.arguments, options.timeout) == ({"a": 1, "b": 2}, 3)


def test_behind_two_dashes_there_are_no_options() -> None:
    assert parse([*SEND, "--timeout", "3", "--", "--a=1", "-b=2"]).arguments == {"--a": 1, "-b": 2}


def test_without_any_there_are_none() -> None:
    assert parse(SEND).arguments is None


def test_arguments_from_a_file_and_from_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "arguments"
    file.write_text('{"password": "geheim-ü"}', encoding="utf-8")
    assert parse([*SEND, "--args", f"@{file}"]).arguments == {"password": "geheim-ü"}
    assert parse(["preflight", "vm1", "--offer", str(file)]).offer == {"password": "geheim-ü"}
    with file.open("rb") as opened:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(opened, encoding="utf-8"))
        assert parse([*SEND, "--args", "-"]).arguments == {"password": "geheim-ü"}


@pytest.mark.parametrize(
    "arguments",
    [
        [*SEND, "text"],
        [*SEND, "=3"],
        [*SEND, "--timeout", "3", "=3"],
        [*SEND, "--timeout", "3", "text"],
        [*SEND, "--timeout", "3", "--", "text"],
        [*SEND, "--timeout", "3", "--", "=3"],
        [*SEND, "--timeout", "3", "--bogus", "--", "b=2"],
        ["wait", "vm1", "--timeout", "-1"],
        ["wait", "vm1", "--timeout", "4000"],
        [*SEND, "--timeout", "0"],
        [*SEND, "--timeout", "4000"],
        [*SEND, "--timeout", "nan"],
        [*SEND, "--timeout", "soon"],
        [*SEND, "--args", "[]"],
        [*SEND, "--args", "{"],
        [*SEND, "--args", '{"a": NaN}'],
        [*SEND, "--args", '{"a": 1e999}'],
        [*SEND, "--args", "[" * 100_000],
        [*SEND, "--args", "@/nonexistent"],
        [*SEND, "--args", "@"],
        [*SEND, "--channel"],
        ["send", "vm1"],
        ["show"],
        ["list", "a=1"],
        ["wait", "vm1", "--for", "peace"],
        ["preflight", "vm1"],
        ["preflight", "vm1", "--offer", "/nonexistent"],
        ["preflight", "vm1", "--offer", "/"],
        ["preflight", "vm1", "--offer", "/dev/null", "--host", "beta"],
        ["--host", "alpha", "preflight", "vm1"],
        ["--host", "alpha", "--socket", "s", "list"],
        ["--socket", "s", "list", "--host", "alpha"],
        ["--host", "alpha", "hooks", "status"],
        ["--host", "alpha", "probe", "--qga", "s"],
        ["--bus", "f", "probe", "--qga", "s"],
        ["--bus", "f", "list"],
        ["preflight", "vm1", "--host", "beta", "--bus", "f"],
        ["preflight", "vm1", "--offer", "/dev/null", "--timeout", "3"],
        ["--host", "alpha", "preflight", "vm1", "--offer", "/dev/null", "--timeout", "3"],
        ["--host", "", "list"],
        ["--host", "a b", "list"],
        ["--host", "../a", "list"],
        ["--host", "a" * 256, "list"],
        ["--host", "a\n", "list"],
        ["fleet", "forget"],
        ["fleet", "forget", ""],
        ["fleet", "preflight"],
        ["fleet", "burn"],
        ["fleet", "--timeout", "0"],
        ["events", "a", "b"],
        ["messages", "vm1", "--chan", "c"],
    ],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("command", [SEND, ("wait", "vm1"), ("probe", "--qga", "s")])
def test_a_time_that_is_no_number(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse([*command, "--timeout", "soon"])
    assert "argument --timeout: expected a number of seconds, not 'soon'\n" in capsys.readouterr().err


def test_waiting_for_no_time_at_all() -> None:
    assert parse(["wait", "vm1", "--timeout", "0"]).timeout == 0


def test_a_file_that_is_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_bytes(b"\xff\xfe")
    with pytest.raises(SystemExit) as caught:
        parse(["preflight", "vm1", "--offer", str(tmp_path / "file")])
    assert caught.value.code == 2
    assert "no JSON" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "socket"),
    [
        (["list"], None),
        (["--socket", "a", "list"], "a"),
        (["list", "--socket", "b"], "b"),
        (["--socket", "a", "list", "--socket", "b"], "b"),
        (["--socket=a", "send", "vm1", "m", "k=v"], "a"),
    ],
)
def test_the_socket_before_or_after_the_command(arguments: list[str], socket: str | None) -> None:
    assert parse(arguments).socket == socket


@pytest.mark.parametrize(
    ("arguments", "host", "bus"),
    [
        (["list"], None, None),
        (["--host", "a", "list"], "a", None),
        (["list", "--host", "b", "--bus", "f"], "b", "f"),
        (["--host", "a", "--bus", "e", "list", "--host", "b"], "b", "e"),
        (["--host", "a", "fleet"], "a", None),
        (["--host", "a", "fleet", "--bus", "f", "forget", "c"], "a", "f"),
        (["fleet", "preflight", "c", "--host", "a", "--bus", "f"], "a", "f"),
        (["--host=a", "send", "vm1", "m", "k=v"], "a", None),
    ],
)
def test_the_host_before_or_after_the_command(arguments: list[str], host: str | None, bus: str | None) -> None:
    options = parse(arguments)
    assert (options.host, options.bus, options.socket) == (host, bus, None)


def test_behind_preflight_the_host_is_where_the_guest_would_go() -> None:
    options = parse(["preflight", "vm1", "--host", "beta"])
    assert (options.host, options.destination, options.offer) == (None, "beta", None)
    options = parse(["--host", "alpha", "--bus", "f", "preflight", "vm1", "--host", "beta"])
    assert (options.host, options.destination, options.bus) == ("alpha", "beta", "f")


@pytest.mark.parametrize(
    ("arguments", "action", "timeout_s", "as_json"),
    [
        ([], None, 5.0, False),
        (["--timeout", "3", "--json"], None, 3.0, True),
        (["--timeout", "3", "--json", "preflight", "c"], "preflight", 3.0, True),
        (["preflight", "c", "--timeout", "3", "--json"], "preflight", 3.0, True),
        (["forget", "c"], "forget", 5.0, False),
    ],
)
def test_the_fleet(arguments: list[str], action: str | None, timeout_s: float, as_json: bool) -> None:
    options = parse(["fleet", *arguments])
    assert (options.action, options.timeout, options.json) == (action, timeout_s, as_json)


def test_the_states_are_those_of_the_operation() -> None:
    argument = OPERATIONS["wait"].argument("for")
    assert argument is not None
    assert argument.choices == STATES
    assert argument.default == parse(["wait", "vm1"]).state


@pytest.mark.parametrize("command", ["send", "wait", "fleet"])
def test_the_times_are_those_of_the_operation(command: str) -> None:
    argument = OPERATIONS[command].argument("timeout")
    assert argument is not None
    assert argument.default == parse(TIMED[command].split()).timeout
