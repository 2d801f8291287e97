"""Another host's daemon over a real broker: answers, problems, versions, and every way in which there is no answer."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import pytest

from sidecar.api.operations import OPERATIONS
from sidecar.api.problems import ProblemError
from sidecar.bus import caller, line
from sidecar.bus.caller import Caller
from sidecar.bus.endpoints import SKEW_S
from sidecar.bus.line import BusAccess, BusLine
from sidecar.client import Client, request
from sidecar.errors import DaemonUnreachableError, VersionCapError
from tests.broker import Broker
from tests.bus.conftest import BusVhost
from tests.bus.far_host import LIMIT_S, FarHost, access
from tests.bus.permissions import ADMIN, READER
from tests.client.samples import ANSWERS, EVENT
from tests.lab.waiting import wait_for

ARGUMENTS: dict[str, Any] = {
    "domain": "vm 1/ü",
    "channel": "c",
    "message": "m",
    "arguments": {"a": [1.5, None, {"ü": "\u202e"}]},
    "timeout": 2.5,
    "for": "lost",
    "offer": {"hostname": "gamma"},
    "host": "gamma",
    "version": "1.1",
}
# Less than any operation has, and enough for a machine that is busy.
SOON_S = 10.0


@pytest.fixture(autouse=True)
def found(vhost: BusVhost, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Caller]]:
    """Every way that a test looked for; none to its vhosts is left to look for them for ever when they are gone."""
    made: list[Caller] = []
    ours: set[Caller] = set()

    def find(topic: str, url: str, options: Any) -> Caller:
        one = caller.find_caller(topic, url, options)
        made.append(one)
        if vhost.name in url:
            ours.add(one)
        return one

    monkeypatch.setattr(line, "find_caller", find)
    yield made
    vhost.broker.run()
    futures.wait([one._attempt for one in ours if one._attempt is not None], LIMIT_S)
    for one in ours:
        with contextlib.suppress(Exception):
            one._transport.cleanup()
    caller.find_caller.cache_clear()


@pytest.fixture
def beta(tmp_path: Path, vhost: BusVhost) -> Iterator[FarHost]:
    host = FarHost(tmp_path, vhost)
    try:
        host.begin()
        yield host
    finally:
        host.rig.end()


@pytest.fixture
def client(vhost: BusVhost) -> Client:
    return Client(line=BusLine("beta", access(vhost)))


def expect_unreachable(client: Client, *words: str, within_s: float = SOON_S) -> None:
    """Also for what changes something: then nothing was sent."""
    for call in (client.host, lambda: client.send("vm1", "m")):
        begun = time.monotonic()
        with pytest.raises(DaemonUnreachableError) as caught:
            call()
        assert time.monotonic() - begun < within_s
        assert all(word in str(caught.value) for word in ("beta (over the bus)", *words)), str(caught.value)
        assert "\n" not in str(caught.value)
        assert not client.documents.has_sent


def test_every_operation_arrives_with_its_arguments(beta: FarHost, client: Client) -> None:
    for operation in OPERATIONS.values():
        if operation.streams:
            continue
        given = {argument.name: ARGUMENTS[argument.name] for argument in operation.arguments}
        answer = client.documents.request(operation.name, **given)
        assert answer == {"operation": operation.name, "arguments": given, "version": str(operation.since)}
        assert client.documents.has_sent is operation.changes
    client.documents.request("doctor", domain=None)
    assert beta.calls[-1]["arguments"] == {}


def test_a_problem_is_the_hosts_own_words(beta: FarHost, client: Client) -> None:
    problem = {"code": "version-too-low", "detail": "needs 3", "extra": {"required": "3", "agreed": "1"}}
    beta.answer = lambda call: {"problem": problem}
    for call in (client.host, lambda: client.send("vm1", "m")):
        with pytest.raises(ProblemError) as caught:
            call()
        found = caught.value.problem
        assert (found.code, found.detail, dict(found.extra)) == ("version-too-low", "needs 3", problem["extra"])
        assert str(caught.value) == "needs 3"


def test_what_is_no_json_is_not_sent(beta: FarHost, client: Client) -> None:
    for value in (float("nan"), object()):
        with pytest.raises(ProblemError, match="no JSON") as caught:
            client.send("vm1", "m", {"a": value})
        assert caught.value.problem.code == "bad-request"
    assert not beta.calls


def test_an_answer_of_another_shape(beta: FarHost, client: Client) -> None:
    beta.answer = lambda call: {"result": 3}
    with pytest.raises(DaemonUnreachableError, match=r"beta .*another shape"):
        client.host()
    with pytest.raises(ProblemError, match="nobody knows") as caught:
        client.send("vm1", "m")
    assert caught.value.problem.code == "bad-reply"


class TestWait:
    """A host grants only so long at a time."""

    PROBLEMS = ({"code": "not-in-time", "detail": "not yet"}, {"code": "domain-not-found", "detail": "not here"})

    @pytest.fixture(autouse=True)
    def _hurry(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(line, "POLL_S", 0.2)

    @pytest.mark.parametrize("problem", PROBLEMS)
    def test_it_is_asked_again(self, beta: FarHost, client: Client, problem: Any) -> None:
        def answer(call: Any) -> dict[str, Any]:
            if len(beta.calls) > 2:
                return {"result": call["arguments"]}
            threading.Event().wait(line.POLL_S)  # as the host does
            return {"problem": problem}

        beta.answer = answer
        assert client.documents.request("wait", domain="vm1", timeout=60.0) == {"domain": "vm1", "timeout": line.POLL_S}
        assert len(beta.calls) == 3

    @pytest.mark.parametrize("problem", PROBLEMS)
    def test_until_its_own_time_is_over(self, beta: FarHost, client: Client, problem: Any) -> None:
        def answer(call: Any) -> dict[str, Any]:
            threading.Event().wait(call["arguments"]["timeout"])
            return {"problem": problem}

        beta.answer = answer
        begun = time.monotonic()
        with pytest.raises(ProblemError, match=problem["detail"]):
            client.documents.request("wait", domain="vm1", timeout=1.0)
        assert time.monotonic() - begun > 0.8
        assert 2 <= len(beta.calls) <= 6

    @pytest.mark.parametrize("problem", [*PROBLEMS, {"code": "channel-not-found", "detail": "none"}])
    def test_a_refusal_is_not_repeated(
        self, beta: FarHost, client: Client, problem: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(line, "POLL_S", 20.0)
        beta.answer = lambda call: {"problem": problem}
        with pytest.raises(ProblemError, match=problem["detail"]):
            client.documents.request("wait", domain="vm1", timeout=60.0)
        assert [call["arguments"]["timeout"] for call in beta.calls] == [20.0]


def test_a_host_that_stood_still_does_not_do_what_nobody_waits_for(
    beta: FarHost, vhost: BusVhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request, "ANSWER_MARGIN_S", 0.5)
    quick = Client(line=BusLine("beta", access(vhost)))
    os.kill(beta.rig.process.pid, signal.SIGSTOP)
    with pytest.raises(ProblemError, match="nobody knows whether it ran"):
        quick.send("vm1", "m", timeout_s=0.5)
    begun = time.monotonic()
    wait_for(lambda: time.monotonic() - begun > SKEW_S, LIMIT_S, "it to be late for the host, too")
    os.kill(beta.rig.process.pid, signal.SIGCONT)
    # What comes after it is served.
    answer = quick.documents.request("renegotiate", domain="vm1")
    assert answer["operation"] == "renegotiate"
    assert [call["operation"] for call in beta.calls] == ["renegotiate"]
    assert beta.calls[0]["deadline"] > time.monotonic()


class TestVersions:
    def test_an_older_host_refuses_in_the_usual_words(self, tmp_path: Path, vhost: BusVhost, client: Client) -> None:
        old = FarHost(tmp_path, vhost, version="1.1")
        try:
            old.begin()
            old.answer = lambda call: {"result": {"served": "1.1", "allowed": False}}
            assert client.wait("vm1") is not None
            words = r"^doctor came with version 1\.2 of the API; the daemon at beta \(over the bus\) serves 1\.1$"
            with pytest.raises(VersionCapError, match=words):
                client.doctor()
            with pytest.raises(VersionCapError, match=r"fleet_forget came with version 1\.3 .* serves 1\.1$"):
                client.fleet_forget("gamma")
            assert client.can_send_version("1.2") is False
            assert "doctor" not in [call["operation"] for call in old.calls]
        finally:
            old.rig.end()

    def test_under_a_cap(self, beta: FarHost, vhost: BusVhost) -> None:
        client = Client(line=BusLine("beta", access(vhost)), version_cap="1.1")
        assert client.documents.request("host")["version"] == "1.1"
        with pytest.raises(VersionCapError, match=r"above the cap 1\.1$"):
            client.fleet()
        assert [call["operation"] for call in beta.calls] == ["host"]


class TestNoAnswer:
    def test_nobody_of_this_name_is_told_at_once(self, vhost: BusVhost, client: Client) -> None:
        expect_unreachable(client, "nobody of this name", "is sidecard up there, with [bus]")

    def test_a_host_that_is_silent(self, beta: FarHost, client: Client, vhost: BusVhost, monkeypatch: Any) -> None:
        monkeypatch.setattr(request, "ANSWER_MARGIN_S", 0.5)
        client.host()
        os.kill(beta.rig.process.pid, signal.SIGSTOP)
        quick = Client(line=BusLine("beta", access(vhost), timeout_s=1.0))
        with pytest.raises(DaemonUnreachableError, match="no answer within 1 s"):
            quick.host()
        with pytest.raises(ProblemError, match=r"nobody knows whether it ran: beta .*no answer within 1 s") as caught:
            quick.send("vm1", "m", timeout_s=0.5)
        assert (caught.value.problem.code, caught.value.problem.kind.exit_code) == ("no-answer", 4)
        assert quick.documents.has_sent

    @pytest.mark.long
    def test_a_broker_that_is_down_and_back(
        self, beta: FarHost, client: Client, broker: Broker, monkeypatch: pytest.MonkeyPatch, found: list[Caller]
    ) -> None:
        monkeypatch.setattr(caller, "CONNECT_S", 1.0)
        client.host()
        broker.kill()
        expect_unreachable(client, "no connection to the message broker")
        expect_unreachable(client, "no connection to the message broker")
        assert len(set(found)) == 2, "each URL has one way, however often it is tried"
        broker.start()

        def answers() -> bool:
            with contextlib.suppress(DaemonUnreachableError):
                return bool(client.documents.request("host"))
            return False

        wait_for(answers, LIMIT_S, "the host to answer again")

    def test_a_broker_that_was_never_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(caller, "CONNECT_S", 0.5)
        url = "rabbit://reader:geheim@127.0.0.1:1/sidecar"
        client = Client(line=BusLine("beta", BusAccess(url, url)))
        expect_unreachable(client, "no connection to the message broker: [Errno 111]", within_s=5.0)
        with pytest.raises(DaemonUnreachableError):
            client.connect()

    def test_a_broker_that_hangs(
        self, beta: FarHost, client: Client, broker: Broker, vhost: BusVhost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(caller, "CONNECT_S", 1.0)
        client.host()
        broker.pause()
        try:
            expect_unreachable(client, "no connection to the message broker")
            newcomer = Client(line=BusLine("beta", BusAccess(vhost.url(ADMIN), vhost.url(READER))))
            expect_unreachable(newcomer, "no connection to the message broker")
        finally:
            broker.resume()


class TestRefusedByTheBroker:
    def test_a_reader_may_change_nothing(self, beta: FarHost, vhost: BusVhost) -> None:
        reader = vhost.url(READER)
        client = Client(line=BusLine("beta", BusAccess(reader, reader)))
        assert client.documents.request("host")["operation"] == "host"
        with pytest.raises(DaemonUnreachableError, match=r"refuses this user: .*403.*sidecar-admin") as caught:
            client.send("vm1", "m")
        assert "\n" not in str(caught.value)
        assert [call["operation"] for call in beta.calls] == ["host"]

    @pytest.mark.parametrize("wrong", ["password", "vhost"])
    def test_credentials_that_are_wrong(self, vhost: BusVhost, wrong: str) -> None:
        url = vhost.url(READER)
        secret = url.split(":")[2].split("@")[0]
        url = url.replace(f":{secret}@", ":geheim@") if wrong == "password" else f"{url}-none"
        client = Client(line=BusLine("beta", BusAccess(url, url)))
        expect_unreachable(client, "the message broker refuses this user: ", "403" if wrong == "password" else "530")
        with pytest.raises(DaemonUnreachableError) as caught:
            client.host()
        assert "geheim" not in str(caught.value)
        assert secret not in str(caught.value)


class Log:
    """A host's log of events, as the operation ``events`` has it."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.asked: list[Any] = []

    def answer(self, call: Any) -> dict[str, Any]:
        after, wait_s = call["arguments"]["after"], call["arguments"]["timeout"]
        self.asked.append((after, wait_s))
        if wait_s:
            self.count += 1  # it happens while it is waited for
        begin = -1 if after == "none" else int(after)
        return {"result": [EVENT | {"id": str(number)} for number in range(begin + 1, self.count)][:1000]}


