"""What runs in the guest before and after a migration or hibernation: ``hooks.d/<type>/*``, one event after another.

Original agents ran them where they listen, without a time limit, and gave no answer when there was nothing to run.
Here the answer always comes: a host that waits for it must not wait in vain because a guest has no hooks.

Source: docs/guest-agent.md, "Hooks".
"""

import logging
import os
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sidecar.guest.programs import Programs

logger = logging.getLogger(__name__)

# Before and after, one of each: a host that sends more events than that does not wait for their ends.
WAITING_LIMIT = 16

# It becomes the name of a directory.
_TYPE = re.compile(r"[a-z0-9_]{1,64}")


@dataclass(frozen=True, slots=True)
class LifecycleEvent:
    """One event: ``kind`` is its type, for instance ``before_migration``; ``failure`` that the operation failed."""

    kind: str
    failure: bool


Done = Callable[[], None]


class Hooks:
    """Runs each event's hooks in the order of their names, one at a time, all within the event's time limit."""

    def __init__(self, directory: Path, limit_s: float, programs: Programs) -> None:
        self._directory, self._limit_s, self._programs = directory, limit_s, programs
        self._waiting: deque[tuple[LifecycleEvent, Done]] = deque()
        self._current: tuple[LifecycleEvent, Done] | None = None
        self._left: deque[str] = deque()
        self._end = 0.0

    def run(self, event: LifecycleEvent, done: Done) -> None:
        """Run the event's hooks when those before it are through; ``done`` is always called, once."""
        if len(self._waiting) >= WAITING_LIMIT:
            logger.warning("%s: no hooks run: %d events wait already", ascii(event.kind)[:80], WAITING_LIMIT)
            done()
            return
        self._waiting.append((event, done))
        if self._current is None:
            self._go_on()

    def close(self) -> None:
        """No more hooks: whoever waits for some is answered now."""
        events = [*([] if self._current is None else [self._current]), *self._waiting]
        self._waiting.clear()
        for _, done in events:
            done()

    def _go_on(self) -> None:
        """Start the next hook, of this event or of the next one; a hook's end calls here again."""
        while self._current is not None or self._waiting:
            if self._current is None:
                self._current = self._waiting.popleft()
                self._left = deque(self._find(self._current[0].kind))
                self._end = time.monotonic() + self._limit_s
                continue
            event, done = self._current
            if not self._left or not self._has_time(event):
                self._current = None
                done()
            elif self._start(event, self._left.popleft()):
                return

    def _has_time(self, event: LifecycleEvent) -> bool:
        if time.monotonic() < self._end:
            return True
        logger.warning("%s: no time left for %d hooks", event.kind, len(self._left))
        return False

    def _start(self, event: LifecycleEvent, hook: str) -> bool:
        extra = {"SIDECAR_EVENT": event.kind, "SIDECAR_FAILURE": "true" if event.failure else "false"}
        return self._programs.start([hook], self._end - time.monotonic(), self._go_on, extra=extra)

    def _find(self, kind: str) -> list[str]:
        """The executables of this type's directory; none of them is no fault, as is no directory."""
        if _TYPE.fullmatch(kind) is None:
            logger.warning("lifecycle event of the type %s: no hooks can have that name", ascii(kind)[:80])
            return []
        directory = self._directory / kind
        try:
            files = sorted(path for path in directory.iterdir() if not path.name.startswith("."))
        except FileNotFoundError:
            return []
        except OSError as error:
            logger.warning("%s: %s", directory, error.strerror)
            return []
        return [str(path) for path in files if os.path.isfile(path) and os.access(path, os.X_OK)]
