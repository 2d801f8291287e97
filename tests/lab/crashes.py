"""What systemd does for a daemon that dies in libvirt's client library: starts it anew, as the unit says.

The library of 9.0 crashes its process now and then when a connection ends under two calls: an event source outlives the
stack that it points into (virNetClientIOEventFD; see docs/problems.md). Every other end is left to be seen.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIGSEGV

from tests.lab.host import Host

_LOOK_PAUSE_S = 0.1
_DIED = "Fatal Python error: Segmentation fault"


@contextmanager
def restarting(host: Host, config_text: str) -> Iterator[None]:
    """While the test goes on; each crash is printed."""
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(host, config_text, over), daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join()


def _watch(host: Host, config_text: str, over: threading.Event) -> None:
    while not over.wait(_LOOK_PAUSE_S):
        process = host.sidecard.process
        if process is None or process.poll() not in (-SIGSEGV, 128 + SIGSEGV):
            continue
        stacks = host.log_text().rpartition(_DIED)[2]
        if "libvirt.py" not in stacks:
            return
        print(f"the daemon of {host.name} died in libvirt's client library, and is started anew")
        host.start_sidecard(config_text)
