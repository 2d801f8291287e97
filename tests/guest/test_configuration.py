"""The agent's file: every key, every error in one line, and what holds without it."""

from pathlib import Path
from typing import Any

import pytest

from sidecar.errors import ConfigurationError
from sidecar.guest.configuration import Configuration, Rates, load_configuration
from sidecar.guest.reports import Sources

FULL = """
[rates]
heartbeat_seconds = 1
active_user_seconds = 2.5
number_of_cpus_seconds = 3
applications_seconds = 4
disks_usage_seconds = 0
memory_stats_seconds = 31536000
[reports]
ignored_nics = ["docker0"]
ignored_filesystems = ["squashfs", "overlay"]
applications = ["linux-image-*"]
[tools]
version = "1.4.0-12"
[commands]
timeout_seconds = 0.01
shutdown = []
lock-screen = ["lock", "--now"]
hibernate = ["systemctl", "hibernate"]
log-off = ["log-off"]
login = ["log-in", "-"]
set-number-of-cpus = ["cpus", "{count}"]
[hooks]
directory = "/srv/hooks"
timeout_seconds = 9
[log]
level = "debug"
"""

SECONDS = "expected a number of seconds from 0.01 to a year"
TEXTS = "expected a list of texts"
PROGRAM = "expected a list: a program and its arguments, or nothing to refuse the command"
LEVEL = "expected one of debug, info, warning, error"


def load(folder: Path, text: str | bytes) -> Configuration:
    file = folder / "agent.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_configuration(file, folder / "default.toml")


def complaint(folder: Path, text: str | bytes) -> str:
    """What is said of a wrong file, without the file's name, which comes first."""
    with pytest.raises(ConfigurationError) as caught:
        load(folder, text)
    assert str(caught.value).isprintable()
    start, _, rest = str(caught.value).partition(": ")
    assert start == str(folder / "agent.toml")
    return rest


def test_every_key(tmp_path: Path) -> None:
    assert load(tmp_path, FULL) == Configuration(
        rates=Rates(1, 2.5, 3, 4, 0, 31536000),
        sources=Sources(frozenset(["docker0"]), frozenset(["squashfs", "overlay"]), ("linux-image-*",), "1.4.0-12"),
        commands={
            "shutdown": (),
            "lock-screen": ("lock", "--now"),
            "hibernate": ("systemctl", "hibernate"),
            "log-off": ("log-off",),
            "login": ("log-in", "-"),
            "set-number-of-cpus": ("cpus", "{count}"),
        },
        command_s=0.01,
        hooks_directory=Path("/srv/hooks"),
        hooks_s=9,
        log_level="debug",
    )


@pytest.mark.parametrize("text", ["", "# nothing\n", "[rates]\n[reports]\n[tools]\n[commands]\n[hooks]\n[log]\n"])
def test_without_a_word_every_default_holds(text: str, tmp_path: Path) -> None:
    found = load(tmp_path, text)
    assert found == Configuration() == load_configuration(None, tmp_path / "missing.toml")
    assert found.rates == Rates(5, 10, 60, 120, 300, 0)
    assert found.sources == Sources()
    assert (found.command_s, found.hooks_s, found.log_level) == (30, 8, "info")
    assert found.hooks_directory == Path("/etc/sidecar-guest-agent/hooks.d")


def test_what_would_surprise_is_off() -> None:
    assert Configuration().commands == {
        "shutdown": ("/usr/sbin/shutdown", "{action}", "--", "{when}", "{message}"),
        "lock-screen": ("loginctl", "lock-sessions"),
        "hibernate": (),
        "log-off": (),
        "login": (),
        "set-number-of-cpus": (),
    }


def test_one_command_leaves_the_others(tmp_path: Path) -> None:
    found = load(tmp_path, '[commands]\nlogin = ["log-in"]\n')
    assert found.commands == {**Configuration().commands, "login": ("log-in",)}


def test_the_default_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "default.toml").write_text('[log]\nlevel = "error"\n')
    assert load_configuration(None, tmp_path / "default.toml").log_level == "error"


RATES = list(Rates.__dataclass_fields__)
BAD_NUMBERS = ["-1", "0.009", "31536001", "inf", "nan", "true", '"5"', "[5]", "1979-05-27", "{}", "1e-300"]
BAD_TEXTS = ['"eth0"', "[1]", '[""]', '["a\\u0000b"]', "[[]]", "true", "{}"]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        *[(f"rates.{name}", value, f"{SECONDS}, or 0 for never") for name in RATES for value in BAD_NUMBERS],
        ("rates.heartbeat_seconds", "0", "expected more than 0: without heartbeats nothing is agreed"),
        *[(f"{table}.timeout_seconds", value, SECONDS) for table in ("commands", "hooks") for value in BAD_NUMBERS],
        *[(f"{table}.timeout_seconds", "0", SECONDS) for table in ("commands", "hooks")],
        *[(f"reports.{name}", value, TEXTS) for name in ("ignored_nics", "ignored_filesystems", "applications")
          for value in BAD_TEXTS],
        *[(f"commands.{name}", value, PROGRAM) for name in Configuration().commands for value in BAD_TEXTS],
        *[("hooks.directory", value, "expected an absolute path")
          for value in ('"hooks.d"', '""', '"~/a"', '"/a\\u0000"', "1", "[]")],
        *[("log.level", value, LEVEL) for value in ('"loud"', '"INFO"', '""', "1", "[]", "{}")],
        *[("tools.version", value, 'expected a version in quotes, such as "1.4.0-12"')
          for value in ('"new"', '""', "1.4", '["1.4"]', '"1.4.0-12-x"', '"-1.0"')],
        *[(name, value, "expected a table") for name in ("rates", "reports", "tools", "commands", "hooks", "log")
          for value in ("1", "[]", "[{}]")],
    ],
)  # fmt: skip
def test_a_wrong_value(key: str, value: str, expected: str, tmp_path: Path) -> None:
    assert complaint(tmp_path, f"{key} = {value}\n") == f"{key}: {expected}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("heartbeat_seconds = 5\n", "heartbeat_seconds: unknown key"),
        ("[rate]\n", "rate: unknown key"),
        ("[rates]\nheartbeat = 5\n", "rates.heartbeat: unknown key"),
        ("[commands]\nreboot = []\n", "commands.reboot: unknown key"),
        ("[commands.login]\nprogram = []\n", f"commands.login: {PROGRAM}"),
        ('[rates]\n"a\\nb" = 5\n', "rates.'a\\nb': unknown key"),
        ('"" = 1\n', "'': unknown key"),
        ("[rates]\n[rates]\n", "not TOML: Cannot declare ('rates',) twice (at line 2, column 7)"),
        ("rates = ", "not TOML: Invalid value (at end of document)"),
        (b"\xff", "not TOML: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        ("a = " + "[" * 100_000, "not TOML: maximum recursion depth exceeded"),
        ("a = " + "9" * 5000, "not TOML: Exceeds the limit (4300 digits) for integer string conversion"),
        ("\x00", "not TOML: Invalid statement"),
    ],
)
def test_a_wrong_file(text: str | bytes, expected: str, tmp_path: Path) -> None:
    assert complaint(tmp_path, text).startswith(expected)


def test_a_file_that_was_named_has_to_be_there(tmp_path: Path) -> None:
    default: Any = tmp_path / "default.toml"
    for path, why in [(tmp_path / "no.toml", "no such file"), (tmp_path, "cannot be read: Is a directory")]:
        with pytest.raises(ConfigurationError) as caught:
            load_configuration(path, default)
        assert str(caught.value) == f"{path}: {why}"
