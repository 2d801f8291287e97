"""Events that the broker has not taken yet: on disk, bounded, in the order in which they came.

Nothing here raises, whatever the disk does. What cannot be written waits in memory, and goes to the disk with the next
event that can be. When there are too many, the oldest are given up; how many is told before the next that is sent. A
file that is broken is set aside, which is told as well.
"""

import json
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sidecar.bus.outbox_file import OutboxFile, is_broken, set_aside
from sidecar.bus.outbox_tally import Gap, Tally, make_word
from sidecar.bus.priorities import Told
from sidecar.bus.trouble import Trouble

logger = logging.getLogger(__name__)

# The process before, which was killed just now, may still be on its way out. Later nobody waits: events come in.
_FIRST_WAIT_S = 2.0

# While the disk takes nothing: a megabyte, and as many events as the daemon itself remembers.
MEMORY_LIMIT = 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """An event that waits; ``number`` grows from one to the next."""

    number: int
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An event that is not on disk yet."""

    number: int
    text: str


class Outbox:
    """See the module; any thread may call it, one at a time sends.

    The event that ``peek`` gave is held: it is not given up while it is on its way, so that none is sent and counted as
    dropped as well. ``limit_events`` is what may wait besides.
    """

    def __init__(
        self,
        path: Path,
        limit_events: int,
        read_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        open_file: Callable[[Path, float], OutboxFile] = OutboxFile,
    ) -> None:
        self._path, self._limit, self._read_clock, self._open_file = path, limit_events, read_clock, open_file
        self._lock = threading.RLock()
        self._file: OutboxFile | None = None
        self._memory: deque[_Waiting] = deque()
        self._tally = Tally()
        self._held: int | None = None
        self._done = 0  # numbers up to this were sent, whether or not the disk let go of them
        self._first: Entry | None = None
        self._trouble = Trouble(logger, f"outbox {str(path)!a}")
        self._wait_s = _FIRST_WAIT_S
        if not self._try(self._flush) and self._memory:  # it was broken
            self._try(self._flush)
        self._wait_s = 0.0

    @property
    def last_id(self) -> str | None:
        """The daemon's id of the newest event that was ever appended; ``None`` where there was none."""
        return self._tally.last_id

    @property
    def waiting(self) -> int:
        """Events that are not sent yet."""
        with self._lock:
            return len(self._memory) + (0 if self._file is None else self._file.count)

    @property
    def dropped(self) -> int:
        """Events that were given up since the outbox was made."""
        return self._tally.dropped

    def append(self, document: Mapping[str, Any]) -> None:
        """The newest event."""
        with self._lock:
            try:
                text = json.dumps(document, allow_nan=False, separators=(",", ":"))
            except (TypeError, ValueError):
                logger.error("outbox: an event is no JSON and is given up")
                self._note_dropped(1)
                return
            self._tally = self._tally.add_event(document.get("id"))
            self._memory.append(_Waiting(self._tally.last_number, text))
            self._try(self._flush)
            self._bound_memory()

    def peek(self) -> Entry | None:
        """The oldest event, which is held from now on; ``None`` when none waits, or the disk does not say which."""
        with self._lock:
            self._held = self._first = None
            if self._memory or self._file is None:
                self._try(self._flush)
            is_known = self._file is None or self._try(self._read_first)
            if is_known and self._first is None and self._memory:
                self._first = Entry(self._memory[0].number, json.loads(self._memory[0].text))
            if self._first is not None:
                self._held = self._first.number
            return self._first

    def discard(self, number: int) -> None:
        """The event that is held was sent. Of another nothing is known any more: it is sent again."""
        with self._lock:
            if number != self._held:
                return
            self._held = None
            if self._memory and self._memory[0].number == number:
                self._memory.popleft()
                return
            self._done = number
            self._try(self._remove_done)

    def find_gap(self) -> Gap | None:
        """What was given up and has not been told."""
        with self._lock:
            return self._tally.gap

    def note_told(self, gap: Gap) -> None:
        """The gap was sent."""
        with self._lock:
            self._tally = replace(self._tally, told=gap.dropped)
            self._try(self._flush)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _try(self, action: Callable[[], None]) -> bool:
        """Do something that needs the disk, if it can be done."""
        try:
            action()
        except (sqlite3.Error, OSError) as error:
            if is_broken(error):
                self._begin_anew(error)
            else:
                self._trouble.note(str(error))
            return False
        return True

    def _open(self) -> OutboxFile:
        if self._file is None:
            self._file = self._open_file(self._path, self._wait_s)
            self._merge(self._file.read_tally())
        return self._file

    def _merge(self, found: Tally) -> None:
        """The file was opened: what came before that is newer than what is in it."""
        self._tally = self._tally.add_older(found)
        if found.last_number:
            self._memory = deque(_Waiting(found.last_number + waiting.number, waiting.text) for waiting in self._memory)
            self._held, self._done = None, 0

    def _flush(self) -> None:
        """Write what waits in memory, and the tally."""
        file = self._open()
        tally = self._tally
        try:
            with file.changes():
                file.remove(self._done)
                file.add((waiting.number, waiting.text) for waiting in self._memory)
                held = 0 if self._held is None else 1
                excess = file.count - held - self._limit
                if excess > 0 and (newest := file.remove_oldest(excess, self._held)) is not None:
                    self._note_dropped(excess, newest)
                file.write_tally(self._tally)
        except BaseException:
            self._tally = tally
            raise
        self._memory.clear()
        self._trouble.end()

    def _read_first(self) -> None:
        file = self._open()
        while self._first is None and (found := file.read_first(self._done)) is not None:
            number, text = found
            try:
                self._first = Entry(number, json.loads(text))
            except ValueError:
                logger.error("outbox %a: an event is no JSON any more and is given up", str(self._path))
                self._note_dropped(1)
                self._done = number
                self._remove_done()

    def _remove_done(self) -> None:
        file = self._open()
        with file.changes():
            file.remove(self._done)
            file.write_tally(self._tally)
        if file.count == 0:
            file.shrink()

    def _begin_anew(self, error: Exception) -> None:
        """Set the broken file aside; what waits in memory goes into a new one, with a word on that before it."""
        self.close()
        self._held, self._done = None, 0
        try:
            target = set_aside(self._path)
        except OSError as failure:
            self._trouble.note(f"{error}; it cannot be set aside: {failure}")
            return
        logger.error("outbox %a: %s: set aside as %a, a new one is begun", str(self._path), error, target.name)
        now = self._read_clock().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        document = make_word(Told.OUTBOX_BROKEN, None, now, set_aside=target.name, why=str(error))
        self._memory.appendleft(_Waiting(0, json.dumps(document)))
        self._renumber()

    def _renumber(self) -> None:
        self._memory = deque(_Waiting(number, waiting.text) for number, waiting in enumerate(self._memory, 1))
        self._tally = replace(self._tally, last_number=len(self._memory))

    def _bound_memory(self) -> None:
        while len(self._memory) > MEMORY_LIMIT:
            # The one that is held stands first.
            place = 1 if self._memory[0].number == self._held else 0
            self._note_dropped(1, self._memory[place].text)
            del self._memory[place]

    def _note_dropped(self, count: int, newest: str = "{}") -> None:
        self._tally = self._tally.add_dropped(count, json.loads(newest))
