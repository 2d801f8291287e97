"""``fleet.json``: which hosts the fleet has, kept over restarts; nobody else reads it.

Source: docs/configuration.md, ``[bus] directory``.
"""

import asyncio
import json
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

NAME = "fleet.json"

# Twice what the largest roster takes.
_SIZE_LIMIT_BYTES = 32 * 1024 * 1024


class RosterFile:
    """See ``engine.fleet.RosterStore``."""

    def __init__(self, directory: Path) -> None:
        """Nothing is touched before ``save``."""
        self._directory = directory
        # Whoever is cancelled leaves a thread behind: the next to write must neither meet it nor be overtaken by it.
        self._lock = threading.Lock()
        self._asked = self._written = 0

    def load(self) -> object:
        """What was saved last, as JSON values; ``None`` when nothing was.

        Raises:
            OSError: It cannot be read.
            ValueError: It is no JSON.
        """
        file = self._directory / NAME
        try:
            with file.open("rb") as stream:
                text = stream.read(_SIZE_LIMIT_BYTES + 1)
        except FileNotFoundError:
            return None
        if len(text) > _SIZE_LIMIT_BYTES:
            raise ValueError(f"over {_SIZE_LIMIT_BYTES} bytes")
        try:
            document: object = json.loads(text)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        return document

    async def save(self, render: Callable[[], Mapping[str, Any]]) -> None:
        """Keep what this renders, for root alone, whole or not at all; off the loop, and one after the other.

        Raises:
            OSError: It could not be written; what was there before still is.
        """
        self._asked += 1
        await asyncio.to_thread(self._write, render, self._asked)

    def _write(self, render: Callable[[], Mapping[str, Any]], number: int) -> None:
        data = json.dumps(render()).encode() + b"\n"
        with self._lock:
            if number < self._written:
                return
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = self._directory / f".{NAME}.new"
            fresh.unlink(missing_ok=True)
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(fresh, self._directory / NAME)
            self._written = number
