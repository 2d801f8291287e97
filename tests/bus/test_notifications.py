"""Events on their way to a real broker that is killed, paused and started again: at least once, and in order."""

import itertools
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from sidecar.bus.notify_driver import make_notifier
from sidecar.bus.outbox import Outbox
from sidecar.bus.publisher import Publisher
from tests.bus.conftest import BusVhost
from tests.bus.notification_queue import Notification, delete_queue, open_channel, take_all
from tests.bus.permissions import HOST, LISTENER

TIMEOUT_S = 90.0
EVENTS = 500

# So that a broker that hangs is given up within the test's time.
OPTIONS = {"heartbeat_timeout_threshold": 2}


def make_event(number: int) -> dict[str, Any]:
    domain = f"guest-{number % 7}"
    return {
        "id": f"19aa-{number}",
        "time": f"2026-11-21T07:31:{number // 60 % 60:02}.{number % 1000:03}Z",
        "type": "arrived",
        "domain": domain,
        "uuid": None,
        "arrivals": number,
        "secret": "swordfish",
    }


class Sender:
    """A host's outbox and publisher."""

    def __init__(self, directory: Path, url: str, limit: int = 10_000, topics: Sequence[str] = ("notifications",)):
        self.changed = threading.Condition()
        self._outbox = Outbox(directory / "outbox.db", limit)
        self.publisher = Publisher(
            self._outbox, "alpha", lambda: make_notifier(url, OPTIONS, topics, "alpha"), self._change
        )
        self.publisher.start()

    def _change(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, TIMEOUT_S), self.publisher.status()

    def wait_sent(self, count: int) -> None:
        self.wait_for(lambda: self.publisher.status().notified >= count)

    def wait_empty(self) -> None:
        self.wait_for(lambda: self.publisher.status().waiting == 0)

    def append(self, numbers: range) -> None:
        for number in numbers:
            self.publisher.append(make_event(number))

    def end(self) -> None:
        assert self.publisher.stop(TIMEOUT_S)
        self._outbox.close()


@pytest.fixture
def make_sender(tmp_path: Path, vhost: BusVhost) -> Iterator[Callable[..., Sender]]:
    senders: list[Sender] = []

    def make(url: str | None = None, **more: Any) -> Sender:
        senders.append(Sender(tmp_path, url or vhost.url(HOST), **more))
        return senders[-1]

    yield make
    for sender in senders:
        sender.end()


def read_numbers(found: Sequence[Notification]) -> list[int]:
    return [notification.payload["arrivals"] for notification in found if "arrivals" in notification.payload]


def assert_at_least_once(numbers: Sequence[int], count: int, seams: int) -> None:
    """All of them, in order; what comes twice comes twice in a row, at so many places at most."""
    assert [number for number, _ in itertools.groupby(numbers)] == list(range(count))
    assert len(numbers) - count <= seams


def test_all_arrive_in_order(vhost: BusVhost, make_sender: Callable[..., Sender]) -> None:
    sender = make_sender()
    sender.append(range(EVENTS))
    sender.wait_empty()
    assert_at_least_once(read_numbers(take_all(vhost)), EVENTS, seams=0)


