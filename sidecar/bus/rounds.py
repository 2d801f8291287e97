"""What was said to every host, until it has come back to ourselves, and the hosts have answered."""

import json
import secrets
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

# As many as a fleet has hosts.
ANSWERS_LIMIT = 16_384
# Of all answers in a round, as JSON: twice of what those take. Half of what the link carries in a line.
ANSWERS_LIMIT_BYTES = 32 * 1024 * 1024


@dataclass(slots=True)
class _Round:
    """One: who is missing, what came, and whether our own message did, which shows that the others have it as well."""

    missing: set[str]
    answers: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    total_bytes: int = 0
    echoed: bool = False

    @property
    def is_over(self) -> bool:
        """Whether nothing more is waited for."""
        return self.echoed and not self.missing

    def take(self, hostname: str, answer: Any, size_bytes: int) -> bool:
        """Keep an answer, in place of an earlier one; whether there was room."""
        total_bytes = self.total_bytes - self.sizes.get(hostname, 0) + size_bytes
        is_full = hostname not in self.answers and len(self.answers) >= ANSWERS_LIMIT
        if is_full or total_bytes > ANSWERS_LIMIT_BYTES:
            return False
        self.answers[hostname], self.sizes[hostname], self.total_bytes = answer, size_bytes, total_bytes
        self.missing.discard(hostname)
        return True


class Rounds:
    """See the module; for any thread."""

    def __init__(self) -> None:
        self._rounds: dict[str, _Round] = {}
        self._changed = threading.Condition()

    def begin(self, expected: Collection[str] = ()) -> str:
        """A new round, in which these hosts are to answer; its id."""
        number = secrets.token_hex(8)
        with self._changed:
            self._rounds[number] = _Round(set(expected))
        return number

    def receive_echo(self, number: str) -> None:
        """Our message came to ourselves."""
        with self._changed:
            found = self._rounds.get(number)
            if found is not None:
                found.echoed = True
                self._notify(found)

    def receive_answer(self, number: str, hostname: str, answer: Any) -> None:
        """A host answered; what belongs to no round is too late, and what is too much counts as no answer."""
        size_bytes = len(json.dumps(answer))
        with self._changed:
            found = self._rounds.get(number)
            if found is not None and found.take(hostname, answer, size_bytes):
                self._notify(found)

    def _notify(self, found: _Round) -> None:
        """Wake who waits for it when it is over, and not for each of thousands of answers."""
        if found.is_over:
            self._changed.notify_all()

    def finish(self, number: str, timeout_s: float) -> list[Any]:
        """What was answered, as soon as everything came; what came until the time was over, otherwise.

        Raises:
            TimeoutError: Not even our own message came to ourselves.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            found = self._rounds[number]
            try:
                while not found.is_over and (left := deadline - time.monotonic()) > 0:
                    self._changed.wait(left)
            finally:
                del self._rounds[number]
            if not found.echoed:
                raise TimeoutError("it did not come back over the message bus")
            return list(found.answers.values())
