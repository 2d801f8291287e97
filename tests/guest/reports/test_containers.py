import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sidecar.guest.reports import containers
from sidecar.guest.reports.bounds import LIST_LIMIT_BYTES
from sidecar.guest.reports.containers import CONTAINERS_LIMIT, report_containers

HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n"
DOCKER, PODMAN = "run/docker.sock", "run/podman/podman.sock"
WEB = {
    "Id": "c0ffee",
    "Names": ["/web", "/db/web"],
    "Image": "web:1",
    "Command": "run --fast",
    "Status": "Up 3 hours",
    "Labels": {"a": "b"},
}
TOLD = {
    "id": "c0ffee",
    "names": ["/web", "/db/web"],
    "image": "web:1",
    "command": "run --fast",
    "status": "Up 3 hours",
}

Start = Callable[..., "Engine"]


class Engine:
    """A container engine that says the given bytes to everyone, for ever if wanted, or nothing at all."""

    def __init__(self, path: Path, answer: bytes, *, repeat: bool = False, silent: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.requests: list[bytes] = []
        self._answer, self._repeat, self._silent = answer, repeat, silent
        self._ended = threading.Event()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(30)
        self._socket.close()

    def _serve(self) -> None:
        while not self._ended.is_set():
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            with peer:
                self._answer_to(peer)

    def _answer_to(self, peer: socket.socket) -> None:
        self.requests.append(peer.recv(4096))
        try:
            if self._silent:
                peer.recv(1)
                return
            peer.sendall(self._answer)
            while self._repeat and not self._ended.wait(0.01):
                peer.sendall(self._answer)
        except OSError:
            return


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def begin(answer: bytes | object, name: str = DOCKER, *, repeat: bool = False, silent: bool = False) -> Engine:
            said = answer if isinstance(answer, bytes) else HEAD + json.dumps(answer).encode()
            engine = Engine(tmp_path / name, said, repeat=repeat, silent=silent)
            stack.callback(engine.close)
            return engine

        yield begin


def test_containers_of_an_engine(start: Start, tmp_path: Path) -> None:
    engine = start([WEB])
    assert report_containers(tmp_path) == {"list": [TOLD]}
    assert engine.requests[0].startswith(b"GET /containers/json HTTP/1.0\r\n")
    assert engine.requests[0].endswith(b"\r\n\r\n")


@pytest.mark.parametrize("name", [DOCKER, "var/run/docker.sock", PODMAN])
def test_where_engines_listen(name: str, start: Start, tmp_path: Path) -> None:
    start([WEB], name)
    assert report_containers(tmp_path) == {"list": [TOLD]}


def test_both_engines(start: Start, tmp_path: Path) -> None:
    start([WEB])
    start([{**WEB, "Id": "decaf"}], PODMAN)
    assert report_containers(tmp_path) == {"list": [TOLD, {**TOLD, "id": "decaf"}]}


def test_one_engine_under_several_names_is_asked_once(start: Start, tmp_path: Path) -> None:
    engine = start([WEB], PODMAN)
    (tmp_path / "var").mkdir()
    (tmp_path / "var/run").symlink_to("../run")
    (tmp_path / DOCKER).symlink_to("podman/podman.sock")
    assert report_containers(tmp_path) == {"list": [TOLD]}
    assert len(engine.requests) == 1


def test_no_engine(tmp_path: Path) -> None:
    assert report_containers(tmp_path) == {"list": []}


def test_socket_of_a_stopped_engine(start: Start, tmp_path: Path) -> None:
    path = tmp_path / DOCKER
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert report_containers(tmp_path) == {"list": []}


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"Id": "x"}, {"id": "x", "names": [], "image": "", "command": "", "status": ""}),
        ({**WEB, "Names": "web"}, {**TOLD, "names": []}),
        ({**WEB, "Names": [1, "/web", None, {"x": 1}]}, {**TOLD, "names": ["/web"]}),
        ({**WEB, "Names": ["x"] * 100}, {**TOLD, "names": ["x"] * 16}),
        ({**WEB, "Command": ["run", 1, "--fast"]}, TOLD),
        ({**WEB, "Command": 7, "Image": None, "Status": ["Up"]}, {**TOLD, "command": "", "image": "", "status": ""}),
        ({**WEB, "Image": "x" * 5000}, {**TOLD, "image": "x" * 1024}),
        ({**WEB, "Command": ["x" * 1000] * 3}, {**TOLD, "command": "x" * 1000 + " " + "x" * 23}),
        ({**WEB, "Status": "\x00\ud800\x1b"}, {**TOLD, "status": "\ufffd\ufffd\ufffd"}),
    ],
)
def test_fields_that_are_not_as_documented(
    entry: object, told: dict[str, object], start: Start, tmp_path: Path
) -> None:
    start([entry])
    assert report_containers(tmp_path) == {"list": [told]}


