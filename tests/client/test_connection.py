"""What becomes of a connection, and what each end of it means."""

import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sidecar.api.problems import ProblemError
from sidecar.client import Client, answers, connection, request
from sidecar.errors import DaemonUnreachableError, SocketForbiddenError
from tests.client.fake_daemon import HANG_UP, Call, FakeDaemon, Reply, problem, reply, serve
from tests.client.samples import HOST, SENT, answer_always, answer_well

HEAD = b"HTTP/1.1 200 OK\r\n"


def expect_unreachable(client: Client, words: str) -> None:
    with pytest.raises(DaemonUnreachableError, match=words):
        client.host()


def expect_nobody_knows(client: Client, code: str = "no-answer") -> None:
    with pytest.raises(ProblemError, match="nobody knows whether it ran") as caught:
        client.send("vm1", "guest-ping")
    assert (caught.value.problem.code, caught.value.problem.kind.exit_code) == (code, 4)


class TestNobodyThere:
    def test_no_socket(self, client: Client) -> None:
        expect_unreachable(client, "no such socket: is sidecard running")

    def test_a_socket_that_was_left_behind(self, client: Client, socket_path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(socket_path))
        expect_unreachable(client, "nobody listens on this socket any more: start sidecard")

    def test_a_file(self, client: Client, socket_path: Path) -> None:
        socket_path.touch()
        expect_unreachable(client, str(socket_path))

    def test_a_socket_of_another_kind(self, client: Client, socket_path: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.bind(str(socket_path))
            expect_unreachable(client, "not the daemon's socket")

    def test_a_path_that_is_too_long(self, tmp_path: Path) -> None:
        with Client(f"{tmp_path}/{'x' * 200}") as client:
            expect_unreachable(client, "too long")

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
    def test_a_socket_that_is_not_for_us(self) -> None:
        forbidden = pytest.raises(SocketForbiddenError, match="be root, or in the group libvirt")
        with tempfile.TemporaryDirectory() as directory, serve(Path(directory, "api.sock"), answer_well):
            Path(directory).chmod(0o755)
            Path(directory, "api.sock").chmod(0o600)
            os.seteuid(65534)
            try:
                with Client(f"{directory}/api.sock") as client, forbidden:
                    client.host()
            finally:
                os.seteuid(0)

    def test_a_daemon_that_takes_no_connection(self, socket_path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as other:
            listener.bind(str(socket_path))
            listener.listen(0)
            other.connect(str(socket_path))
            with Client(str(socket_path), timeout_s=0.1) as client:
                expect_unreachable(client, "does not take the connection")

    def test_nothing_changes_before_it_is_sent(self, client: Client) -> None:
        with pytest.raises(DaemonUnreachableError):
            client.send("vm1", "guest-ping")


class TestKeptConnection:
    def test_one_connection_for_all(self, client: Client, socket_path: Path) -> None:
        with serve(socket_path, answer_well) as daemon:
            for _ in range(3):
                client.host()
                with pytest.raises(ProblemError):
                    client.show("nobody")
            assert daemon.connections == 1

    @pytest.mark.parametrize("word", ["close", "Close"])
    def test_a_daemon_that_wants_one_each(self, client: Client, socket_path: Path, word: str) -> None:
        answered = reply(HOST, Connection=word)
        with serve(socket_path, lambda call: answered) as daemon:
            client.host()
            client.host()
            assert daemon.connections == 2

    def test_a_daemon_that_hung_up_meanwhile_is_called_again(self, client: Client, socket_path: Path) -> None:
        with serve(socket_path, answer_well) as daemon:
            client.host()
            daemon.hang_up()
            client.send("vm1", "guest-ping")
            assert (daemon.connections, len(daemon.calls)) == (2, 2)

    def test_a_daemon_that_was_restarted_meanwhile(self, client: Client, socket_path: Path) -> None:
        for _ in range(2):
            with serve(socket_path, answer_well):
                client.renegotiate("vm1")
            socket_path.unlink()

    def test_a_daemon_that_said_something_unasked_is_called_again(self, client: Client, socket_path: Path) -> None:
        with serve(socket_path, answer_well) as daemon:
            client.host()
            daemon.opened[0].sendall(reply({}, 408).content)
            assert client.host().hostname == "beta"
            assert daemon.connections == 2

    def test_what_reads_is_asked_once_more_when_the_daemon_hangs_up_on_it(
        self, client: Client, socket_path: Path
    ) -> None:
        with serve(socket_path, hang_up_on("host", 2)) as daemon:
            client.host()
            client.host()
            assert (daemon.connections, len(daemon.calls)) == (2, 3)

    def test_what_changes_is_never_sent_twice(self, client: Client, socket_path: Path) -> None:
        with serve(socket_path, hang_up_on("messages", 1)) as daemon:
            client.host()
            expect_nobody_knows(client)
            assert daemon.lines == ["GET /v1/host", "POST /v1/domains/vm1/messages/guest-ping"]

    def test_a_fresh_connection_is_no_reason_to_ask_again(self, client: Client, socket_path: Path) -> None:
        with serve(socket_path, lambda call: HANG_UP) as daemon:
            expect_unreachable(client, "hung up before it had answered")
            assert len(daemon.calls) == 1

    def test_a_daemon_that_is_gone_for_good(self, client: Client, socket_path: Path) -> None:
        with serve(socket_path, answer_well):
            client.host()
        expect_unreachable(client, "nobody listens")
        with pytest.raises(DaemonUnreachableError):
            client.send("vm1", "guest-ping")

    def test_an_answer_that_nobody_waited_for_is_not_the_next_ones(
        self, client: Client, socket_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(_: object) -> None:
            raise KeyboardInterrupt

        with serve(socket_path, answer_well) as daemon:
            client.host()
            with monkeypatch.context() as patched:
                patched.setattr(connection, "read_document", interrupt)
                with pytest.raises(KeyboardInterrupt):
                    client.show("vm1")
            assert client.list()[0].name == "vm1"
            assert daemon.connections == 2

    def test_connect_says_at_once_that_nobody_is_there(self, client: Client) -> None:
        with pytest.raises(DaemonUnreachableError):
            client.connect()


def hang_up_on(word: str, number: int) -> Callable[[Call], Reply]:
    """Answers well, but hangs up on the call of this number whose line has the word in it."""
    seen: list[str] = []

    def answer(call: Call) -> Reply:
        if word in call.line:
            seen.append(call.line)
            if len(seen) == number:
                return HANG_UP
        return answer_well(call)

    return answer


class TestBrokenAnswers:
    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            HEAD + b"Content-Length: 100\r\n\r\n{",
            HEAD + b"Content-Length: 99999999\r\n\r\n{}",
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{}",
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
            HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}xx\r\n0\r\n\r\n",
        ],
    )
    def test_cut_short(self, client: Client, socket_path: Path, content: bytes) -> None:
        with serve(socket_path, lambda call: Reply(content, closes=True)):
            expect_unreachable(client, "hung up before it had answered")
            expect_nobody_knows(client)

    @pytest.mark.parametrize(
        "content",
        [
            b"220 smtp.example ESMTP\r\n\r\n",
            b"HTTP/2 200 OK\r\n\r\n",
            b"\xff" * 100 + b"\n",
            b"HTTP/1.1 200 OK\r\nContent-Le",
            b"HTTP/1.1 OK\r\n\r\n",
            b"HTTP/1.1 102 Processing\r\n\r\n",
            HEAD + b"no colon\r\n\r\n",
            HEAD + b"Content-Length: 3\r\n\r\n{}{",
            HEAD + b"Content-Length: 2\r\n\r\n\xff\xfe",
            HEAD + b"\r\n" + b"[" * 100_000,
            HEAD + b"Sidecar-API-Version: one\r\nContent-Length: 2\r\n\r\n{}",
            b"HTTP/1.1 301 Moved\r\nContent-Length: 2\r\n\r\n{}",
            b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops",
            b'HTTP/1.1 500 Oops\r\nContent-Length: 10\r\n\r\n{"code":3}',
        ],
    )
    def test_nonsense(self, client: Client, socket_path: Path, content: bytes) -> None:
        with serve(socket_path, lambda call: Reply(content, closes=True)):
            expect_unreachable(client, "no answer of sidecard's")
            expect_nobody_knows(client, "bad-reply")

    @pytest.mark.parametrize("flood", [b"X" * 100_000, b"X: y\r\n" * 200, b"X: %b\r\n" % (b"y" * 100_000)])
    def test_a_flood_of_headers(self, client: Client, socket_path: Path, flood: bytes) -> None:
        with serve(socket_path, lambda call: Reply(HEAD + flood, closes=True)):
            expect_unreachable(client, "got more than")

    def test_what_came_is_quoted_in_part(self, client: Client, socket_path: Path) -> None:
        with serve(socket_path, lambda call: Reply(b"x" * 1000 + b"\n", closes=True)):
            expect_unreachable(client, "x{200};")

    @pytest.mark.parametrize("is_chunked", [True, False])
    def test_an_answer_without_end(
        self, client: Client, socket_path: Path, monkeypatch: pytest.MonkeyPatch, is_chunked: bool
    ) -> None:
        monkeypatch.setattr(answers, "BODY_LIMIT_BYTES", 1 << 20)
        framing = b"Transfer-Encoding: chunked\r\n\r\n" if is_chunked else b"\r\n"
        piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        with serve(socket_path, lambda call: Reply(HEAD + framing + piece * 20, closes=True)):
            expect_unreachable(client, "more than 1 MiB")
            expect_nobody_knows(client, "bad-reply")

    def test_it_is_called_again_after_nonsense(self, client: Client, socket_path: Path) -> None:
        contents = [Reply(b"hello\n"), reply(HOST)]
        with serve(socket_path, lambda call: contents.pop(0)) as daemon:
            expect_unreachable(client, "no answer")
            assert client.host().hostname == "beta"
            assert daemon.connections == 2


