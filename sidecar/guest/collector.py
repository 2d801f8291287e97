"""Looks things up in one thread of its own: what hangs there, hangs there, and the heart beats on."""

import logging
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from sidecar.errors import ReportError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found under a name; ``only_news``: nobody asked for it but to hear what has changed."""

    name: str
    value: object
    only_news: bool


class Collector:
    """``want`` and ``take`` are for the loop's thread; ``fd`` becomes readable when there is something to take."""

    def __init__(self, look_up: Callable[[str], object]) -> None:
        """``look_up`` gives what is found under a name; it may block, and raises nothing but ``ReportError``."""
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._look_up = look_up
        self._lock = threading.Lock()
        self._waiting: dict[str, bool] = {}
        self._wanted: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._found: deque[Finding] = deque()
        self._complaints: dict[str, str] = {}
        # A daemon: a file system that hangs must not keep the process from ending.
        threading.Thread(target=self._work, name="collector", daemon=True).start()

    def want(self, names: Iterable[str], *, only_news: bool = False) -> None:
        """Have these looked up; what waits for its turn already is not looked up twice."""
        with self._lock:
            for name in names:
                if name not in self._waiting:
                    self._wanted.put(name)
                self._waiting[name] = only_news and self._waiting.get(name, True)

    def take(self) -> Iterator[Finding]:
        """What was found since the last time; what could not be looked up is not among it."""
        os.eventfd_read(self.fd)
        while self._found:
            yield self._found.popleft()

    def _work(self) -> None:
        while True:
            name = self._wanted.get()
            with self._lock:
                only_news = self._waiting.pop(name)
            value = self._try(name)
            if value is not None:
                self._found.append(Finding(name, value, only_news))
                os.eventfd_write(self.fd, 1)

    def _try(self, name: str) -> object:
        try:
            value = self._look_up(name)
        except ReportError as error:
            if self._complaints.get(name) != str(error):
                self._complaints[name] = str(error)
                logger.warning("%s: cannot be told: %s", name, error)
            return None
        except Exception:
            logger.exception("%s: cannot be told", name)
            return None
        self._complaints.pop(name, None)
        return value
