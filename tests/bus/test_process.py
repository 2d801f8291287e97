"""The process as a whole: a real one, with the test as its daemon; mostly at a real broker."""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sidecar.api.link import Word
from sidecar.api.problems import ProblemCode, ProblemError
from sidecar.bus import oslo
from tests.broker import Broker
from tests.bus.bus_rig import TIMEOUT_S, BusRig, make_offer, make_summary
from tests.bus.conftest import BusVhost
from tests.bus.permissions import ADMIN, ADMIN_HOST, HOST, READER
from tests.lab.waiting import wait_for

# isort: split
import kombu
import oslo_messaging

# Every test starts processes.
pytestmark = pytest.mark.thorough

NOWHERE = "rabbit://host:secret@127.0.0.1:1/sidecar"

MakeRig = Callable[..., BusRig]


@pytest.fixture
def make_rig(tmp_path: Path) -> Iterator[MakeRig]:
    """Processes, begun; afterwards they are gone."""
    rigs: list[BusRig] = []

    def make(hostname: str = "alpha", url: str = NOWHERE, **section: Any) -> BusRig:
        rigs.append(BusRig(tmp_path, hostname, url, **section))
        rigs[-1].begin()
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.end()


@pytest.fixture
def alpha(make_rig: MakeRig, vhost: BusVhost) -> BusRig:
    """One host at the broker."""
    rig = make_rig("alpha", vhost.url(HOST))
    rig.wait_connected()
    return rig


@pytest.fixture
def beta(make_rig: MakeRig, vhost: BusVhost, alpha: BusRig) -> BusRig:
    """And another."""
    rig = make_rig("beta", vhost.url(HOST))
    rig.wait_connected()
    return rig


@contextmanager
def connect(url: str, topic: str, version: str = "1.0", hostname: str | None = None) -> Iterator[Any]:
    """A client of oslo.messaging's; undeliverable calls are told."""
    transport = oslo.make_rpc_transport(url, {})
    options = oslo_messaging.TransportOptions(at_least_once=True)
    made = oslo.make_target(topic, hostname, version)
    try:
        yield oslo_messaging.get_rpc_client(transport, made, timeout=TIMEOUT_S, transport_options=options)
    finally:
        transport.cleanup()


def make_event(number: int) -> dict[str, Any]:
    return {
        "id": f"abc-{number}",
        "time": "2026-11-21T07:31:38.440Z",
        "type": "daemon",
        "domain": None,
        "uuid": None,
        "details": {"what": "reloaded"},
    }


def measure_s(action: Callable[[], Any]) -> float:
    began_at = time.monotonic()
    action()
    return time.monotonic() - began_at


# Without a broker.


def test_lives_and_keeps_events_without_a_broker(make_rig: MakeRig) -> None:
    rig = make_rig()
    assert rig.heard(Word.READY) == [{"after": None}]
    for number in range(3):
        rig.say("event", event=make_event(number))
    rig.wait(lambda: rig.heard(Word.STATUS) and rig.heard(Word.STATUS)[-1]["waiting"] == 3, "three events")
    assert not rig.connected
    assert rig.close() == 0
    again = make_rig()
    assert again.heard(Word.READY) == [{"after": "abc-2"}]
    assert "secret" not in rig.log + again.log


@pytest.mark.parametrize(
    "values",
    [
        {"what": "call", "host": "beta", "operation": "host", "arguments": {}},
        {"what": "collect", "expected": ["beta"]},
        {"what": "forget", "hostname": "beta"},
    ],
)
def test_asks_fail_at_once_without_a_broker(make_rig: MakeRig, values: dict[str, Any]) -> None:
    rig = make_rig()
    began_at = time.monotonic()
    assert rig.ask(**values)["problem"]["code"] == ProblemCode.BUS_UNAVAILABLE
    assert time.monotonic() - began_at < 1.0