@pytest.mark.long
def test_a_broker_that_is_killed_twice(
    vhost: BusVhost, make_sender: Callable[..., Sender], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    sender = make_sender()
    sender.append(range(EVENTS // 2))
    for sent in (50, 150):
        sender.wait_sent(sent)
        vhost.broker.kill()
        sender.append(range(EVENTS // 2, EVENTS) if sent == 50 else range(0))
        vhost.broker.start()
    sender.wait_empty()
    found = take_all(vhost)
    assert_at_least_once(read_numbers(found), EVENTS, seams=2)
    by_id: dict[str, Mapping[str, Any]] = {}
    for notification in found:
        message = notification.message
        assert by_id.setdefault(message["message_id"], message["payload"]) == message["payload"]
    assert len(by_id) == EVENTS
    assert "swordfish" not in caplog.text
    ours = [record for record in caplog.records if record.name.startswith("sidecar.")]
    assert 2 <= len(ours) <= 8


@pytest.mark.parametrize("pause", ["short", "long"])
def test_a_broker_that_is_paused(
    vhost: BusVhost, make_sender: Callable[..., Sender], pause: str, caplog: pytest.LogCaptureFixture
) -> None:
    sender = make_sender()
    sender.append(range(EVENTS))
    sender.wait_sent(100)
    vhost.broker.pause()
    assert sender.publisher.status().waiting > 0
    if pause == "long":
        wait_for_line(caplog, "timed out")
    vhost.broker.resume()
    sender.wait_empty()
    assert_at_least_once(read_numbers(take_all(vhost)), EVENTS, seams=1)


def test_a_process_that_is_ended_in_the_middle(vhost: BusVhost, make_sender: Callable[..., Sender]) -> None:
    for count in (100, 250, 400):
        sender = make_sender()
        sender.append(range(count - 150, count) if count > 100 else range(100))
        sender.wait_sent(20)
        sender.end()
    sender = make_sender()
    sender.append(range(400, EVENTS))
    sender.wait_empty()
    assert_at_least_once(read_numbers(take_all(vhost)), EVENTS, seams=0)


def test_a_broker_that_comes_late(vhost: BusVhost, make_sender: Callable[..., Sender]) -> None:
    vhost.broker.kill()
    sender = make_sender(limit=100)
    sender.append(range(EVENTS))
    vhost.broker.start()
    sender.wait_empty()
    assert read_numbers(take_all(vhost))[-100:] == list(range(EVENTS - 100, EVENTS))
    [gap, *_] = take_all(vhost, "notifications.error")
    assert (gap.message["event_type"], gap.payload["host"]) == ("sidecar.daemon.dropped", "alpha")
    assert gap.payload["dropped"] == sender.publisher.status().dropped


def test_a_queue_that_was_deleted_loses_what_was_in_it_and_nothing_else(
    vhost: BusVhost, make_sender: Callable[..., Sender]
) -> None:
    sender = make_sender()
    sender.append(range(5))
    sender.wait_empty()
    delete_queue(vhost)
    sender.append(range(5, 10))
    sender.wait_empty()
    assert read_numbers(take_all(vhost)) == [5, 6, 7, 8, 9]


def test_a_queue_of_another_kind_keeps_the_events_until_it_is_gone(
    vhost: BusVhost, make_sender: Callable[..., Sender], caplog: pytest.LogCaptureFixture
) -> None:
    with open_channel(vhost) as channel:
        channel.queue_declare("notifications.info", durable=True, auto_delete=False, arguments={"x-max-length": 5})
    sender = make_sender()
    sender.append(range(10))
    wait_for_line(caplog, "PRECONDITION_FAILED")
    assert sender.publisher.status().waiting == 10
    delete_queue(vhost)
    sender.wait_empty()
    assert read_numbers(take_all(vhost)) == list(range(10))


def test_a_user_without_permission_keeps_the_events_until_he_has_it(
    vhost: BusVhost, make_sender: Callable[..., Sender], caplog: pytest.LogCaptureFixture
) -> None:
    sender = make_sender(vhost.url(LISTENER))
    sender.append(range(10))
    wait_for_line(caplog, "ACCESS_REFUSED")
    assert sender.publisher.status().waiting == 10
    sender.end()
    make_sender().wait_empty()
    assert read_numbers(take_all(vhost)) == list(range(10))
    assert "swordfish" not in caplog.text


def wait_for_line(caplog: pytest.LogCaptureFixture, text: str) -> None:
    """Until the log of ours has it."""
    heard = threading.Event()

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if text in record.getMessage():
                heard.set()

    ear = Ear()
    logging.getLogger("sidecar.bus.publisher").addHandler(ear)
    try:
        assert text in caplog.text or heard.wait(TIMEOUT_S)
    finally:
        logging.getLogger("sidecar.bus.publisher").removeHandler(ear)
