"""A daemon's socket with scripted answers, in threads of its own: what it was asked, byte by byte, can be looked at."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LIMIT_S = 10.0


@dataclass(frozen=True)
class Call:
    """One request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def version(self) -> str | None:
        return self.headers.get("sidecar-api-version")

    @property
    def line(self) -> str:
        return f"{self.method} {self.target}"


@dataclass(frozen=True)
class Reply:
    """What goes out, and whether the daemon hangs up after it."""

    content: bytes = b""
    closes: bool = False


HANG_UP = Reply(closes=True)
Answer = Callable[[Call], Reply | None]


def reply(document: Any, status: int = 200, version: str | None = "1.3", **headers: str) -> Reply:
    body = json.dumps(document).encode()
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
    if version is not None:
        lines.append(f"Sidecar-API-Version: {version}")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return Reply("\r\n".join([*lines, "", ""]).encode() + body, closes=headers.get("Connection") == "close")


def problem(code: str, status: int = 409, detail: str = "why not", version: str = "1.3", **extra: str) -> Reply:
    return reply({"code": code, "detail": detail, "status": status, "title": "t", **extra}, status, version)


def stream(*events: Any, version: str = "1.3", closes: bool = True) -> Reply:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nSidecar-API-Version: {version}\r\n\r\n"
    lines = "".join(f"id: {e['id']}\nevent: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events)
    return Reply((head + lines).encode(), closes=closes)


@dataclass
class FakeDaemon:
    """``answer`` gives the reply to each call; ``None``: none until the daemon ends."""

    path: Path
    answer: Answer
    calls: list[Call] = field(default_factory=list)
    connections: int = 0
    listener: socket.socket = field(default_factory=lambda: socket.socket(socket.AF_UNIX))
    opened: list[socket.socket] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def lines(self) -> list[str]:
        return [call.line for call in self.calls]

    def start(self) -> None:
        self.listener.bind(str(self.path))
        self.listener.listen(16)
        self._spawn(self._accept)

    def stop(self) -> None:
        """Hang up on everybody, and leave the socket file: as a daemon that was killed."""
        self.ended.set()
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.hang_up()
        for thread in self.threads:
            thread.join(LIMIT_S)
            assert not thread.is_alive()

    def hang_up(self) -> None:
        """End every connection, from this side."""
        for connection in self.opened:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _spawn(self, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=run)
        self.threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.connections += 1
                self.opened.append(connection)
                self._spawn(lambda connection=connection: self._serve(connection))  # type: ignore[misc]

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as file, suppress(OSError):
            while (call := _read_call(file)) is not None:
                self.calls.append(call)
                answer = self.answer(call)
                if answer is None:
                    self.ended.wait(LIMIT_S)
                    return
                connection.sendall(answer.content)
                if answer.closes:
                    return


def _read_call(file: Any) -> Call | None:
    line = file.readline().decode()
    if not line:
        return None
    method, target, _ = line.split(" ")
    headers = {}
    while header := file.readline().decode().strip():
        name, _, value = header.partition(":")
        headers[name.lower()] = value.strip()
    return Call(method, target, headers, file.read(int(headers.get("content-length", "0"))))


@contextmanager
def serve(path: Path, answer: Answer) -> Iterator[FakeDaemon]:
    daemon = FakeDaemon(path, answer)
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()
