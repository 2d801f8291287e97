"""How wide the terminal is, as ``shutil`` tells it: to import that takes as long as the rest of the command line."""

import os

_STDOUT = 1
_FALLBACK_COLUMNS = 80


def count_columns() -> int:
    """The columns of the terminal, or as many as ``COLUMNS`` says."""
    wanted = os.environ.get("COLUMNS", "")
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    try:
        return os.get_terminal_size(_STDOUT).columns or _FALLBACK_COLUMNS
    except OSError:  # no terminal
        return _FALLBACK_COLUMNS