@pytest.mark.parametrize(
    "section",
    [{"url": "nonsense://user:secret@x/"}, {"oslo_messaging_rabbit": {"no_such_option": 1}}, {"url": "rabbit://x:y/z"}],
)
def test_a_wrong_configuration_loses_no_events(make_rig: MakeRig, section: dict[str, Any]) -> None:
    rig = make_rig(**section)
    rig.say("event", event=make_event(1))
    rig.wait(lambda: rig.heard(Word.STATUS) and rig.heard(Word.STATUS)[-1]["waiting"] == 1, "an event")
    assert "[bus]" in rig.log
    assert "secret" not in rig.log
    assert "Traceback" not in rig.log
    assert rig.close() == 0


def test_ends_with_the_daemon_at_once(make_rig: MakeRig) -> None:
    rig = make_rig()
    assert measure_s(lambda: rig.close()) < 1.0
    assert rig.process.returncode == 0


def test_ends_with_a_daemon_that_never_began(tmp_path: Path) -> None:
    rig = BusRig(tmp_path, "alpha", NOWHERE)
    assert rig.close() == 0
    rig.end()


@pytest.mark.parametrize(
    "line",
    [
        b"rubbish\n",
        b'{"word":"offer","offer":{}}\n',
        b'{"word":"begin"}\n',
        b'{"word":"begin","hostname":"a","version":"one","section":{}}\n',
        b'{"word":"begin","hostname":"a","version":"1.3","section":5}\n',
    ],
)
def test_a_wrong_beginning_is_one_line(tmp_path: Path, line: bytes) -> None:
    rig = BusRig(tmp_path, "alpha", NOWHERE)
    rig.say_raw(line)
    assert rig.process.wait(TIMEOUT_S) == 2
    assert len(rig.log.splitlines()) == 1
    rig.end()


