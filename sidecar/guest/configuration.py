"""The guest agent's configuration file: TOML, every key optional, unknown keys are errors.

Checked by hand: the guest has nothing but the standard library.

Source: docs/guest-agent.md.
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sidecar.errors import ConfigurationError
from sidecar.guest.reports import Sources
from sidecar.protocol.tools import ToolsVersion

HOOKS_DIRECTORY = Path("/etc/sidecar-guest-agent/hooks.d")

COMMAND_S = 30.0

# A host waits 10 s for the completion.
HOOKS_S = 8.0

# A longer or shorter period is a slip of the pen; a heart that never rests would be all that the guest does.
_YEAR_S = 365 * 24 * 3600
_LEAST_S = 0.01

COMMANDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "shutdown": ("/usr/sbin/shutdown", "{action}", "--", "{when}", "{message}"),
        "lock-screen": ("loginctl", "lock-sessions"),
        "hibernate": (),
        "log-off": (),
        "login": (),
        "set-number-of-cpus": (),
    }
)
"""What each command of the host's runs, unless configured; nothing where that would surprise a guest's owner."""


@dataclass(frozen=True, slots=True)
class Rates:
    """``[rates]``: how often what is told, in seconds; 0: not of our own accord. The defaults are oVirt's."""

    heartbeat_seconds: float = 5
    active_user_seconds: float = 10
    number_of_cpus_seconds: float = 60
    applications_seconds: float = 120
    disks_usage_seconds: float = 300
    memory_stats_seconds: float = 0


@dataclass(frozen=True, slots=True)
class Configuration:
    """The whole file, validated; defaults where the file is silent.

    ``commands`` has the program with its arguments for each command, empty where the command is refused; ``hooks_s`` is
    what all hooks of one event may take together, ``command_s`` what one command's program may.
    """

    rates: Rates = Rates()
    sources: Sources = field(default_factory=Sources)
    commands: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: COMMANDS)
    command_s: float = COMMAND_S
    hooks_directory: Path = HOOKS_DIRECTORY
    hooks_s: float = HOOKS_S
    log_level: str = "info"


def load_configuration(path: Path | None, default: Path) -> Configuration:
    """Read the file at ``path``; without one the ``default``, which may be missing.

    Raises:
        ConfigurationError: One line that names file, key and expectation.
    """
    file = path or default
    try:
        text = file.read_bytes()
    except FileNotFoundError:
        if path is None:
            return Configuration()
        raise ConfigurationError(f"{file}: no such file") from None
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from error
    try:
        return _convert(tomllib.loads(text.decode()))
    except (ValueError, RecursionError) as error:  # bad TOML, bad UTF-8, or a number of thousands of digits
        raise ConfigurationError(f"{file}: not TOML: {error}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from None


def _convert(document: dict[str, Any]) -> Configuration:
    rates = _read(document, "rates", dict.fromkeys(Rates.__dataclass_fields__, _period))
    sources = _read(
        document, "reports", {"ignored_nics": _names, "ignored_filesystems": _names, "applications": _texts}
    )
    tools = _read(document, "tools", {"version": _tools_version})
    commands = _read(document, "commands", {"timeout_seconds": _seconds, **dict.fromkeys(COMMANDS, _program)})
    command_s = commands.pop("timeout_seconds", COMMAND_S)
    hooks = _read(document, "hooks", {"directory": _path, "timeout_seconds": _seconds})
    log = _read(document, "log", {"level": _level})
    for section in document:
        raise ConfigurationError(f"{_shown(section)}: unknown key")
    if rates.get("heartbeat_seconds") == 0:
        raise ConfigurationError("rates.heartbeat_seconds: expected more than 0: without heartbeats nothing is agreed")
    return Configuration(
        rates=Rates(**rates),
        sources=replace(Sources(), **sources, tools_version=tools.get("version")),
        commands=MappingProxyType({**COMMANDS, **commands}),
        command_s=command_s,
        hooks_directory=hooks.get("directory", HOOKS_DIRECTORY),
        hooks_s=hooks.get("timeout_seconds", HOOKS_S),
        log_level=log.get("level", "info"),
    )


def _read(document: dict[str, Any], section: str, keys: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    """Take a section out of the document: the values that it has, each as its key's function makes it."""
    table = document.pop(section, {})
    if not isinstance(table, dict):
        raise ConfigurationError(f"{section}: expected a table")
    values = {}
    for key, value in table.items():
        if key not in keys:
            raise ConfigurationError(f"{section}.{_shown(key)}: unknown key")
        try:
            values[key] = keys[key](value)
        except ValueError as error:
            raise ConfigurationError(f"{section}.{key}: expected {error}") from None
    return values


def _shown(key: str) -> str:
    return key if key.isprintable() and key else ascii(key)


# Each returns the value, or raises ValueError with what was expected.


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not _LEAST_S <= value <= _YEAR_S:
        raise ValueError(f"a number of seconds from {_LEAST_S} to a year")
    return value


def _period(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and value == 0:
        return 0
    try:
        return _seconds(value)
    except ValueError:
        raise ValueError(f"a number of seconds from {_LEAST_S} to a year, or 0 for never") from None


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) and item and "\0" not in item for item in value):
        raise ValueError("a list of texts")
    return tuple(value)


def _names(value: object) -> frozenset[str]:
    return frozenset(_texts(value))


def _program(value: object) -> tuple[str, ...]:
    try:
        return _texts(value)
    except ValueError:
        raise ValueError("a list: a program and its arguments, or nothing to refuse the command") from None


def _path(value: object) -> Path:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise ValueError("an absolute path")
    return Path(value)


def _level(value: object) -> str:
    if value not in ("debug", "info", "warning", "error"):
        raise ValueError("one of debug, info, warning, error")
    return str(value)


def _tools_version(value: object) -> str:
    try:
        return str(ToolsVersion.parse(value if isinstance(value, str) else ""))
    except ValueError:
        raise ValueError('a version in quotes, such as "1.4.0-12"') from None
