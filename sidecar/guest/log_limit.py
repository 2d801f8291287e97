"""How much the log takes of one kind of line: a host that does one thing for ever must not fill its guest's disk."""

import logging
import time
from collections.abc import Callable

from sidecar.protocol.budget import Budget
from sidecar.protocol.ovirt_messages import HOST_TO_GUEST

# What an honest host makes happen in a minute is a line or two.
LINES_LIMIT = 60
LINES_WINDOW_S = 60.0

_Kind = tuple[str, str]


class LogLimit:
    """For a handler's ``addFilter``: a kind is a text and the command that it is about, whatever else stands in it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # The texts are those in the code, and the commands those of the table: so many and no more.
        self._budgets: dict[_Kind, Budget] = {}
        self._left_out: dict[_Kind, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line goes out; the next that does tells how many like it did not."""
        kind = _kind(record)
        budget = self._budgets.setdefault(kind, Budget(LINES_LIMIT, LINES_WINDOW_S))
        if not budget.take(self._clock()):
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return False
        left_out = self._left_out.pop(kind, 0)
        if left_out:
            record.msg = f"{record.msg} ({left_out} lines like it were left out)"
        return True


def _kind(record: logging.LogRecord) -> _Kind:
    first = record.args[0] if isinstance(record.args, tuple) and record.args else None
    return str(record.msg), first if isinstance(first, str) and first in HOST_TO_GUEST else ""
