"""Who sits at the guest's console, and whether that session is locked.

Who is logged in over the network is not at the console. Of several the one at a graphical display counts, and of those
the last to come.

Source: utmp(5) through psutil; org.freedesktop.login1(5) for ``LockedHint``, which desktops keep up to date.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

import psutil

from sidecar.guest.reports.bounds import report_text
from sidecar.guest.reports.child_output import run_program

# What a host of oVirt reads as nobody.
NOBODY = "None"
_NAME_CHARACTERS = 256

_DISPLAY = re.compile(r":\d+(\.\d+)?")
# Virtual, serial, paravirtual and mainframe consoles.
_CONSOLE = re.compile(r"tty[A-Za-z]*\d+|hvc\d+|xvc\d+|sclp_line\d+|console")
# psutil 5 says "localhost" for the display :0.
_LOCAL_DISPLAY = "localhost"
_GRAPHICAL, _TEXT, _ELSEWHERE = 2, 1, 0

# logind answers in milliseconds, or not at all.
_LOGINCTL_LIMIT_S = 2.0
_LOGINCTL_LIMIT_BYTES = 64 * 1024
# What goes back to loginctl as an argument.
_SESSION_ID = re.compile(r"[A-Za-z0-9]{1,64}")


class Login(Protocol):
    """One session, as psutil has it: ``host`` is the machine or display that it came from."""

    @property
    def name(self) -> str:
        """The user."""

    @property
    def terminal(self) -> str | None:
        """Such as ``tty1``, ``pts/0`` or ``:0``."""

    @property
    def host(self) -> str | None:
        """Such as ``192.0.2.7``, ``:0`` or nothing."""

    @property
    def started(self) -> float:
        """When, in seconds since the epoch."""


def report_active_user(
    root: Path = Path("/"), read_logins: Callable[[], Iterable[Login]] = psutil.users
) -> dict[str, object]:
    """active-user: the name, or the text ``None``.

    Raises:
        OSError: The sessions cannot be read, or logind does not answer.
    """
    if os.path.exists(root / "run/utmp") or os.path.exists(root / "var/run/utmp"):
        ranked = ((_rank(login), login.started, login.name) for login in read_logins())
        name = max((one for one in ranked if one[0] != _ELSEWHERE and one[2]), default=(0, 0, ""))[2]
    else:  # a system that keeps no utmp any more
        name = _read_console_session().get("Name", "")
    return {"name": report_text(name, _NAME_CHARACTERS) or NOBODY}


def read_lock_hint() -> bool | None:
    """Whether the console's session is locked; ``None`` when nobody is logged in there, or logind does not tell."""
    try:
        return {"yes": True, "no": False}.get(_read_console_session().get("LockedHint", ""))
    except OSError:
        return None


def _rank(login: Login) -> int:
    terminal, host = login.terminal or "", login.host or ""
    is_display = _DISPLAY.fullmatch(host) is not None or host in (_LOCAL_DISPLAY, terminal)
    if _DISPLAY.fullmatch(terminal):
        return _GRAPHICAL if is_display or not host else _ELSEWHERE
    if not _CONSOLE.fullmatch(terminal):
        return _ELSEWHERE
    return _GRAPHICAL if is_display else _TEXT


def _read_console_session() -> Mapping[str, str]:
    """The properties of the user's session in the foreground of the first seat; none when it is a login screen.

    Raises:
        OSError: loginctl did not end in time, or could not be run.
    """
    found = _ask_logind("show-seat", "seat0", "ActiveSession").get("ActiveSession", "")
    if not _SESSION_ID.fullmatch(found):
        return {}
    session = _ask_logind("show-session", found, "Class", "LockedHint", "Name")
    return session if session.get("Class", "").startswith("user") else {}


def _ask_logind(verb: str, name: str, *properties: str) -> dict[str, str]:
    """The properties, none when there is no logind, or nothing of that name."""
    options = [f"--property={one}" for one in properties]
    output = run_program(["loginctl", verb, name, *options], _LOGINCTL_LIMIT_S, _LOGINCTL_LIMIT_BYTES)
    if output.status != 0:
        return {}
    pairs = (line.partition("=") for line in output.data.decode(errors="replace").splitlines())
    return {key: value.strip() for key, _, value in pairs}
