"""A scripted QEMU guest agent that listens on a real unix socket, polite or not.

    async with QgaServer(tmp_path / "qga") as agent:
        agent.supported["guest-get-osinfo"] = False
        agent.manners = twice
        ...
        assert agent.commands == ["guest-sync-delimited", "guest-info"]

It serves one client after another, as QEMU does, and one command after another, as the agent does.
"""

import array
import asyncio
import contextlib
import fcntl
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

SENTINEL = b"\xff"
PAUSE = b""
"""Among the pieces of an answer: nothing more before the client has read what is sent."""

Arguments = dict[str, object]
Handler = Callable[[Arguments], object]
Manners = Callable[[str, bytes], Iterable[bytes]]
"""Makes of a command's name and its honest answer what is sent instead, in pieces; may raise `HangUp`."""

SYNCS = ("guest-sync", "guest-sync-delimited")
COMMANDS = (*SYNCS, "guest-ping", "guest-info", "guest-get-osinfo", "guest-shutdown")
_SIOCOUTQ = 0x5411
_RECEIVE_BYTES = 1 << 20


class HangUp(Exception):  # noqa: N818 - it is no error, but the agent's way to end the connection
    """Raised by manners."""


class Refusal(Exception):  # noqa: N818 - likewise
    """Raised by a handler: the command's answer is this error."""

    def __init__(self, error_class: str, description: str) -> None:
        super().__init__(description)
        self.error_class, self.description = error_class, description


