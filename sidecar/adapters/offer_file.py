"""``host.json``: what this host offers its guests, for those who ask when the daemon may be down.

Source: docs/configuration.md, ``[paths] state``.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

NAME = "host.json"


def write_offer(directory: Path, offer: Mapping[str, object]) -> None:
    """Put the offer at ``directory/host.json``, readable by all, whole or not at all.

    Raises:
        OSError: It could not be written; what was there before still is.
    """
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    fresh = directory / f".{NAME}.new"
    fresh.write_text(json.dumps(offer, indent=2) + "\n")
    fresh.chmod(0o644)
    os.replace(fresh, directory / NAME)
