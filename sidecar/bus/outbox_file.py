"""The outbox's file: SQLite, one process at a time.

Everything here raises ``sqlite3.Error`` or ``OSError`` when the disk does not do it, and has changed nothing then.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

from sidecar.bus.outbox_tally import Tally

# "side", and the layout's number: what has others is not ours.
APPLICATION_ID = 0x73696465
LAYOUT = 1

# Files that are set aside: more are the disk's fault, and tell nothing new.
BROKEN_LIMIT = 9

# Pages given back to the file system whenever the outbox is empty: 4 MiB, a few milliseconds.
_VACUUM_PAGES = 1024

# NORMAL: a commit waits for no disk, only a checkpoint does. A process that is killed loses nothing. A host that loses
# its power loses what was appended in its last half minute, and repeats what the broker took in it; its guests are gone
# as well, and the daemon tells their next arrivals. FULL waits for the disk twice an event: a sixth of the speed on a
# fast one, and as long as the guests let it on one that they keep busy, with the calls of others waiting behind it.
_SETTINGS = """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
"""

_LAYOUT = f"""
BEGIN;
CREATE TABLE events (number INTEGER PRIMARY KEY, document TEXT NOT NULL) STRICT;
CREATE TABLE tally (
    last_number INTEGER NOT NULL, last_id TEXT,
    dropped INTEGER NOT NULL, told INTEGER NOT NULL, gap_id TEXT, gap_time TEXT
) STRICT;
INSERT INTO tally VALUES (0, NULL, 0, 0, NULL, NULL);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {LAYOUT};
COMMIT;
"""


class ForeignFileError(sqlite3.DatabaseError):
    """It is a database, and not ours or not of this layout."""


class OutboxFile:
    """An open file; ``count`` events are in it."""

    def __init__(self, path: Path, wait_s: float = 0.0) -> None:
        """Open it, or make it (0600, and its directory 0700 where there is none).

        ``wait_s`` is how long to wait for another process to let go of it.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_private(path)
        self._database = sqlite3.connect(path, timeout=wait_s, isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
            self.count = self._check()
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    @contextlib.contextmanager
    def changes(self) -> Iterator[None]:
        """What is changed within is changed as one, or not at all."""
        count = self.count
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            self.count = count
            # SQLite itself goes back when the disk is full, and closing the file does at the latest.
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            raise

    def read_tally(self) -> Tally:
        """The tally as it stands there."""
        return Tally(*self._read("SELECT last_number, last_id, dropped, told, gap_id, gap_time FROM tally"))

    def write_tally(self, tally: Tally) -> None:
        """Within ``changes``."""
        names = "last_number = ?, last_id = ?, dropped = ?, told = ?, gap_id = ?, gap_time = ?"
        self._database.execute(f"UPDATE tally SET {names}", astuple(tally))

    def add(self, events: Iterable[tuple[int, str]]) -> None:
        """Number and document of each; within ``changes``."""
        cursor = self._database.executemany("INSERT INTO events VALUES (?, ?)", events)
        self.count += cursor.rowcount

    def read_first(self, after: int) -> tuple[int, str] | None:
        """The oldest event of a number above ``after``."""
        query = "SELECT number, document FROM events WHERE number > ? ORDER BY number LIMIT 1"
        found: tuple[int, str] | None = self._database.execute(query, (after,)).fetchone()
        return found

    def remove(self, up_to: int) -> None:
        """All events up to a number; within ``changes``."""
        self.count -= self._database.execute("DELETE FROM events WHERE number <= ?", (up_to,)).rowcount

    def remove_oldest(self, count: int, spared: int | None) -> str | None:
        """So many, but not the one that is ``spared``; the newest of them. Within ``changes``."""
        condition = "number IN (SELECT number FROM events WHERE number IS NOT ? ORDER BY number LIMIT ?)"
        query = f"DELETE FROM events WHERE {condition} RETURNING number, document"
        removed = self._database.execute(query, (spared, count)).fetchall()
        self.count -= len(removed)
        return max(removed)[1] if removed else None

    def shrink(self) -> None:
        """Give room back to the file system, at the next checkpoint."""
        # Not ``execute``: it takes one step, which is one page.
        self._database.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")

    def _prepare(self) -> None:
        """Settings, and the layout in a new file; another's is not changed."""
        self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
        kind, layout = (self._read(f"PRAGMA {name}")[0] for name in ("application_id", "user_version"))
        is_new = (kind, layout) == (0, 0) and self._read("SELECT count(*) FROM sqlite_schema")[0] == 0
        if not is_new and (kind, layout) != (APPLICATION_ID, LAYOUT):
            raise ForeignFileError(f"application {kind:#x}, layout {layout}")
        self._database.executescript(_SETTINGS)
        if is_new:
            self._database.executescript(_LAYOUT)

    def _check(self) -> int:
        """How many events there are, in a file that is sound."""
        said = self._read("PRAGMA quick_check(1)")[0]
        if said != "ok":
            raise ForeignFileError(f"{said}")
        try:
            self.read_tally()
            return int(self._read("SELECT count(number) FROM events WHERE document IS NOT NULL")[0])
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:  # a table or a column is not there
                raise ForeignFileError(str(error)) from error
            raise

    def _read(self, query: str) -> Any:
        row = self._database.execute(query).fetchone()
        if row is None:
            raise ForeignFileError("a row is missing")
        return row


def _make_private(path: Path) -> None:
    """Make the file where there is none; SQLite gives the files beside it the same mode.

    Raises:
        ForeignFileError: It is there and empty, as none of ours ever is for long.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        file, is_new = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600), True
    except FileExistsError:
        file, is_new = os.open(path, flags), False
    try:
        os.fchmod(file, 0o600)
        if not is_new and os.fstat(file).st_size == 0:
            raise ForeignFileError("it is empty")
    finally:
        os.close(file)


def is_broken(error: Exception) -> bool:
    """Whether the file is at fault, rather than the disk: another attempt will not do."""
    # The low byte of the code is the kind, the others are the detail.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return isinstance(error, ForeignFileError) or code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def set_aside(path: Path) -> Path:
    """Rename the file to ``<name>.broken-<n>``, with those that SQLite keeps beside it; the new path."""
    names = [path.with_name(f"{path.name}.broken-{number}") for number in range(1, BROKEN_LIMIT + 1)]
    target = next((name for name in names if not name.exists()), names[-1])
    path.rename(target)
    for ending in ("-wal", "-shm", "-journal"):
        beside = path.with_name(path.name + ending)
        with contextlib.suppress(FileNotFoundError):
            beside.rename(target.with_name(target.name + ending))
    return target