class QgaServer:
    """The agent.

    Attributes:
        path: its socket.
        version: what guest-info says.
        supported: each command, and whether it is enabled; may be changed at any time.
        handlers: what a command returns, given its arguments; `{}` for one without a handler.
        ids: what becomes of a command's id; "dropped" and "rejected" are agents of before 3.1.
        complains: it answers each sentinel of the client's with an error, as real agents do.
        manners: see there; `honest` to begin with.
        go: cleared, the agent hangs before its next answer until it is set again.
        requests: what it was told, whole, in order.
        clients: how many it has accepted.
    """

    def __init__(self, path: Path, version: str = "7.2.22") -> None:
        self.path, self.version = path, version
        self.supported = dict.fromkeys(COMMANDS, True)
        self.handlers: dict[str, Handler] = {"guest-info": self._inform, **dict.fromkeys(SYNCS, _echo)}
        self.ids: Literal["echoed", "dropped", "rejected"] = "echoed"
        self.complains = False
        self.manners: Manners = honest
        self.go = asyncio.Event()
        self.go.set()
        self.requests: list[dict[str, object]] = []
        self.clients = 0
        self._server: asyncio.Server | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()

    @property
    def commands(self) -> list[str]:
        """The names of what it was told."""
        return [str(request.get("execute")) for request in self.requests]

    async def start(self) -> None:
        """Listens when this returns."""
        self._server = await asyncio.start_unix_server(self._accept, self.path, limit=_RECEIVE_BYTES)

    async def stop(self) -> None:
        """Ends every connection, and is not to be reached any more."""
        assert self._server is not None
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()
        self.path.unlink(missing_ok=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def say(self, *pieces: bytes) -> None:
        """Says something unasked to the client that is served; waits until it has one."""
        while self._writer is None:  # noqa: ASYNC110 - a client is accepted soon
            await asyncio.sleep(0.001)
        await self._send(self._writer, pieces)

    def hang_up(self) -> None:
        """Ends the connection of the client that is served."""
        if self._writer is not None:
            self._writer.transport.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.clients += 1
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with self._turn:
                self._writer = writer
                with contextlib.suppress(HangUp, OSError):
                    async for line in reader:
                        await self._receive(line, writer)
        finally:
            self._writer = None
            writer.transport.abort()

    async def _receive(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        half, sentinel, line = line.rpartition(SENTINEL)
        if self.complains and sentinel:
            await self._send(writer, [error_line("GenericError", f"JSON parse error, stray '\\uFFFD'{half.hex()}")])
        request = json.loads(line)
        self.requests.append(request)
        answer = self._answer(request)
        await self.go.wait()
        await self._send(writer, self.manners(str(request.get("execute")), answer))

    def _answer(self, request: dict[str, object]) -> bytes:
        if "id" in request and self.ids == "rejected":
            return error_line("GenericError", "QMP input member 'id' is unexpected")
        extra = {"id": request["id"]} if "id" in request and self.ids == "echoed" else {}
        name, arguments = str(request.get("execute")), request.get("arguments", {})
        assert isinstance(arguments, dict)
        try:
            result = self._run(name, arguments)
        except Refusal as refusal:
            return error_line(refusal.error_class, refusal.description, **extra)
        return (SENTINEL if name == "guest-sync-delimited" else b"") + line_of({"return": result, **extra})

    def _run(self, name: str, arguments: Arguments) -> object:
        if name not in self.supported:
            raise Refusal("CommandNotFound", f"The command {name} has not been found")
        if not self.supported[name]:
            raise Refusal("CommandNotFound", f"Command {name} has been disabled: the command is not allowed")
        return self.handlers.get(name, _nothing)(arguments)

    def _inform(self, _arguments: Arguments) -> object:
        commands = [
            {"name": name, "enabled": enabled, "success-response": name != "guest-shutdown"}
            for name, enabled in self.supported.items()
        ]
        return {"version": self.version, "supported_commands": commands}

    async def _send(self, writer: asyncio.StreamWriter, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
            while piece == PAUSE and _unread(writer):  # noqa: ASYNC110 - the kernel tells nobody
                await asyncio.sleep(0.001)


def line_of(message: object) -> bytes:
    """A message as the agent writes it."""
    return json.dumps(message).encode() + b"\n"


def error_line(error_class: str, description: str, **extra: object) -> bytes:
    """An answer that is an error."""
    return line_of({"error": {"class": error_class, "desc": description}, **extra})


def _echo(arguments: Arguments) -> object:
    return arguments["id"]


def _nothing(_arguments: Arguments) -> object:
    return {}


def _unread(writer: asyncio.StreamWriter) -> int:
    if writer.transport.is_closing():
        raise HangUp
    unread = array.array("i", [0])
    fcntl.ioctl(writer.get_extra_info("socket").fileno(), _SIOCOUTQ, unread)
    return unread[0]


# --- manners


def honest(_name: str, answer: bytes) -> Iterator[bytes]:
    """As it should be."""
    yield answer


def silent(_name: str, _answer: bytes) -> Iterator[bytes]:
    """Never a word, to a synchronisation neither."""
    yield from ()


def mute(name: str, answer: bytes) -> Iterator[bytes]:
    """Answers synchronisations, and nothing else."""
    if name in SYNCS:
        yield answer


def twice(_name: str, answer: bytes) -> Iterator[bytes]:
    """Every answer, in one piece with itself."""
    yield answer * 2


def wrong_sync(name: str, answer: bytes) -> Iterator[bytes]:
    """Another number than it was given, for ever."""
    yield SENTINEL + line_of({"return": 1}) if name in SYNCS else answer


def split(_name: str, answer: bytes) -> Iterator[bytes]:
    """The sentinel alone, then the message in two pieces; each is read for itself."""
    half = len(answer) // 2
    for piece in (answer[:1], answer[1:half], answer[half:]):
        yield from (piece, PAUSE)


def hanging_up(name: str, answer: bytes) -> Iterator[bytes]:
    """In the middle of the answer to a command."""
    if name not in SYNCS:
        yield from (answer[: len(answer) // 2], PAUSE)
        raise HangUp
    yield answer


def smuggle(name: str, answer: bytes) -> Iterator[bytes]:
    """An answer of its own invention to somebody else, before the good one."""
    if name not in SYNCS:
        yield line_of({"return": "smuggled", "id": "another"})
    yield answer


def before(*lines: bytes) -> Manners:
    """These lines before every answer, in one piece with it."""

    def manners(_name: str, answer: bytes) -> Iterator[bytes]:
        yield b"".join(lines) + answer

    return manners


def instead(*pieces: bytes) -> Manners:
    """These pieces for the answer to a command."""

    def manners(name: str, answer: bytes) -> Iterator[bytes]:
        yield from [answer] if name in SYNCS else pieces

    return manners


def flooding(piece: bytes) -> Manners:
    """The answer to a command, and then this, as fast as it is taken, until the client goes."""

    def manners(name: str, answer: bytes) -> Iterator[bytes]:
        yield answer
        if name not in SYNCS:
            yield from itertools.repeat(piece)

    return manners


DEEP = b"[" * 100_000 + b"\n"
ENDLESS = b'{"return": "' + b"x" * (11 * 1024 * 1024)
"""Without an LF."""

GARBAGE = {
    "words": b"login: no JSON at all\n",
    "blank": b"\n",
    "blanks": b" \t\r\n",
    "list": b'[{"return": {}}]\n',
    "number": b"5\n",
    "text": b'"return"\n',
    "null": b"null\n",
    "not UTF-8": b'{"return": "\xc3\x28"}\n',
    "UTF-16": '{"return": {}}'.encode("utf-16-le") + b"\n",
    "byte order mark": b'\xef\xbb\xbf{"return": {}}\n',
    "encoded surrogate": b'{"return": "\xed\xa0\x80"}\n',
    "NUL": b'{"return": "\0"}\n',
    "NULs": b"\0" * 1000 + b"\n",
    "not a number": b'{"return": NaN}\n',
    "5000 digits": b"9" * 5000 + b"\n",
    "half": b'{"return": {\n',
    "two on a line": b'{"return": {}}{"return": {}}\n',
    "deep": DEEP,
    "deep object": b'{"a":' * 100_000 + b"\n",
    "void": b'{"return": {}}' + SENTINEL + b"\n",
}
"""Lines that are no messages, one of each kind."""

NOISE = {
    "event": b'{"event": "SHUTDOWN", "data": {}}\n',
    "event like a reply": b'{"event": "SHUTDOWN", "return": 5, "id": "mine"}\n',
    "error without an id": error_line("GenericError", "JSON parse error, stray '\ufffd'"),
    "unknown id": b'{"return": {}, "id": "unknown"}\n',
    "id of 5000 digits": b'{"return": {}, "id": ' + b"9" * 5000 + b"}\n",
    "id that is a list": b'{"return": {}, "id": ["mine"]}\n',
    "neither return nor error": b'{"id": "mine"}\n',
    "greeting": b'{"QMP": {"version": {}, "capabilities": []}}\n',
    "empty": b"{}\n",
}
"""Messages that are no answers."""
