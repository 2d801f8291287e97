"""Notifications that the broker has, or an error; against what oslo.messaging is, and a real broker."""

import inspect
import logging
import queue
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import pytest

from sidecar.bus import notify_driver, oslo
from sidecar.bus.notify_driver import DRIVER, EXCHANGE, BusNotifier, NotifyDriver, make_notifier
from sidecar.bus.priorities import Priority
from sidecar.bus.publisher import NotTakenError
from sidecar.errors import ConfigurationError
from tests.bus.conftest import BusVhost
from tests.bus.notification_queue import delete_queue, open_channel, take_all
from tests.bus.permissions import HOST, LISTENER

# isort: split
# After ``oslo``, which says how it is imported.
import oslo_messaging
from oslo_messaging._drivers.amqpdriver import AMQPDriverBase
from oslo_messaging._drivers.impl_rabbit import Connection
from oslo_messaging.notify.messaging import MessagingV2Driver
from oslo_messaging.notify.notifier import Driver
from oslo_messaging.transport import Transport

TIMEOUT_S = 30.0
TOPICS = ("notifications",)

EVENT = {
    "id": "19aa-7",
    "time": "2026-11-21T07:31:38.440Z",
    "type": "arrived",
    "domain": "gäst \U0001f427 \udcff",
    "uuid": None,
    "host": "alpha",
    "secret": "swordfish",
}


class Sent:
    """In the place of the transport's private methods."""

    def __init__(self, fault: BaseException | None = None) -> None:
        self.messages: list[Mapping[str, Any]] = []
        self.targets: list[Any] = []
        self.fault = fault

    def __call__(self, target: Any, ctxt: Any, message: Mapping[str, Any], **more: Any) -> None:
        if self.fault is not None:
            raise self.fault
        self.messages.append(dict(message))
        self.targets.append(target)


@pytest.fixture
def notifier() -> BusNotifier:
    """On oslo.messaging's fake driver."""
    return make_notifier("fake://", {}, TOPICS, "alpha")


def send(notifier: BusNotifier, event: Mapping[str, Any] = EVENT, priority: Priority = Priority.INFO) -> None:
    notifier.notify("sidecar.arrived", priority, event)


def send_all(notifier: BusNotifier, count: int) -> None:
    for _ in range(count):
        send(notifier)


# What it leans on.


def test_the_private_methods_are_as_they_were() -> None:
    first = inspect.signature(Transport._send_notification)
    assert list(first.parameters) == ["self", "target", "ctxt", "message", "version", "retry"]
    others = inspect.signature(Transport._send)
    assert list(others.parameters) == [
        "self",
        "target",
        "ctxt",
        "message",
        "wait_for_reply",
        "timeout",
        "call_monitor_timeout",
        "retry",
        "transport_options",
    ]


def test_a_publication_waits_for_the_broker_to_confirm_it() -> None:
    assert "'confirm_publish': True" in inspect.getsource(Connection.__init__)


def test_it_is_a_driver_as_oslo_messaging_makes_them() -> None:
    for name in ("__init__", "notify"):
        theirs, ours = (inspect.signature(getattr(kind, name)) for kind in (Driver, NotifyDriver))
        assert list(ours.parameters) == list(theirs.parameters)


def test_both_ways_of_sending_make_one_format() -> None:
    """The stock driver's format 2.0 is what the other way of sending makes too: see ``_send`` there."""
    assert MessagingV2Driver(None, topics=[], transport=None).version == notify_driver._FORMAT
    source = inspect.getsource(AMQPDriverBase.send_notification)
    assert "envelope=(version == 2.0)" in source
    assert inspect.signature(AMQPDriverBase._send).parameters["envelope"].default is True