class TestGoodAnswers:
    BODY = b'{"hostname": "beta"}'

    @pytest.mark.parametrize(
        "head",
        [
            HEAD + b"Content-Length: 20\r\n\r\n",
            HEAD + b"content-length:20\n\n",
            b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"Content-Length: 20\r\n\r\n",
            b"HTTP/1.1 200\r\nContent-Length: 20\r\n\r\n",
            b"HTTP/1.0 200 OK\r\nContent-Length: 20\r\n\r\n",
            HEAD + b"\r\n",
        ],
    )
    def test_framed_as_servers_do(self, client: Client, socket_path: Path, head: bytes) -> None:
        with serve(socket_path, lambda call: Reply(head + self.BODY, closes=True)):
            assert client.documents.request("host") == {"hostname": "beta"}
            assert client.documents.request("host") == {"hostname": "beta"}

    def test_in_chunks(self, client: Client, socket_path: Path) -> None:
        chunks = b'5\r\n{"hos\r\n00F;x=y\r\ntname": "beta"}\r\n0\r\n\r\n'
        with serve(socket_path, lambda call: Reply(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)) as daemon:
            for _ in range(2):
                assert client.documents.request("host") == {"hostname": "beta"}
            assert daemon.connections == 1

    def test_large(self, client: Client, socket_path: Path) -> None:
        text = "x" * (8 << 20)
        with serve(socket_path, answer_always(SENT | {"reply": text})):
            assert client.send("vm1", "guest-ping").reply == text

    def test_a_large_request(self, client: Client, socket_path: Path) -> None:
        with serve(socket_path, answer_well) as daemon:
            client.send("vm1", "guest-ping", {"buf": "x" * (1 << 20)})
            assert len(daemon.calls[0].body) > 1 << 20


