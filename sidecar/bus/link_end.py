"""The process's end of the link to the daemon; ``api.link`` says what goes over it.

One thread reads, and hands each line to whoever receives its word; any thread sends. The daemon that closes its end, or
says what is none of its words, has come to an end itself, or to a fault: the process ends with it.
"""

import itertools
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import Any, BinaryIO

from sidecar.api.link import LINE_LIMIT_BYTES, Word, parse_line, read_result, render_line
from sidecar.api.problems import ProblemCode, ProblemError

logger = logging.getLogger(__name__)

# What the API takes over its sockets, unless it is configured otherwise: the daemon parses it between two arrivals.
CALL_LIMIT_BYTES = 1024 * 1024
# More than the doors have threads: who exceeds it is a fault of ours.
CALLS_LIMIT = 64

Receiver = Callable[[dict[str, Any]], None]


class LinkEnd:
    """See the module."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._sending = threading.Lock()
        self._calls: dict[int, SimpleQueue[dict[str, Any]]] = {}
        self._calls_lock = threading.Lock()
        self._numbers = itertools.count(1)

    def receive_begin(self) -> dict[str, Any] | None:
        """What the daemon begins with; ``None``: it ended before. Raises ``ValueError``: with another word."""
        line = self._read_line()
        if line is None:
            return None
        word, values = parse_line(line)
        if word is not Word.BEGIN:
            raise ValueError(f"expected {Word.BEGIN}, got {word}")
        return values

    def run(self, receivers: Mapping[Word, Receiver]) -> int:
        """Receive until the daemon ends; the exit code: 1 where it says what nobody understands.

        ``answer`` is for who called; every other word of the daemon's is a key of ``receivers``, which must not wait
        for a broker: nobody reads meanwhile.
        """
        try:
            while (line := self._read_line()) is not None:
                word, values = parse_line(line)
                self._take_answer(values) if word is Word.ANSWER else receivers[word](values)
        except Exception:
            # Not with what it said: that may be what guests told of themselves.
            logger.exception("the daemon's line is none, or cannot be taken")
            return 1
        return 0

    def send(self, word: Word, **values: Any) -> None:
        """Say something; waits for a daemon that is slow. Raises ``ValueError``: the link cannot carry it."""
        try:
            line = render_line(word, **values)
        except (TypeError, RecursionError) as error:
            raise ValueError(str(error)) from error
        if len(line) > LINE_LIMIT_BYTES:
            raise ValueError("a line would be too long")
        self._write(line)

    def call(self, operation: str, arguments: Mapping[str, Any], version: str, patience_s: float) -> Any:
        """Have the daemon do an operation; the document that it results in.

        What changes something it does not begin any more when the patience is over. Everything raised but
        ``ProblemError`` leaves open whether the daemon did it.

        Raises:
            ProblemError: The daemon's; or it was not asked, because the arguments are no JSON or too large, or too many
                calls are under way.
            TimeoutError: It did not answer.
        """
        answer: SimpleQueue[dict[str, Any]] = SimpleQueue()
        number = next(self._numbers)
        deadline = time.monotonic() + patience_s
        line = _render_call(id=number, operation=operation, arguments=arguments, version=version, deadline=deadline)
        with self._calls_lock:
            if len(self._calls) >= CALLS_LIMIT:
                raise ProblemError(ProblemCode.TOO_MANY_CONNECTIONS, "too many calls are under way over the bus")
            self._calls[number] = answer
        try:
            self._write(line)
            return read_result(answer.get(timeout=max(deadline - time.monotonic(), 0.0)))
        except Empty:
            raise TimeoutError(f"{operation}: the daemon does not answer") from None
        finally:
            with self._calls_lock:
                del self._calls[number]

    def _take_answer(self, values: dict[str, Any]) -> None:
        with self._calls_lock:
            answer = self._calls.get(values["id"])
        if answer is not None:
            answer.put(values)

    def _read_line(self) -> bytes | None:
        """``None``: the daemon ended, perhaps in the middle of a line."""
        line = self._incoming.readline(LINE_LIMIT_BYTES + 1)
        if len(line) > LINE_LIMIT_BYTES:
            raise ValueError("a line is too long")
        return line if line.endswith(b"\n") else None

    def _write(self, line: bytes) -> None:
        with self._sending:
            try:
                self._outgoing.write(line)
                self._outgoing.flush()
            except OSError:
                # The daemon is gone, and whoever reads finds it out.
                logger.debug("the daemon reads no more")


def is_document(value: object, limit_bytes: int) -> bool:
    """Whether it is a JSON object that the link can carry, of so many bytes at most."""
    if not isinstance(value, dict):
        return False
    try:
        return len(json.dumps(value, allow_nan=False)) <= limit_bytes
    except (ValueError, TypeError, RecursionError):
        return False


def _render_call(**values: Any) -> bytes:
    try:
        line = render_line(Word.CALL, **values)
    except (ValueError, TypeError, RecursionError) as error:
        raise ProblemError(ProblemCode.BAD_REQUEST, f"the arguments are no JSON: {error}") from error
    if len(line) > CALL_LIMIT_BYTES:
        raise ProblemError(ProblemCode.TOO_LARGE, f"the arguments have more than {CALL_LIMIT_BYTES} bytes")
    return line