@pytest.mark.parametrize("method", ["_send_notification", "_send"])
def test_an_error_comes_out_of_the_notifier(
    notifier: BusNotifier, method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if method == "_send":
        monkeypatch.setattr(notifier._transport, "_send_notification", Sent())
        send(notifier)
    monkeypatch.setattr(notifier._transport, method, Sent(OSError("connection refused")))
    with pytest.raises(NotTakenError, match=r"^OSError: connection refused$"):
        send(notifier)
    assert caplog.text == ""


@pytest.mark.usefixtures("oslo_is_heard")
def test_a_stock_driver_would_have_said_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Why there is one of our own; when this fails, it may go."""
    transport = oslo.make_notification_transport("fake://", {})
    monkeypatch.setattr(transport, "_send_notification", Sent(OSError("connection refused")))
    stock = oslo_messaging.Notifier(transport, "sidecar.alpha", driver="messagingv2", topics=["notifications"])
    stock.info({}, "sidecar.arrived", EVENT)
    assert "swordfish" in caplog.text


def test_an_error_of_any_other_kind_shows_its_name_only(
    notifier: BusNotifier, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(notifier._transport, "_send_notification", Sent(ValueError("swordfish")))
    with pytest.raises(NotTakenError, match=r"^ValueError$"):
        send(notifier)
    assert caplog.text == ""


def test_a_driver_that_is_not_found_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """oslo.messaging's notifier would send nothing and be content."""
    monkeypatch.setattr(notify_driver, "DRIVER", "nobody")
    with pytest.raises(ConfigurationError, match="nobody"):
        make_notifier("fake://", {}, TOPICS, "alpha")
    assert DRIVER == "sidecar"


@pytest.mark.parametrize("url", ["no URL", "nobody://host"])
def test_a_url_that_is_none_is_an_error(url: str) -> None:
    with pytest.raises(ConfigurationError):
        make_notifier(url, {}, TOPICS, "alpha")


def test_a_repeat_has_the_same_id_and_another_event_has_another(
    notifier: BusNotifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, others = Sent(), Sent()
    monkeypatch.setattr(notifier._transport, "_send_notification", first)
    monkeypatch.setattr(notifier._transport, "_send", others)
    for event in (EVENT, EVENT, {**EVENT, "id": "19aa-8"}, {**EVENT, "time": "2026-11-21T07:31:38.441Z"}):
        send(notifier, event)
    assert len(first.messages) == 1
    once, again, *others_ids = (message["message_id"] for message in first.messages + others.messages)
    assert once == again
    assert len({once, *others_ids}) == 3


def test_each_topic_gets_it_in_the_queue_of_its_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    notifier = make_notifier("fake://", {}, ["notifications", "billing"], "alpha")
    sent = Sent()
    monkeypatch.setattr(notifier._transport, "_send_notification", sent)
    send(notifier, priority=Priority.WARN)
    assert [(target.exchange, target.topic) for target in sent.targets] == [
        (EXCHANGE, "notifications.warn"),
        (EXCHANGE, "billing.warn"),
    ]
    assert sent.messages[0] == sent.messages[1]


# With a broker.


@contextmanager
def connect(vhost: BusVhost, user: str | None = HOST, **options: Any) -> Iterator[BusNotifier]:
    url = vhost.broker.url(user, vhost.name)
    with closing(make_notifier(url, options, TOPICS, "alpha")) as notifier:
        yield notifier


class Endpoint:
    """A consumer of oslo.messaging's."""

    def __init__(self) -> None:
        self.received: queue.Queue[tuple[Any, ...]] = queue.Queue()

    def info(self, *received: Any) -> None:
        self.received.put(("info", *received))

    def warn(self, *received: Any) -> None:
        self.received.put(("warn", *received))

    def error(self, *received: Any) -> None:
        self.received.put(("error", *received))


@pytest.mark.parametrize("priority", Priority)
def test_a_listener_of_oslo_messaging_receives_it(vhost: BusVhost, priority: Priority) -> None:
    with connect(vhost) as notifier:
        send(notifier, priority=priority)
        send(notifier, {**EVENT, "id": "19aa-8"}, priority)
    endpoint = Endpoint()
    transport = oslo.make_notification_transport(vhost.url(LISTENER), {})
    target = oslo_messaging.Target(exchange=EXCHANGE, topic="notifications")
    listener = oslo_messaging.get_notification_listener(transport, [target], [endpoint])
    listener.start()
    try:
        first, second = (endpoint.received.get(timeout=TIMEOUT_S) for _ in range(2))
    finally:
        listener.stop()
        listener.wait()
        transport.cleanup()
    heard, _, publisher_id, event_type, payload, metadata = first
    assert (heard, publisher_id, event_type) == (priority, "sidecar.alpha", "sidecar.arrived")
    assert payload == EVENT
    assert set(metadata) == {"message_id", "timestamp"}
    assert second[4] == {**EVENT, "id": "19aa-8"}


def test_on_the_wire_it_is_format_2(vhost: BusVhost) -> None:
    with connect(vhost) as notifier:
        for number in range(2):  # the two ways of sending
            send(notifier, {**EVENT, "id": f"19aa-{number}"})
    found = take_all(vhost)
    assert len(found) == 2
    for notification in found:
        assert notification.delivery_mode == 2
        assert set(notification.envelope) == {"oslo.version", "oslo.message"}
        assert notification.envelope["oslo.version"] == "2.0"
        message = {key: value for key, value in notification.message.items() if not key.startswith("_")}
        assert set(message) == {"message_id", "publisher_id", "event_type", "priority", "payload", "timestamp"}
        assert (message["publisher_id"], message["priority"]) == ("sidecar.alpha", "INFO")


def test_nobody_need_have_listened_and_it_outlives_the_broker(vhost: BusVhost) -> None:
    with connect(vhost) as notifier:
        send(notifier)
        send(notifier, {**EVENT, "id": "19aa-8"})
        vhost.broker.kill()
    vhost.broker.start()
    assert [notification.payload["id"] for notification in take_all(vhost)] == ["19aa-7", "19aa-8"]


def test_a_broker_that_is_down_is_told(vhost: BusVhost, caplog: pytest.LogCaptureFixture) -> None:
    with connect(vhost) as notifier:
        send(notifier)
        vhost.broker.kill()
        for _ in range(2):
            with pytest.raises(NotTakenError, match="MessageDeliveryFailure"):
                send(notifier)
    with connect(vhost) as notifier, pytest.raises(NotTakenError, match="refused"):
        send(notifier)
    assert "swordfish" not in caplog.text
    vhost.broker.start()
    with connect(vhost) as notifier:
        send(notifier)
    assert len(take_all(vhost)) == 2


def test_a_broker_that_hangs_is_told_in_the_end(vhost: BusVhost) -> None:
    with connect(vhost, heartbeat_timeout_threshold=2) as notifier:
        send(notifier)
        vhost.broker.pause()
        with pytest.raises(NotTakenError, match="timed out"):
            send(notifier)
        vhost.broker.resume()


def test_a_queue_that_was_deleted_is_made_anew(vhost: BusVhost) -> None:
    with connect(vhost) as notifier:
        send(notifier)
        delete_queue(vhost)
        with pytest.raises(NotTakenError, match="the queue is gone"):
            send(notifier)
    with connect(vhost) as notifier:
        send(notifier)
    assert len(take_all(vhost)) == 1


def test_a_queue_with_other_arguments_is_told(vhost: BusVhost, caplog: pytest.LogCaptureFixture) -> None:
    with open_channel(vhost) as channel:
        channel.queue_declare("notifications.info", durable=True, auto_delete=False, arguments={"x-max-length": 5})
    with connect(vhost) as notifier, pytest.raises(NotTakenError, match="PRECONDITION_FAILED"):
        send(notifier)
    assert "swordfish" not in caplog.text


def test_a_queue_that_refuses_is_told(vhost: BusVhost) -> None:
    policy = '{"max-length": 1, "overflow": "reject-publish"}'
    vhost.broker.control("set_policy", "--vhost", vhost.name, "short", "^notifications", policy)
    with connect(vhost) as notifier:
        send(notifier)
        with pytest.raises(NotTakenError, match="MessageDeliveryFailure"):
            send_all(notifier, 3)  # the limit holds a moment late


def test_a_user_without_permission_is_told(vhost: BusVhost, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "sidecar")
    with connect(vhost, LISTENER) as notifier, pytest.raises(NotTakenError, match="ACCESS_REFUSED"):
        send(notifier)
    assert "swordfish" not in caplog.text


def test_a_wrong_password_is_told_and_not_shown(vhost: BusVhost, caplog: pytest.LogCaptureFixture) -> None:
    scheme, rest = vhost.url(HOST).split("://")
    user, place = rest.split(":", 1)[0], rest.split("@", 1)[1]
    notifier = make_notifier(f"{scheme}://{user}:hunter2@{place}", {}, TOPICS, "alpha")
    with closing(notifier), pytest.raises(NotTakenError, match="ACCESS_REFUSED") as caught:
        send(notifier)
    assert "hunter2" not in str(caught.value) + caplog.text
