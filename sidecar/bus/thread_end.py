"""The end of a thread of ours by a fault ends the process, which would go on half: the daemon starts another.

Threads of oslo.messaging and its libraries are another matter: some of them end by what a stranger sends.
"""

import logging
import os
import threading
from types import TracebackType

logger = logging.getLogger(__name__)

_OURS = "sidecar"


def watch_threads() -> None:
    """From now on, and for all threads but the main one."""
    threading.excepthook = _receive


def _receive(fault: threading.ExceptHookArgs) -> None:
    name = "a thread" if fault.thread is None else f"thread {fault.thread.name}"
    if not _is_ours(fault.exc_traceback):
        logger.error("%s of a library ended by a fault: %s", name, fault.exc_type.__name__)
        return
    try:
        # Where it happened, and not what it was about: that may be what guests told of themselves.
        logger.critical("%s ended by a fault of ours, and the process with it: %s", name, _describe(fault))
    finally:
        os._exit(1)


def _describe(fault: threading.ExceptHookArgs) -> str:
    places = []
    trace = fault.exc_traceback
    while trace is not None:
        places.append(f"{trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}")
        trace = trace.tb_next
    return f"{fault.exc_type.__name__} at {' '.join(places)}"


def _is_ours(trace: TracebackType | None) -> bool:
    """Whether what the thread runs, next to the standard library's own, is ours."""
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__"))
        if module != threading.__name__:
            return module.partition(".")[0] == _OURS
        trace = trace.tb_next
    return False