class TestEvents:
    def test_from_now_on(self, beta: FarHost, client: Client) -> None:
        log = Log(1500)
        beta.answer = log.answer
        with client.events("vm1") as events:
            assert log.asked == [("none", 0.0), ("999", 0.0), ("1499", 0.0)], "what has happened is passed over"
            assert [next(events).id for _ in range(3)] == ["1500", "1501", "1502"]
        assert log.asked[3:] == [("1499", line.POLL_S), ("1500", line.POLL_S), ("1501", line.POLL_S)]
        assert all(call["arguments"]["domain"] == "vm1" for call in beta.calls)
        assert list(events) == []

    @pytest.mark.parametrize("after", ["3", "none"])
    def test_from_a_place_on(self, beta: FarHost, client: Client, after: str) -> None:
        beta.answer = Log(6).answer
        expected = [str(number) for number in range(4 if after == "3" else 0, 8)]
        with client.events(after=after) as events:
            assert [next(events).id for _ in expected] == expected

    def test_a_quiet_time(self, beta: FarHost, client: Client) -> None:
        answers: list[Any] = [[], [], [], [EVENT]]
        beta.answer = lambda call: {"result": answers.pop(0)}
        assert next(client.events()).document == EVENT

    def test_a_problem_later_ends_it(self, beta: FarHost, client: Client) -> None:
        answers: list[Any] = [{"result": []}, {"problem": {"code": "too-many-connections", "detail": "later"}}]
        beta.answer = lambda call: answers.pop(0)
        events = client.events()
        with pytest.raises(ProblemError, match="later"):
            next(events)
        assert list(events) == []

    @pytest.mark.parametrize("nonsense", [3, [3], [{}], [EVENT | {"id": 1}]])
    def test_what_is_no_event(self, beta: FarHost, client: Client, nonsense: Any) -> None:
        beta.answer = lambda call: {"result": nonsense}
        with pytest.raises(DaemonUnreachableError, match="no answer of sidecard's"):
            client.events()

    def test_a_host_that_goes_away(
        self, beta: FarHost, client: Client, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(caller, "CONNECT_S", 1.0)
        beta.answer = Log(3).answer
        events = client.events()
        assert next(events).id == "3"
        broker.kill()
        with pytest.raises(DaemonUnreachableError):
            next(events)
        assert list(events) == []


def test_the_samples_are_what_comes(beta: FarHost, client: Client) -> None:
    beta.answer = lambda call: {"result": ANSWERS["GET /v1/fleet?timeout=5.0"]}
    assert [host.hostname for host in client.fleet().hosts] == ["beta", "gamma"]