@pytest.mark.parametrize("entry", [None, 1, "x", [], {}, {"Id": ""}, {"Id": 7}, {"Id": None}, {"id": "x"}])
def test_entry_that_is_none_costs_itself_alone(entry: object, start: Start, tmp_path: Path) -> None:
    start([entry, WEB, entry])
    assert report_containers(tmp_path) == {"list": [TOLD]}


def test_lists_are_bounded(start: Start, tmp_path: Path) -> None:
    start([{"Id": f"{number}"} for number in range(CONTAINERS_LIMIT + 1)])
    rows = report_containers(tmp_path)["list"]
    assert isinstance(rows, list)
    assert len(rows) == CONTAINERS_LIMIT


def test_bytes_are_bounded(start: Start, tmp_path: Path) -> None:
    start([{"Id": f"{number}", "Image": "\x01" * 150} for number in range(900)])
    rows = report_containers(tmp_path)["list"]
    assert isinstance(rows, list)
    assert 300 < len(rows) < 900
    assert len(json.dumps(rows)) <= LIST_LIMIT_BYTES + 2


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\r\n\r\n",
        b"garbage",
        HEAD[:-2],
        b"SSH-2.0-x\r\n\r\n[]",
        b"HTTP/1.0\r\n\r\n[]",
        b"HTTP/1.0 500 No\r\n\r\n[]",
        b"HTTP/1.1 301 \xff\r\nLocation: http://x\r\n\r\n",
        b"HTTP/1.0 2000 OK\r\n\r\n[]",
        HEAD,
        HEAD + b"{",
        HEAD + b"{}",
        HEAD + b"null",
        HEAD + b'[{"Id": "\xff"}]',
        HEAD + b"[" * 100_000,
        HEAD + b"[" + b"9" * 10_000 + b"]",
        HEAD + b"5\r\n[]\r\n0\r\n\r\n",  # chunks, which nobody asked for
    ],
)
def test_garbage_is_an_error(answer: bytes, start: Start, tmp_path: Path) -> None:
    start(answer)
    with pytest.raises(ValueError, match="a container engine"):
        report_containers(tmp_path)


def test_answer_without_an_end_is_an_error(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "_LIMIT_BYTES", 10_000)
    start(b"x" * 1000, repeat=True)
    with pytest.raises(OSError, match="more than 10000 bytes"):
        report_containers(tmp_path, 30)


@pytest.mark.parametrize("silent", [True, False])
def test_slow_answer_is_an_error(silent: bool, start: Start, tmp_path: Path) -> None:
    start(b"x", repeat=True, silent=silent)
    with pytest.raises(TimeoutError):
        report_containers(tmp_path, 0.2)


def test_engine_that_takes_no_more_callers(tmp_path: Path) -> None:
    path = tmp_path / DOCKER
    path.parent.mkdir()
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket(socket.AF_UNIX))
        full.bind(str(path))
        full.listen(0)
        first = stack.enter_context(socket.socket(socket.AF_UNIX))
        first.connect(str(path))
        with pytest.raises(OSError, match=r"."):
            report_containers(tmp_path, 0.2)


@pytest.mark.parametrize(("bad", "good"), [(DOCKER, PODMAN), (PODMAN, DOCKER)])
def test_one_engine_that_fails_does_not_cost_the_other(bad: str, good: str, start: Start, tmp_path: Path) -> None:
    start(b"garbage", bad)
    start([WEB], good)
    assert report_containers(tmp_path) == {"list": [TOLD]}


def test_file_in_the_sockets_place(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / DOCKER).write_text("no socket")
    assert report_containers(tmp_path) == {"list": []}
