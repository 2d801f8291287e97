"""What a host may have done in the guest: each command runs the program that the configuration has for it, or none.

No shell is involved. The program gets its arguments as the configuration writes them, with a few words in braces
replaced, and all that the host sent as one JSON object on its standard input: credentials never stand in an argument
list, an environment or a log.

Source: docs/guest-agent.md, "Commands"; the arguments are those of oVirt's guest agent.
"""

import json
import logging
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from sidecar.guest.programs import Programs
from sidecar.protocol.guest_text import clean_text

logger = logging.getLogger(__name__)

# Longer delays are a host's slip; shutdown(8) itself takes any.
_DELAY_LIMIT_S = 365 * 24 * 3600

# What reaches every terminal of the guest.
_MESSAGE_LIMIT = 200

# More than any kernel is built for.
_CPUS_LIMIT = 65536

_DEFAULT_MESSAGE = "This machine is being shut down by its host."


class Commands:
    """Runs commands; a refusal, a program's failure and its end are logged, its arguments never."""

    def __init__(self, programs_of: Mapping[str, tuple[str, ...]], limit_s: float, programs: Programs) -> None:
        """``programs_of`` has the program with its arguments for each command; empty: it is refused."""
        self._programs_of, self._limit_s, self._programs = programs_of, limit_s, programs

    def run(self, name: str, arguments: Mapping[str, Any], ended: Callable[[], None] = lambda: None) -> None:
        """Run a command's program; ``ended`` is always called, once: now when it is refused, else after it."""
        try:
            command, stdin = self._prepare(name, arguments)
        except ValueError as error:
            logger.warning("%s: refused: %s", name, error)
        else:
            logger.info("%s: the host wants it; running %s", name, command[0].decode())
            if self._programs.start(command, self._limit_s, ended, stdin=stdin, extra={}):
                return
        ended()

    def _prepare(self, name: str, arguments: Mapping[str, Any]) -> tuple[list[bytes], bytes]:
        """The command line, in UTF-8 whatever the locale, and what the program reads.

        Raises:
            ValueError: It is refused; the text says why.
        """
        program = self._programs_of.get(name, ())
        if not program:
            raise ValueError("the agent's configuration has no program for it")
        values = _PLACEHOLDERS.get(name, _no_values)(arguments)
        try:
            stdin = json.dumps(arguments, ensure_ascii=False).encode("utf-8", "replace")
        except RecursionError:  # they could just be read
            raise ValueError("its arguments are nested too deep") from None
        return [values.get(argument, argument).encode("utf-8", "replace") for argument in program], stdin


def _no_values(_arguments: Mapping[str, Any]) -> dict[str, str]:
    return {}


def _shutdown_values(arguments: Mapping[str, Any]) -> dict[str, str]:
    """What is missing, or no use, falls back to a shutdown now."""
    minutes = -(-_delay_s(arguments.get("timeout")) // 60)
    message = arguments.get("message")
    said = clean_text(message[:_MESSAGE_LIMIT]) if isinstance(message, str) else ""
    return {
        "{action}": "-r" if _is_true(arguments.get("reboot")) else "-h",
        "{when}": f"+{minutes}" if minutes else "now",
        "{message}": said if said.strip() else _DEFAULT_MESSAGE,
    }


def _hibernate_values(arguments: Mapping[str, Any]) -> dict[str, str]:
    state = arguments.get("state")
    return {"{state}": state if state in ("disk", "mem") else "disk"}


def _cpu_values(arguments: Mapping[str, Any]) -> dict[str, str]:
    count = arguments.get("count")
    if type(count) is not int or not 0 < count <= _CPUS_LIMIT:
        raise ValueError(f"count is no number from 1 to {_CPUS_LIMIT}")
    return {"{count}": str(count)}


_PLACEHOLDERS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, str]]] = MappingProxyType(
    {"shutdown": _shutdown_values, "hibernate": _hibernate_values, "set-number-of-cpus": _cpu_values}
)


def _delay_s(value: object) -> int:
    """Hosts send a number or its text; what is neither is no delay."""
    if isinstance(value, str):
        digits = value.strip().lstrip("0")[: len(str(_DELAY_LIMIT_S)) + 1]
        value = int(digits) if digits.isascii() and digits.isdigit() else 0
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return 0
    return math.ceil(min(value, _DELAY_LIMIT_S))


def _is_true(value: object) -> bool:
    """Hosts send the text "True"; a JSON boolean says the same (original: taken for false, and powered off)."""
    return value is True or (isinstance(value, str) and value.lower() == "true")
