"""A channel's socket as a plain oVirt host would use it: for tests that play the host themselves."""

import json
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Message = dict[str, Any]


class RawChannel:
    """One connection; QEMU serves a single client at a time, so only one may be open."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._buffer = b""
        self._is_first = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hangs up."""
        self._socket.close()

    def send(self, name: str, **arguments: object) -> None:
        """Writes one message."""
        self.send_bytes(json.dumps({"__name__": name, **arguments}).encode() + b"\n")

    def send_bytes(self, data: bytes) -> None:
        """Writes anything."""
        self._socket.settimeout(5)
        self._socket.sendall(data)

    def receive(self, timeout_s: float = 10.0) -> Message:
        """The next message.

        Raises:
            TimeoutError: none came.
            ConnectionError: QEMU hung up.
        """
        deadline = time.monotonic() + timeout_s
        while not (line := self._receive_line(deadline)).strip():
            pass  # says nothing, and ends what an earlier host has not read
        message = json.loads(line)
        assert isinstance(message, dict)
        return message

    def _receive_line(self, deadline: float) -> bytes:
        """The next whole line; of the first one on a connection an earlier host may have read the beginning."""
        while b"\n" not in self._buffer:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("QEMU closed the channel")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        is_rest, self._is_first = self._is_first and not line.startswith(b"{"), False
        return b"" if is_rest else line

    def receive_until(self, name: str, timeout_s: float = 10.0, **expected: object) -> Message:
        """The next message of that name whose arguments include `expected`; others before it are dropped.

        Raises:
            TimeoutError: none came.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            message = self.receive(max(deadline - time.monotonic(), 0.001))
            if message["__name__"] == name and expected.items() <= message.items():
                return message
