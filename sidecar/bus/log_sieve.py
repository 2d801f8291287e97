"""What of the log of oslo.messaging and its libraries is ours: a line a fault, and not the whole outage.

While a broker is down they log every attempt of every connection, with a traceback where it surprises them. Here each
of their loggers has a line a minute at most, and the same one every ten minutes; without a traceback, and without
passwords.
"""

import logging
import re
import time
from collections import OrderedDict

# Our own; everybody else's lines go through the sieve.
_OURS = "sidecar"

APART_S = 60.0
AGAIN_S = 600.0
# Of oslo.messaging's: what a broker that returns delivers once more, and is dropped as it should be.
_NOISE = "DuplicateMessageError"
LINE_LIMIT = 300
KINDS_LIMIT = 256

# Up to the last of a cluster's nodes: each has its own.
_PASSWORD = re.compile(r"//\S*@")
# Ports, ids, times: what differs from one line of a kind to the next.
_NUMBERS = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|\b[0-9a-f]{8,}\b|\d+")


class LogSieve(logging.Filter):
    """See the module; for the process's one handler."""

    def __init__(self) -> None:
        super().__init__()
        self._told_at: OrderedDict[str, float] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged; changed, where it is not our own."""
        if record.name.partition(".")[0] == _OURS:
            return True
        fault = None if record.exc_info is None or record.exc_info[0] is None else record.exc_info[0].__name__
        if record.levelno < logging.WARNING or fault == _NOISE:
            return False
        line = _PASSWORD.sub("//***@", " ".join(record.getMessage().split()))[:LINE_LIMIT]
        if fault is not None:
            line += f" ({fault})"
        record.msg, record.args, record.exc_info, record.exc_text = f"{record.name}: {line}", (), None, None
        return self._is_news(record.name, _NUMBERS.sub("#", record.msg), time.monotonic())

    def _is_news(self, name: str, kind: str, now: float) -> bool:
        if self._was_told(name, now, APART_S) or self._was_told(kind, now, AGAIN_S):
            return False
        for key in (name, kind):
            self._told_at[key] = now
            self._told_at.move_to_end(key)
        while len(self._told_at) > KINDS_LIMIT:
            self._told_at.popitem(last=False)
        return True

    def _was_told(self, key: str, now: float, within_s: float) -> bool:
        told_at = self._told_at.get(key)
        return told_at is not None and now - told_at < within_s
