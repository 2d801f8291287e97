"""The process's end of the link, over real pipes, with the test as the daemon."""

import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from sidecar.api.link import Word
from sidecar.api.problems import ProblemCode, ProblemError
from sidecar.bus import link_end
from sidecar.bus.link_end import CALL_LIMIT_BYTES, LinkEnd, Receiver, is_document

LIMIT_S = 20.0


class Pipes:
    """The link: what the daemon writes and reads."""

    def __init__(self) -> None:
        incoming, to_bus = os.pipe()
        from_bus, outgoing = os.pipe()
        self.to_bus, self.from_bus = os.fdopen(to_bus, "wb", buffering=0), os.fdopen(from_bus, "rb")
        self._incoming, self._outgoing = os.fdopen(incoming, "rb"), os.fdopen(outgoing, "wb")
        self.link = LinkEnd(self._incoming, self._outgoing)
        self.threads = ThreadPoolExecutor()

    def say(self, word: str, **values: Any) -> None:
        self.to_bus.write(json.dumps({"word": word, **values}).encode() + b"\n")

    def read(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.from_bus.readline())
        return document

    def run(self, **receivers: Receiver) -> "Future[int]":
        return self.threads.submit(self.link.run, {Word(word): receiver for word, receiver in receivers.items()})

    def call(self, operation: str, timeout_s: float = LIMIT_S, **arguments: Any) -> "Future[Any]":
        return self.threads.submit(self.link.call, operation, arguments, "1.3", timeout_s)

    def close(self) -> None:
        self.to_bus.close()
        self.threads.shutdown()
        self.from_bus.close()
        self._incoming.close()
        with suppress(BrokenPipeError):
            self._outgoing.close()


@pytest.fixture
def pipes() -> Iterator[Pipes]:
    made = Pipes()
    yield made
    made.close()


def test_begins(pipes: Pipes) -> None:
    pipes.say("begin", hostname="alpha", version="1.3")
    assert pipes.link.receive_begin() == {"hostname": "alpha", "version": "1.3"}


def test_a_daemon_that_ends_before_it_begins(pipes: Pipes) -> None:
    pipes.to_bus.close()
    assert pipes.link.receive_begin() is None


@pytest.mark.parametrize("line", [b'{"word":"event"}\n', b"[]\n", b"nonsense\n", b'{"word":"what"}\n', b"\xff\n"])
def test_another_beginning_is_refused(pipes: Pipes, line: bytes) -> None:
    pipes.to_bus.write(line)
    with pytest.raises(ValueError, match=r"."):
        pipes.link.receive_begin()


def test_words_go_to_their_receivers_in_order_until_the_daemon_ends(pipes: Pipes) -> None:
    came: list[Any] = []
    ended = pipes.run(event=came.append, offer=came.append)
    pipes.say("event", event=1)
    pipes.say("offer", offer=2)
    pipes.say("event", event=3)
    pipes.to_bus.write(b'{"word":"event","event":4')  # it died in the middle of a line
    pipes.to_bus.close()
    assert ended.result(LIMIT_S) == 0
    assert came == [{"event": 1}, {"offer": 2}, {"event": 3}]


@pytest.mark.parametrize("line", [b"rubbish\n", b'{"word":"ready"}\n', b'{"word":"answer"}\n', b'{"word":"event"}\n'])
def test_what_nobody_understands_ends_it(pipes: Pipes, line: bytes, caplog: pytest.LogCaptureFixture) -> None:
    ended = pipes.run(event=lambda values: values["event"])
    pipes.to_bus.write(line)
    assert ended.result(LIMIT_S) == 1
    assert "the daemon's line is none" in caplog.text


def test_a_line_that_is_too_long_ends_it(pipes: Pipes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_end, "LINE_LIMIT_BYTES", 100)
    ended = pipes.run()
    pipes.to_bus.write(b"x" * 101)
    assert ended.result(LIMIT_S) == 1


def test_sends_whole_lines_from_many_threads(pipes: Pipes) -> None:
    text = "x" * 30_000  # together more than a pipe holds
    sent = [pipes.threads.submit(pipes.link.send, Word.SEEN, offer=text) for _ in range(20)]
    assert [pipes.read() for _ in range(20)] == [{"word": "seen", "offer": text}] * 20
    assert [each.result(LIMIT_S) for each in sent] == [None] * 20