class TestRefusedAtTheDoor:
    """The daemon says no and hangs up before it has read what it is asked."""

    @pytest.fixture
    def door(self, socket_path: Path) -> Any:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(socket_path))
        listener.listen()
        with listener:
            yield listener

    @pytest.mark.parametrize("size", [0, 4 << 20])
    def test_its_words_are_heard(self, client: Client, door: socket.socket, size: int) -> None:
        client.connect()
        taken, _ = door.accept()
        with taken:
            taken.sendall(problem("too-many-connections", 503).content)
        # A kept connection on which something lies ready would be left; this one is as if just opened.
        sent = client._line
        sent.check = lambda: False  # type: ignore[method-assign]
        with pytest.raises(ProblemError) as caught:
            client.send("vm1", "guest-ping", {"buf": "x" * size})
        assert caught.value.problem.code == "too-many-connections"


class TestTime:
    def test_a_slow_daemon(self, socket_path: Path) -> None:
        with serve(socket_path, lambda call: None), Client(str(socket_path), timeout_s=0.1) as client:
            expect_unreachable(client, r"no answer within 0\.1 s")

    def test_a_daemon_that_falls_silent(self, socket_path: Path) -> None:
        begun = Reply(HEAD + b"Content-Length: 5\r\n\r\n{")
        with serve(socket_path, lambda call: begun), Client(str(socket_path), timeout_s=0.1) as client:
            expect_unreachable(client, r"no answer within 0\.1 s")

    def test_a_slow_daemon_that_was_sent_something(
        self, client: Client, socket_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(request, "ANSWER_MARGIN_S", 0.1)
        late = pytest.raises(ProblemError, match=r"no answer within 0\.2 s")
        with serve(socket_path, lambda call: None), late as caught:
            client.send("vm1", "guest-ping", timeout_s=0.1)
        assert caught.value.problem.code == "no-answer"

    def test_a_daemon_that_reads_nothing(self, socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(request, "ANSWER_MARGIN_S", 0.1)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(socket_path))
            listener.listen()
            with Client(str(socket_path)) as client, pytest.raises(ProblemError) as caught:
                client.send("vm1", "guest-ping", {"buf": "x" * (4 << 20)}, timeout_s=0.1)
        assert caught.value.problem.code == "no-answer"

    @pytest.mark.parametrize(
        ("name", "arguments", "expected_s"),
        [
            ("host", {}, 7.0),
            ("wait", {"domain": "d"}, 70.0),
            ("wait", {"domain": "d", "timeout": 3}, 13.0),
            ("send", {"domain": "d", "message": "m"}, 20.0),
            ("send", {"domain": "d", "message": "m", "timeout": "soon"}, 20.0),
            ("events", {}, 7.0),
        ],
    )
    def test_the_operations_own_time_and_some_more(
        self, name: str, arguments: dict[str, Any], expected_s: float
    ) -> None:
        from sidecar.api.operations import OPERATIONS
        from sidecar.api.versions import API_VERSION

        assert request.build_request(OPERATIONS[name], arguments, API_VERSION, 7.0).timeout_s == expected_s


def test_two_clients_at_a_time(socket_path: Path) -> None:
    with serve(socket_path, answer_well) as daemon, Client(str(socket_path)) as one, Client(str(socket_path)) as other:
        assert one.host() == other.host()
        assert daemon.connections == 2


def test_a_client_that_was_closed_can_go_on(client: Client, socket_path: Path) -> None:
    with serve(socket_path, answer_well) as daemon:
        client.host()
        client.close()
        client.close()
        client.host()
        assert daemon.connections == 2


def test_the_fake_daemon_leaves_its_socket(socket_path: Path) -> None:
    daemon = FakeDaemon(socket_path, answer_well)
    daemon.start()
    daemon.stop()
    assert socket_path.is_socket()
