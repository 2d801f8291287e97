"""The test's end of the control channel into a guest."""

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path

# After connecting, "are you there" is asked so often: what was written into a port that is closed may be lost.
PING_INTERVAL_S = 0.25
CONNECT_TIMEOUT_S = 5.0


class ControlClient:
    """Asks the guest for one thing after another.

    Connects when something is asked. `path` is called for each connection: the socket is another one after every
    start and migration.
    """

    def __init__(self, path: Callable[[], Path]) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._buffer = b""
        self._last_id = time.time_ns()  # a client that comes later must not take an earlier one's answers

    def close(self) -> None:
        """Forgets the connection; the next request makes a new one and waits until the guest answers."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._buffer = b""

    def ask(self, operation: str, timeout_s: float, **arguments: object) -> tuple[int, str]:
        """Exit status and output of an operation; it is sent once and never repeated.

        Raises:
            TimeoutError: no answer; nobody knows whether it was done.
            ConnectionError: QEMU closed the channel.
        """
        deadline = time.monotonic() + timeout_s
        try:
            self._connect(deadline)
            number = self._send(operation, arguments)
            answer = self._receive(number, deadline)
        except OSError:
            self.close()
            raise
        if answer is None:
            self.close()
            raise TimeoutError(f"the guest did not answer within {timeout_s:g} s: {operation} {arguments}")
        return answer

    def send(self, operation: str, **arguments: object) -> None:
        """For what cannot be answered, such as a reboot."""
        self._connect(time.monotonic() + CONNECT_TIMEOUT_S)
        self._send(operation, arguments)

    def _connect(self, deadline: float) -> None:
        """Returns once the guest has answered on this connection."""
        if self._socket is not None:
            return
        while not self._ping(min(deadline, time.monotonic() + PING_INTERVAL_S)):
            if time.monotonic() > deadline:
                self.close()
                raise TimeoutError("the guest does not answer on its control channel")

    def _ping(self, deadline: float) -> bool:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(CONNECT_TIMEOUT_S)
            self._socket.connect(str(self._path()))
        try:
            number = self._send("ping", {})
        except TimeoutError:
            self.close()  # the pings of half a minute fill a socket that a slow guest does not read yet
            return False
        return self._receive(number, deadline) is not None

    def _send(self, operation: str, arguments: dict[str, object]) -> int:
        assert self._socket is not None
        self._last_id += 1
        request = {"id": self._last_id, "op": operation, **arguments}
        # The empty line ends whatever an earlier connection left unfinished.
        self._socket.settimeout(CONNECT_TIMEOUT_S)
        self._socket.sendall(b"\n" + json.dumps(request).encode() + b"\n")
        return self._last_id

    def _receive(self, number: int, deadline: float) -> tuple[int, str] | None:
        """The answer with that number; answers to earlier requests are dropped."""
        while True:
            line, found, rest = self._buffer.partition(b"\n")
            if found:
                self._buffer = rest
                answer = _parse(line)
                if answer.get("id") == number:
                    return int(answer["status"]), str(answer["output"])
            elif not self._read(deadline):
                return None

    def _read(self, deadline: float) -> bool:
        assert self._socket is not None
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return False
        self._socket.settimeout(left_s)
        try:
            data = self._socket.recv(65536)
        except TimeoutError:
            return False
        if not data:
            raise ConnectionError("QEMU closed the control channel")
        self._buffer += data
        return True


def _parse(line: bytes) -> dict[str, str | int]:
    """An answer, or an empty one for a line of which a part was lost."""
    try:
        answer = json.loads(line)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
