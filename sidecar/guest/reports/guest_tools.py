"""Which guest tools run here, and whether the host may upgrade them: what this project adds to the dialect."""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from sidecar import __version__
from sidecar.protocol.tools import UPGRADE_LOCK, ToolsVersion

_RELEASE = re.compile(r"\d+\.\d+(\.\d+)?")


class GuestTools:
    """The arguments of guest-tools; it remembers what it told last, because ``updated`` grows with every change.

    A host looks at the rest only when ``updated`` has grown, so it starts at the time of day: above what an agent told
    that ran here before, unless the clock went back, which a host forgives to an agent that has started anew.
    """

    def __init__(
        self, version: str | None = None, root: Path = Path("/"), clock: Callable[[], float] = time.time
    ) -> None:
        """``version`` is MAJOR.MINOR[.MICRO][-BUILD], ``None`` for our own; ``clock`` tells seconds since the epoch."""
        self._version = version
        self._lock_file = root / UPGRADE_LOCK.lstrip("/")
        self._clock = clock
        self._told: dict[str, object] | None = None
        self._updated = 0

    def report(self) -> dict[str, object]:
        """guest-tools: four numbers, two booleans, and ``updated``.

        Raises:
            ValueError: The version is none; nothing was told, and ``updated`` stays.
        """
        facts = self._look_up()
        if facts != self._told:
            # No clock, or one before 1970, must not make the message one that a host refuses.
            self._updated = max(self._updated + 1, int(self._clock()))
            self._told = facts
        return {**facts, "updated": self._updated}

    def _look_up(self) -> dict[str, object]:
        version = ToolsVersion.parse(_own_release() if self._version is None else self._version)
        return {
            "major": version.major,
            "minor": version.minor,
            "micro": version.micro or 0,
            "build": version.build or 0,
            "installed": True,
            "notUpgradable": os.path.exists(self._lock_file),
        }


def _own_release() -> str:
    """Our version without what marks a build in between (``0.2.0.dev3``)."""
    found = _RELEASE.match(__version__)
    return found[0] if found else ""
