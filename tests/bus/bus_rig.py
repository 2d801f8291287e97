"""The bus process as the daemon sees it: a real one, with the test at the other end of its link."""

import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from sidecar.api.link import Word

TIMEOUT_S = 30.0


def make_offer(hostname: str, **more: Any) -> dict[str, Any]:
    """As much of a host's offer as the bus looks at."""
    return {"hostname": hostname, "host_uuid": f"uuid-of-{hostname}", "daemon": "1.0", "bridge": "1.3", **more}


def make_summary(hostname: str) -> dict[str, Any]:
    """As much of a summary."""
    return {"host": make_offer(hostname), "guests": 2, "oldest": {}}


class BusRig:
    """One process ``python -m sidecar.bus``, begun; what it says is kept, and calls are answered by ``serve``."""

    def __init__(self, directory: Path, hostname: str, url: str, **section: Any) -> None:
        self.hostname, self.statuses = hostname, list[Mapping[str, Any]]()
        self.said: list[tuple[Word, dict[str, Any]]] = []
        self.serve: Callable[[dict[str, Any]], dict[str, Any]] = self._serve
        self._changed = threading.Condition()
        self._numbers = itertools.count(1)
        self._log: IO[bytes] = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115  # ``end`` closes it
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "sidecar.bus"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self._section = {
            "url": url,
            "admin": False,
            "admin_url": None,
            "directory": str(directory / hostname),
            "outbox_events": 1000,
            "notification_topics": ["notifications"],
            "oslo_messaging_rabbit": {},
            **section,
        }
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def begin(self, offer: Mapping[str, Any] | None = None) -> None:
        """What the daemon says first; returns when the process is ready."""
        self.say("begin", hostname=self.hostname, version="1.3", section=self._section)
        self.say("offer", offer=offer or make_offer(self.hostname), announce=True)
        self.wait(lambda: self.heard(Word.READY), "ready")

    def say(self, word: str, **values: Any) -> None:
        """A line to the process."""
        self.say_raw(json.dumps({"word": word, **values}).encode() + b"\n")

    def say_raw(self, data: bytes) -> None:
        """Whatever to the process."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def ask(self, what: str, timeout_s: float = 5.0, **values: Any) -> dict[str, Any]:
        """An ask, and what is done."""
        number = next(self._numbers)
        self.say("ask", id=number, what=what, timeout_s=timeout_s, **values)
        self.wait(lambda: any(each["id"] == number for each in self.heard(Word.DONE)), f"answer to {what}")
        return next(each for each in self.heard(Word.DONE) if each["id"] == number)

    def heard(self, word: Word) -> list[dict[str, Any]]:
        """What it said with this word, in order."""
        return [values for each, values in list(self.said) if each is word]

    @property
    def connected(self) -> bool:
        """As it said last."""
        return bool(self.heard(Word.STATUS) and self.heard(Word.STATUS)[-1]["connected"])

    def wait_connected(self, wanted: bool = True) -> None:
        """Until it says so."""
        self.wait(lambda: self.connected is wanted, f"connected {wanted}", 90.0)

    def wait(self, condition: Callable[[], Any], what: str, timeout_s: float = TIMEOUT_S) -> Any:
        """Until the condition is something, which changes with what is said; that."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not (found := condition()):
                left = deadline - time.monotonic()
                assert left > 0, f"{self.hostname}: no {what} within {timeout_s:g} s; its log:\n{self.log}"
                self._changed.wait(left)
        return found

    @property
    def log(self) -> str:
        """What it logged."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def close(self) -> int:
        """The daemon's end; the process's exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(TIMEOUT_S)

    def end(self) -> None:
        """Whatever happened, it is gone."""
        self.process.kill()
        self.process.wait(TIMEOUT_S)
        self._thread.join(TIMEOUT_S)
        for file in (self.process.stdin, self.process.stdout, self._log):
            assert file is not None
            try:
                file.close()
            except BrokenPipeError:
                continue

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            values = json.loads(line)
            word = Word(values.pop("word"))
            with self._changed:
                self.said.append((word, values))
                self._changed.notify_all()
            if word is Word.CALL:
                self.say("answer", id=values["id"], **self.serve(values))

    def _serve(self, call: dict[str, Any]) -> dict[str, Any]:
        if call["operation"] == "summary":
            return {"result": make_summary(self.hostname)}
        return {"result": {"host": self.hostname, **call}}