def test_answers_find_their_callers_whatever_their_order(pipes: Pipes) -> None:
    pipes.run()
    first, second = pipes.call("host"), pipes.call("show", domain="vm1")
    lines = {line["operation"]: line for line in (pipes.read(), pipes.read())}
    assert lines["show"] == {
        "word": "call",
        "id": lines["show"]["id"],
        "operation": "show",
        "arguments": {"domain": "vm1"},
        "version": "1.3",
        "deadline": lines["show"]["deadline"],
    }
    pipes.say(
        "answer", id=lines["show"]["id"], problem={"code": "domain-not-found", "detail": "no", "extra": {"a": "b"}}
    )
    pipes.say("answer", id=lines["host"]["id"], result={"hostname": "alpha"})
    assert first.result(LIMIT_S) == {"hostname": "alpha"}
    with pytest.raises(ProblemError) as caught:
        second.result(LIMIT_S)
    assert caught.value.problem.code == ProblemCode.DOMAIN_NOT_FOUND
    assert caught.value.problem.extra == {"a": "b"}


def test_an_answer_that_is_late_disturbs_nobody(pipes: Pipes) -> None:
    pipes.run()
    with pytest.raises(TimeoutError, match="host: the daemon does not answer"):
        pipes.call("host", timeout_s=0.01).result(LIMIT_S)
    pipes.say("answer", id=pipes.read()["id"], result=1)
    call = pipes.call("host")
    pipes.say("answer", id=pipes.read()["id"], result=2)
    assert call.result(LIMIT_S) == 2


def test_the_daemon_is_told_for_how_long_it_is_waited_for(pipes: Pipes) -> None:
    before = time.monotonic()
    pipes.run()
    call = pipes.call("send", timeout_s=12.0)
    line = pipes.read()
    assert before + 12.0 <= line["deadline"] <= time.monotonic() + 12.0
    pipes.say("answer", id=line["id"], result=1)
    assert call.result(LIMIT_S) == 1


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (float("nan"), ProblemCode.BAD_REQUEST),
        (float("inf"), ProblemCode.BAD_REQUEST),
        (b"bytes", ProblemCode.BAD_REQUEST),
        ("x" * CALL_LIMIT_BYTES, ProblemCode.TOO_LARGE),
    ],
)
def test_arguments_that_the_link_does_not_carry(pipes: Pipes, value: object, code: ProblemCode) -> None:
    with pytest.raises(ProblemError) as caught:
        pipes.link.call("show", {"domain": value}, "1.3", LIMIT_S)
    assert caught.value.problem.code == code


def test_calls_under_way_are_bounded(pipes: Pipes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_end, "CALLS_LIMIT", 2)
    pipes.run()
    calls = [pipes.call("host"), pipes.call("host")]
    numbers = [pipes.read()["id"] for _ in calls]
    with pytest.raises(ProblemError) as caught:
        pipes.link.call("host", {}, "1.3", LIMIT_S)
    assert caught.value.problem.code == ProblemCode.TOO_MANY_CONNECTIONS
    for number in numbers:
        pipes.say("answer", id=number, result=None)
    assert [call.result(LIMIT_S) for call in calls] == [None, None]
    again = pipes.call("host")
    pipes.say("answer", id=pipes.read()["id"], result=3)
    assert again.result(LIMIT_S) == 3


@pytest.mark.parametrize("value", [float("nan"), b"x", "x" * 100])
def test_what_the_link_does_not_carry_is_not_sent(pipes: Pipes, monkeypatch: pytest.MonkeyPatch, value: object) -> None:
    monkeypatch.setattr(link_end, "LINE_LIMIT_BYTES", 100)
    with pytest.raises(ValueError, match=r"."):
        pipes.link.send(Word.DONE, result=value)
    pipes.link.send(Word.DONE, result=1)
    assert pipes.read() == {"word": "done", "result": 1}


def test_a_daemon_that_reads_no_more_harms_nobody(pipes: Pipes) -> None:
    pipes.from_bus.close()
    sender = threading.Thread(target=pipes.link.send, args=(Word.STATUS,))
    sender.start()
    sender.join(LIMIT_S)
    assert not sender.is_alive()


def _nest(depth: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for _ in range(depth):
        made = {"a": made}
    return made


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": 1}, True),
        ({"a": "x" * 83}, False),
        ({"a": float("nan")}, False),
        ({"a": b""}, False),
        ([], False),
        (None, False),
        (_nest(5000), False),
    ],
)
def test_documents(value: object, expected: bool) -> None:
    assert is_document(value, 90) is expected
