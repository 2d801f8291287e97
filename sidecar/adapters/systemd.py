"""What systemd wants of a service: readiness datagrams, and log lines that journald understands.

Source: sd_notify(3); sd-daemon(3) for the priority prefix; systemd.exec(5) for JOURNAL_STREAM.
"""

import logging
import os
import re
import socket
import sys
import time

_LOG = logging.getLogger(__name__)

# C0, DEL, C1, and what Unicode or a terminal takes for a line's end or a change of direction. A message holds text
# from guests and domain names; with these in it one could forge a line, or repaint the operator's terminal.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

# syslog's numbers: err, warning, info, debug; the first whose level is reached counts.
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG_PRIORITY = 7


def notify(state: str) -> None:
    """Tell systemd, for instance ``READY=1``; without systemd, or when it does not listen, nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            # Its queue is short; better no notice than a daemon that stands still behind a stuck systemd.
            sender.settimeout(1.0)
            sender.connect("\0" + address[1:] if address[0] == "@" else address)
            sender.send(state.encode(errors="replace"))
    except (OSError, ValueError) as error:
        _LOG.debug("systemd was not told %a: %s", state, error)


def configure_logging(level: str) -> None:
    """Log to stderr from ``level`` ("debug" to "error") on, in place of whatever was set up before.

    Into the journal each line goes with its priority (``<4>``) and without time, which journald adds; elsewhere
    with time and level. One message is one line; only a traceback has more, and each of them begins alike.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(is_journal=_is_journal()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


class LineFormatter(logging.Formatter):
    """Renders a record so that nothing in its message, or in an exception's, can pass for another record."""

    def __init__(self, *, is_journal: bool) -> None:
        super().__init__()
        self._is_journal = is_journal

    def format(self, record: logging.LogRecord) -> str:
        """The record's line, then those of its traceback, marked with a bar; each with the same beginning."""
        start = _render_priority(record.levelno) if self._is_journal else _render_time(record)
        lines = [escape(record.getMessage())]
        if record.exc_info:
            lines += [f"| {escape(line)}" for line in self.formatException(record.exc_info).split("\n")]
        return "\n".join(start + line for line in lines)


def escape(text: str) -> str:
    """The text with every character escaped that could end its line or change how it looks."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _render_priority(level: int) -> str:
    return f"<{next((number for least, number in _PRIORITIES if level >= least), _DEBUG_PRIORITY)}>"


def _render_time(record: logging.LogRecord) -> str:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{moment}.{int(record.msecs):03d}Z {record.levelname} "


def _is_journal() -> bool:
    """Whether stderr is the stream that systemd connected to the journal; a shell's redirection changes it."""
    try:
        found = os.fstat(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