def test_another_level_of_the_log(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.say("level", level="debug")
    rig.say("ask", id=1, what="nonsense")
    assert rig.process.wait(TIMEOUT_S) == 1
    rig = make_rig("beta")
    rig.say("level", level="critical")
    rig.say("ask", id=1, what="nonsense")
    assert rig.process.wait(TIMEOUT_S) == 1
    assert "the daemon's line" not in rig.log


def test_says_how_it_does_again_and_again(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.wait(lambda: len(rig.heard(Word.STATUS)) > 1, "a second word", 15.0)
    assert rig.heard(Word.STATUS)[0] == rig.heard(Word.STATUS)[-1]


def test_ends_over_what_is_no_word(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.say_raw(b'{"word":"what"}\n')
    assert rig.process.wait(TIMEOUT_S) == 1


def test_signals(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.process.send_signal(signal.SIGINT)
    assert rig.ask("collect", expected=[])["problem"]["code"] == ProblemCode.BUS_UNAVAILABLE
    rig.process.send_signal(signal.SIGTERM)
    assert rig.process.wait(TIMEOUT_S) == 0


def test_what_is_printed_goes_to_the_log() -> None:
    script = (
        "from sidecar.bus.process import _take_link; import os; incoming, outgoing = _take_link(); print('printed', "
        "flush=True); os.system('echo echoed; cat'); outgoing.write(incoming.readline()); outgoing.flush()"
    )
    done = subprocess.run([sys.executable, "-c", script], input=b"line\n", capture_output=True, timeout=TIMEOUT_S)
    assert (done.stdout, done.returncode) == (b"line\n", 0)
    assert b"printed" in done.stderr
    assert b"echoed" in done.stderr


def test_nothing_patches_the_standard_library() -> None:
    script = (
        "import sys, threading, socket; from sidecar.bus import process, oslo, line;"
        f"oslo.make_rpc_transport({NOWHERE!r}, {{}});"
        "assert sys.modules['eventlet'] is None;"
        "assert not [name for name in sys.modules if name.startswith(('greenlet', 'eventlet.', 'gevent'))];"
        "assert threading.Thread.__module__ == 'threading' and socket.socket.__module__ == 'socket'"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, timeout=TIMEOUT_S)


# At a broker.


@pytest.mark.parametrize("version", ["1.0", "1.3"])
def test_serves_what_reads(alpha: BusRig, vhost: BusVhost, version: str) -> None:
    with connect(vhost.url(READER), oslo.READING, version, hostname="alpha") as client:
        result = client.call({}, "show", domain="vm1")
    call = alpha.heard(Word.CALL)[-1]
    assert (call["operation"], call["arguments"], call["version"]) == ("show", {"domain": "vm1"}, version)
    assert result == {"host": "alpha", **call}


def test_problems_and_refusals_are_told_apart(alpha: BusRig, vhost: BusVhost) -> None:
    problem = {"code": "domain-not-found", "detail": "no domain 'x'", "extra": {"reason": "none"}}
    alpha.serve = lambda call: {"problem": problem}
    with connect(vhost.url(READER), oslo.READING, hostname="alpha") as client:
        with pytest.raises(ProblemError) as caught:
            client.call({}, "show", domain="x")
        assert caught.value.problem.code == ProblemCode.DOMAIN_NOT_FOUND
        assert dict(caught.value.problem.extra) == {"reason": "none"}
        with pytest.raises(ProblemError) as caught:
            client.call({}, "show", domain=math.nan)
        assert caught.value.problem.code == ProblemCode.BAD_REQUEST
        with pytest.raises(oslo_messaging.RemoteError) as refused:
            client.call({}, "renegotiate", domain="x")
        assert refused.value.exc_type == "NoSuchMethod"
        with pytest.raises(oslo_messaging.RemoteError) as refused:
            client.prepare(version="1.9").call({}, "show", domain="x")
        assert refused.value.exc_type == "UnsupportedVersion"


def test_serves_what_changes_something_only_when_told_to(make_rig: MakeRig, alpha: BusRig, vhost: BusVhost) -> None:
    careful = make_rig("careful", vhost.url(HOST), admin_url=vhost.url(ADMIN_HOST))
    careful.wait_connected()
    bold = make_rig("bold", vhost.url(HOST), admin=True, admin_url=vhost.url(ADMIN_HOST))
    wait_served(vhost, bold)
    with connect(vhost.url(ADMIN), oslo.ADMIN) as client:
        assert client.prepare(server="bold").call({}, "send", domain="vm1", message="x")["operation"] == "send"
        for name in ("careful", "alpha"):
            with pytest.raises(oslo_messaging.MessageUndeliverable):
                client.prepare(server=name).call({}, "send", domain="vm1", message="x")
        with pytest.raises(oslo_messaging.RemoteError):
            client.prepare(server="bold").call({}, "show", domain="vm1")


def wait_served(vhost: BusVhost, rig: BusRig) -> None:
    """Until the queue of the host's admin door is there."""
    name = f"{oslo.ADMIN}.{rig.hostname}"
    wait_for(lambda: name in vhost.broker.queues(vhost.admin_name), TIMEOUT_S, "the admin door")


def test_hosts_know_and_ask_each_other(alpha: BusRig, beta: BusRig) -> None:
    alpha.wait(lambda: {"offer": make_offer("beta")} in alpha.heard(Word.SEEN), "beta's offer")
    beta.wait(lambda: {"offer": make_offer("alpha")} in beta.heard(Word.SEEN), "alpha's offer")
    assert alpha.ask("collect", expected=["beta"])["result"] == [make_summary("beta")]
    answer = alpha.ask("call", host="beta", operation="preflight", arguments={"domain": "x"})["result"]
    assert (answer["host"], answer["operation"], answer["version"]) == ("beta", "preflight", "1.2")
    nobody = alpha.ask("call", host="nobody", operation="host", arguments={})
    assert nobody["problem"]["code"] == ProblemCode.HOST_UNREACHABLE
    assert alpha.ask("forget", hostname="gamma")["result"] is None
    assert alpha.heard(Word.FORGOTTEN) == [{"hostname": "gamma"}]
    beta.wait(lambda: beta.heard(Word.FORGOTTEN) == [{"hostname": "gamma"}], "forgetting")


def test_a_host_that_does_not_answer(alpha: BusRig, beta: BusRig) -> None:
    beta.process.send_signal(signal.SIGSTOP)
    began_at = time.monotonic()
    silent = alpha.ask("call", host="beta", operation="host", arguments={}, timeout_s=1.0)
    assert silent["problem"]["code"] == ProblemCode.HOST_UNREACHABLE
    assert alpha.ask("collect", expected=["beta"], timeout_s=1.0)["result"] == []
    assert time.monotonic() - began_at < 6.0


def test_a_host_with_an_older_bridge_answers_all_the_same(alpha: BusRig, beta: BusRig) -> None:
    problem = {"code": "unsupported-version", "detail": "summary needs 1.3", "extra": {}}
    beta.serve = lambda call: {"problem": problem}
    wanted = {"host": make_offer("beta"), "guests": None, "oldest": {}}
    assert alpha.ask("collect", expected=["beta"])["result"] == [wanted]


def test_an_offer_that_is_not_announced_is_told_who_comes(make_rig: MakeRig, alpha: BusRig, vhost: BusVhost) -> None:
    alpha.say("offer", offer=make_offer("alpha", daemon="2"), announce=False)
    beta = make_rig("beta", vhost.url(HOST))
    beta.wait(lambda: {"offer": make_offer("alpha", daemon="2")} in beta.heard(Word.SEEN), "alpha's newest offer")


def test_tells_events(alpha: BusRig) -> None:
    for number in range(20):
        alpha.say("event", event=make_event(number))
    alpha.wait(
        lambda: alpha.heard(Word.STATUS)[-1] == {**alpha.heard(Word.STATUS)[-1], "waiting": 0, "notified": 20}, "all"
    )


@pytest.mark.long
def test_a_broker_that_comes_later(make_rig: MakeRig, vhost: BusVhost, broker: Broker) -> None:
    broker.kill()
    rig = make_rig("alpha", vhost.url(HOST))
    rig.say("event", event=make_event(1))
    assert rig.ask("collect", expected=[])["problem"]["code"] == ProblemCode.BUS_UNAVAILABLE
    broker.start()
    rig.wait_connected()
    assert rig.ask("collect", expected=[])["result"] == []
    rig.wait(lambda: rig.heard(Word.STATUS)[-1]["notified"] == 1, "the event")


@pytest.mark.long
def test_a_broker_that_dies_and_returns(alpha: BusRig, beta: BusRig, broker: Broker) -> None:
    broker.kill()
    assert alpha.ask("collect", expected=["beta"], timeout_s=1.0)["problem"]["code"] == ProblemCode.BUS_UNAVAILABLE
    lost = alpha.ask("call", host="beta", operation="host", arguments={}, timeout_s=1.0)
    assert lost["problem"]["code"] == ProblemCode.BUS_UNAVAILABLE
    alpha.wait_connected(False)
    broker.start()
    alpha.wait_connected()
    beta.wait(lambda: beta.connected, "connection")
    wanted = [make_summary("beta")]
    wait_for(lambda: alpha.ask("collect", expected=["beta"]).get("result") == wanted, 60.0, "beta's summary")
    # Of all that the libraries say, a line each, and ours.
    assert len(alpha.log.splitlines()) < 20
    assert "Traceback" not in alpha.log


def test_a_broker_that_hangs(alpha: BusRig, broker: Broker) -> None:
    broker.pause()
    began_at = time.monotonic()
    asks: list[dict[str, Any]] = [
        {"what": "call", "host": "beta", "operation": "host", "arguments": {}},
        {"what": "collect", "expected": ["beta"]},
        {"what": "forget", "hostname": "beta"},
    ]
    codes = [ProblemCode.BUS_UNAVAILABLE, ProblemCode.BUS_UNAVAILABLE, ProblemCode.OUTCOME_UNKNOWN]
    for values, code in zip(asks, codes, strict=True):
        assert alpha.ask(**values, timeout_s=1.0)["problem"]["code"] == code
    assert time.monotonic() - began_at < 3 * 1.5 + 2.0
    broker.resume()
    wait_for(lambda: "result" in alpha.ask("forget", hostname="gamma"), 60.0, "an answer")
    # Who had given up is not served now.
    assert {"hostname": "beta"} not in alpha.heard(Word.FORGOTTEN)


def test_ends_with_the_daemon_while_the_broker_hangs(alpha: BusRig, broker: Broker) -> None:
    broker.pause()
    for number in range(10):
        alpha.say("event", event=make_event(number))
        alpha.say("ask", id=number, what="call", host="x", operation="host", arguments={}, timeout_s=60.0)
    assert measure_s(lambda: alpha.close()) < 1.0


def test_a_user_that_is_refused_is_tried_again(make_rig: MakeRig, vhost: BusVhost, broker: Broker) -> None:
    rig = make_rig("alpha", vhost.url(READER))
    wait_for(lambda: "cannot be served" in rig.log, TIMEOUT_S, "a refusal")
    assert "Traceback" not in rig.log
    assert rig.ask("collect", expected=[])["problem"]["code"] == ProblemCode.BUS_UNAVAILABLE


def test_hostile_words_hurt_nobody(alpha: BusRig, beta: BusRig, vhost: BusVhost) -> None:
    alpha.wait(lambda: alpha.heard(Word.SEEN), "beta's offer")
    rubbish: tuple[Any, ...] = (None, 5, [], {}, math.nan, "x" * 10_000_000, {"hostname": "\x00"}, {"a": math.nan})
    with connect(vhost.url(HOST), oslo.FLEET) as client:
        everybody = client.prepare(fanout=True)
        for value in rubbish:
            everybody.cast({}, "announce", offer=value, answer_to=value, token=value)
            everybody.cast({}, "announce", offer={"hostname": "evil", "x": value})
            everybody.cast({}, "collect", id=value, reply_to=value)
            everybody.cast({}, "collected", id=value, summary=value)
            everybody.cast({}, "forget", hostname=value, token=value)
        everybody.cast({}, "no_such_method", a=1)
        everybody.prepare(version="7.0").cast({}, "ping")
    publish_raw(vhost, (b"", b"{", b"\xff\xfe", b"[]", b'"x"', b"{}", b'{"oslo.message": 5, "oslo.version": "2.0"}'))
    assert alpha.ask("collect", expected=["beta"])["result"] == [make_summary("beta")]
    assert alpha.ask("forget", hostname="last")["result"] is None
    assert alpha.heard(Word.FORGOTTEN) == [{"hostname": "last"}]
    assert all(values["offer"]["hostname"] in {"beta", "evil"} for values in alpha.heard(Word.SEEN))
    assert len(alpha.log.splitlines()) < 20
    assert "xxxxxxxxxx" not in alpha.log


def publish_raw(vhost: BusVhost, bodies: tuple[bytes, ...]) -> None:
    """What oslo.messaging would not send, to every host and to one."""
    url = vhost.url(HOST).replace("rabbit://", "amqp://")
    with kombu.Connection(url) as connection, connection.channel() as channel:  # type: ignore[attr-defined, no-untyped-call]
        for body in bodies:
            for content_type in ("application/json", "text/plain", "application/x-python-serialize"):
                for exchange, key in ((f"{oslo.FLEET}_fanout", ""), (oslo.FLEET, f"{oslo.FLEET}.alpha")):
                    message = channel.prepare_message(body, 0, content_type, "utf-8", {}, {"delivery_mode": 1})
                    channel.basic_publish(message, exchange, key)


def test_no_second_world_of_threads(alpha: BusRig) -> None:
    libraries = Path(f"/proc/{alpha.process.pid}/maps").read_text(encoding="utf-8")
    assert "greenlet" not in libraries
    assert len(os.listdir(f"/proc/{alpha.process.pid}/task")) < 30
