"""``sidecarctl events`` as a process: it follows, waits for a daemon that restarts, and ends when it is told to."""

import json
import os
import signal
import subprocess
import sys
import threading
from argparse import Namespace
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import pytest

from sidecar.api.events import EventType
from sidecar.cli import follow
from sidecar.client.event_stream import NO_EVENT_YET
from sidecar.engine.event_log import EventLog
from sidecar.errors import DaemonUnreachableError
from tests.client.fake_daemon import HANG_UP, Call, Reply, problem, serve, stream
from tests.client.samples import EVENT

pytestmark = pytest.mark.thorough

LIMIT_S = 20.0

FIRST, SECOND, THIRD = ({**EVENT, "id": f"a-{number}"} for number in (1, 2, 3))


class Follower:
    """A running ``sidecarctl events``."""

    def __init__(self, socket: Path, *arguments: str, stdout: int | IO[bytes] = subprocess.PIPE) -> None:
        command = [sys.executable, "-m", "sidecar.cli.main", "events", "--socket", str(socket), *arguments]
        self.process = subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True)
        # Nobody waits for ever, and what hangs is ended.
        self._timer = threading.Timer(LIMIT_S, self.process.kill)
        self._timer.start()

    def read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def complain(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.readline()

    def end(self, number: int | None = None) -> tuple[int, str]:
        """The exit code, and what is left on stderr."""
        if number is not None:
            self.process.send_signal(number)
        _, errors = self.process.communicate()
        return self.process.returncode, errors

    def discard(self) -> None:
        self._timer.cancel()
        if self.process.returncode is None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "api.sock"


@pytest.fixture
def followers() -> Iterator[list[Follower]]:
    started: list[Follower] = []
    yield started
    for follower in started:
        follower.discard()


def start(followers: list[Follower], *arguments: Any, **options: Any) -> Follower:
    follower = Follower(*arguments, **options)
    followers.append(follower)
    return follower


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_follows_until_it_is_told_to_end(path: Path, followers: list[Follower], number: int) -> None:
    with serve(path, lambda call: stream(FIRST, SECOND, closes=False)) as daemon:
        follower = start(followers, path, "vm1", "--after", "a-0")
        expected = "2026-11-21T07:31:38.440Z channel vm1 ovirt-guest-agent.0,agreed,3\n"
        assert [follower.read(), follower.read()] == [expected, expected]
        assert follower.end(number) == (0, "")
        assert daemon.lines == ["GET /v1/events?domain=vm1&after=a-0"]


def test_one_document_a_line(path: Path, followers: list[Follower]) -> None:
    newer = FIRST | {"mood": {"deep": ["\x1b", "\u202e"]}}
    with serve(path, lambda call: stream(newer, closes=False)):
        follower = start(followers, path, "--json")
        line = follower.read()
        assert line.isascii()
        assert json.loads(line) == newer
        assert follower.end(signal.SIGINT) == (0, "")


def test_a_daemon_that_restarts_is_waited_for_and_nothing_is_missed(path: Path, followers: list[Follower]) -> None:
    with serve(path, lambda call: stream(FIRST, SECOND, closes=False)):
        follower = start(followers, path, "--json")
        assert [json.loads(follower.read())["id"] for _ in range(2)] == ["a-1", "a-2"]
    said = follower.complain()
    assert said.startswith("sidecarctl: ")
    assert said.endswith("waiting for the daemon\n")
    path.unlink()
    with serve(path, lambda call: stream(THIRD, closes=False)) as daemon:
        assert json.loads(follower.read())["id"] == "a-3"
        assert daemon.lines == ["GET /v1/events?after=a-2"]
        # It said so once, however often it tried.
        assert follower.end(signal.SIGTERM) == (0, "")


def test_what_happens_during_an_outage_is_not_lost_when_nothing_had_happened_before(
    path: Path, followers: list[Follower]
) -> None:
    replies = [stream(), HANG_UP, stream(FIRST), stream(SECOND, closes=False)]
    with serve(path, lambda call: replies.pop(0)) as daemon:
        follower = start(followers, path, "--json")
        assert [json.loads(follower.read())["id"] for _ in range(2)] == ["a-1", "a-2"]
        afresh = "GET /v1/events?after=none"
        assert daemon.lines == ["GET /v1/events", afresh, afresh, "GET /v1/events?after=a-1"]
        assert follower.end(signal.SIGTERM)[0] == 0


def test_no_daemon_gives_out_the_id_that_stands_for_no_event_yet() -> None:
    log = EventLog(lambda: datetime.now(UTC))
    log.publish(EventType.ARRIVED, "vm1")
    follower = log.follow(NO_EVENT_YET)
    told = [follower.take(), follower.take()]
    assert [event and event.type for event in told] == [EventType.DAEMON, EventType.ARRIVED]


def test_a_daemon_that_is_full_for_a_moment(path: Path, followers: list[Follower]) -> None:
    replies = [stream(FIRST), problem("too-many-connections", 503), HANG_UP, stream(SECOND, closes=False)]

    def answer(call: Call) -> Reply:
        return replies.pop(0)

    with serve(path, answer):
        follower = start(followers, path, "--json")
        assert [json.loads(follower.read())["id"] for _ in range(2)] == ["a-1", "a-2"]
        code, errors = follower.end(signal.SIGINT)
        assert (code, errors.count("\n")) == (0, 1)


def test_a_daemon_that_refuses_later_ends_it(path: Path, followers: list[Follower]) -> None:
    replies = [stream(FIRST), problem("domain-not-found", 404, "no such domain")]
    with serve(path, lambda call: replies.pop(0)):
        code, errors = start(followers, path, "vm1").end()
    assert code == 1
    assert errors.endswith("sidecarctl: no such domain (domain-not-found)\n")


def test_nobody_there_at_first(path: Path, followers: list[Follower]) -> None:
    code, errors = start(followers, path).end()
    assert (code, errors.count("\n")) == (3, 1)


def test_a_daemon_that_is_too_old(path: Path, followers: list[Follower]) -> None:
    with serve(path, lambda call: problem("unknown-operation", 404, version="1.0")):
        code, errors = start(followers, path).end()
    assert code == 1
    assert "events came with version 1.1 of the API" in errors


def test_a_reader_that_goes_away_ends_it(path: Path, followers: list[Follower]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed, serve(path, lambda call: stream(FIRST, closes=False)):
        assert start(followers, path, stdout=closed).end() == (0, "")


def test_a_reader_that_goes_away_while_nothing_happens_ends_it(path: Path, followers: list[Follower]) -> None:
    reader, writer = os.pipe()
    with serve(path, lambda call: stream(FIRST, closes=False)):
        with os.fdopen(writer, "wb") as stdout:
            follower = start(followers, path, stdout=stdout)
        with os.fdopen(reader) as stdin:
            assert stdin.readline().endswith("\n")
        assert follower.end() == (0, "")


def test_nothing_rings_once_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter that takes its time to end has no handler any more, and SIGALRM would kill it."""

    def refuse(_options: object) -> None:
        assert signal.getitimer(signal.ITIMER_REAL) != (0.0, 0.0)
        raise DaemonUnreachableError("nobody is there")

    monkeypatch.setattr(follow, "_follow", refuse)
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGALRM)
    try:
        with pytest.raises(DaemonUnreachableError):
            follow.follow(Namespace())
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGALRM, before[1])
