"""The users of docs/bus.md can do on a real RabbitMQ what they are for, and nothing else."""

import queue
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

import amqp
import oslo_messaging
import pytest

from sidecar.bus.notify_driver import EXCHANGE, make_notifier
from sidecar.bus.oslo import ADMIN, FLEET, READING, make_notification_transport, make_rpc_transport, make_target
from sidecar.bus.priorities import Priority
from tests.bus.conftest import BusVhost
from tests.bus.permissions import ADMIN as ADMIN_USER
from tests.bus.permissions import ADMIN_HOST, HOST, LISTENER, READER

TIMEOUT_S = 10.0

# An action on a channel, by what it is called in the names of the tests.
ACTIONS: dict[str, Callable[[amqp.Channel, str], object]] = {
    "declare exchange": lambda channel, name: channel.exchange_declare(name, "topic", durable=True, auto_delete=False),
    "declare queue": lambda channel, name: channel.queue_declare(name, durable=True, auto_delete=False),
    "delete queue": lambda channel, name: channel.queue_delete(name),
    "write": lambda channel, name: channel.basic_publish_confirm(
        amqp.Message("x"), exchange=name.removeprefix("amq.default"), routing_key="x"
    ),
    "read": lambda channel, name: channel.basic_consume(name, callback=lambda _message: None),
}

REFUSED = [
    (READER, "declare exchange", "sidecar-fleet"),
    (READER, "declare exchange", "sidecar-fleet_fanout"),
    (READER, "declare exchange", "sidecar-admin"),
    (READER, "write", "sidecar-fleet"),
    (READER, "write", "sidecar-fleet_fanout"),
    (READER, "write", "sidecar_fanout"),
    (READER, "write", "amq.default"),
    (READER, "write", "sidecar-notifications"),
    (READER, "read", "sidecar.alpha"),
    (READER, "read", "sidecar-fleet.alpha"),
    (READER, "delete queue", "sidecar.alpha"),
    (READER, "declare queue", "sidecar.beta"),
    (READER, "declare exchange", "notifications.x"),
    (READER, "declare exchange", "sidecar-notifications"),
    (READER, "declare queue", "notifications.info"),
    (READER, "delete queue", "notifications.info"),
    (READER, "read", "notifications.info"),
    (LISTENER, "declare exchange", "sidecar"),
    (LISTENER, "declare queue", "sidecar.alpha"),
    (LISTENER, "declare queue", "reply_1"),
    (LISTENER, "write", "sidecar"),
    (LISTENER, "write", "sidecar-fleet"),
    (LISTENER, "write", "sidecar-notifications"),
    (LISTENER, "write", "amq.default"),
    (LISTENER, "read", "sidecar.alpha"),
    (LISTENER, "read", "reply_1"),
    (HOST, "declare exchange", "sidecar-admin"),
    (HOST, "declare queue", "sidecar-admin.alpha"),
    (HOST, "write", "amq.topic"),
    (HOST, "read", "notifications.info"),
    (ADMIN_USER, "write", "amq.default"),
    (ADMIN_USER, "read", "sidecar-admin.alpha"),
    (ADMIN_USER, "delete queue", "sidecar-admin.alpha"),
    (ADMIN_HOST, "declare exchange", "sidecar"),
    (ADMIN_HOST, "declare queue", "reply_1"),
]


class Served:
    """The methods that the tests call; keeps what came."""

    target = oslo_messaging.Target(version="1.0")

    def __init__(self) -> None:
        self.heard: queue.Queue[Any] = queue.Queue()

    def host(self, _context: object, **arguments: Any) -> Any:
        """Answers with what it was given."""
        return arguments

    def announce(self, _context: object, **arguments: Any) -> None:
        """Fleet talk."""
        self.heard.put(arguments)

    def info(self, _context: object, _publisher: str, event: str, payload: Any, _metadata: object) -> None:
        """A notification."""
        self.heard.put((event, payload))


@contextmanager
def serving(url: str, topic: str) -> Iterator[Served]:
    """An RPC server of the host alpha's on one topic."""
    served, transport = Served(), make_rpc_transport(url, {})
    server = oslo_messaging.get_rpc_server(transport, make_target(topic, "alpha"), [served])
    server.start()
    try:
        yield served
    finally:
        server.stop()
        server.wait()
        transport.cleanup()


@contextmanager
def calling(url: str, topic: str) -> Iterator[Any]:
    """A client of one topic."""
    transport = make_rpc_transport(url, {})
    try:
        yield oslo_messaging.get_rpc_client(transport, make_target(topic, version="1.0"), timeout=TIMEOUT_S, retry=0)
    finally:
        transport.cleanup()


@contextmanager
def a_channel(url: str) -> Iterator[amqp.Channel]:
    """A channel of plain AMQP."""
    parts = urlsplit(url)
    connection = amqp.Connection(
        f"{parts.hostname}:{parts.port}", parts.username, parts.password, virtual_host=parts.path[1:]
    )
    connection.connect()
    try:
        yield connection.channel()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("user", "host", "topic"), [(READER, HOST, READING), (HOST, HOST, READING), (ADMIN_USER, ADMIN_HOST, ADMIN)]
)
def test_a_user_calls_what_it_is_for(vhost: BusVhost, user: str, host: str, topic: str) -> None:
    with serving(vhost.url(host), topic), calling(vhost.url(user), topic) as client:
        assert client.prepare(server="alpha").call({}, "host", n=1) == {"n": 1}


def test_hosts_talk_to_the_fleet_and_hear_it(vhost: BusVhost) -> None:
    with serving(vhost.url(HOST), FLEET) as served, calling(vhost.url(HOST), FLEET) as client:
        client.prepare(fanout=True).cast({}, "announce", offer=1)
        assert served.heard.get(timeout=TIMEOUT_S) == {"offer": 1}
        client.prepare(server="alpha").cast({}, "announce", offer=2)
        assert served.heard.get(timeout=TIMEOUT_S) == {"offer": 2}


@pytest.mark.parametrize("pool", [None, "notifications.billing"])
def test_a_listener_receives_the_notifications_of_a_host(vhost: BusVhost, pool: str | None) -> None:
    transport, served = make_notification_transport(vhost.url(LISTENER), {}), Served()
    topics = [oslo_messaging.Target(exchange=EXCHANGE, topic="notifications")]
    listener = oslo_messaging.get_notification_listener(transport, topics, [served], pool=pool)
    listener.start()
    try:
        with closing(make_notifier(vhost.url(HOST), {}, ["notifications"], "alpha")) as notifier:
            for number in range(2):
                notifier.notify("sidecar.agreed", Priority.INFO, {"n": number})
        for number in range(2):
            assert served.heard.get(timeout=TIMEOUT_S) == ("sidecar.agreed", {"n": number})
    finally:
        listener.stop()
        listener.wait()
        transport.cleanup()


def test_a_host_notifies_before_anybody_reads(vhost: BusVhost) -> None:
    with closing(make_notifier(vhost.url(HOST), {}, ["notifications"], "alpha")) as notifier:
        notifier.notify("sidecar.agreed", Priority.WARN, {})
    assert vhost.broker.queues(vhost.name) == {"notifications.warn": 1}


@pytest.mark.parametrize("user", [READER, LISTENER])
def test_who_only_reads_or_listens_tells_nothing_by_the_hosts_exchanges(vhost: BusVhost, user: str) -> None:
    """Neither can it have the queue fed by what the other may write to."""
    with closing(make_notifier(vhost.url(HOST), {}, ["notifications"], "alpha")) as notifier:
        notifier.notify("sidecar.agreed", Priority.INFO, {})
    with a_channel(vhost.url(user)) as channel, pytest.raises(amqp.AccessRefused):
        channel.basic_publish_confirm(amqp.Message("x"), exchange=EXCHANGE, routing_key="notifications.info")
    with (
        serving(vhost.url(HOST), READING),
        a_channel(vhost.url(user)) as channel,
        pytest.raises(amqp.AccessRefused),
    ):
        channel.queue_bind("notifications.info", "sidecar", "#")


@pytest.mark.parametrize(("user", "action", "name"), REFUSED)
def test_nothing_else_is_allowed(vhost: BusVhost, user: str, action: str, name: str) -> None:
    with (
        serving(vhost.url(HOST), READING),
        serving(vhost.url(HOST), FLEET),
        serving(vhost.url(ADMIN_HOST), ADMIN),
        a_channel(vhost.url(user)) as channel,
        pytest.raises(amqp.AccessRefused),
    ):
        ACTIONS[action](channel, name)


@pytest.mark.parametrize("user", [HOST, READER, LISTENER])
def test_the_admin_vhost_is_closed_to_those_who_may_only_read(vhost: BusVhost, user: str) -> None:
    url = vhost.broker.url(user, vhost.admin_name)
    with pytest.raises(amqp.NotAllowed), a_channel(url):
        pass


@pytest.mark.parametrize("user", [ADMIN_HOST, ADMIN_USER])
def test_administrators_have_no_business_elsewhere(vhost: BusVhost, user: str) -> None:
    url = vhost.broker.url(user, vhost.name)
    with pytest.raises(amqp.NotAllowed), a_channel(url):
        pass


def test_the_admin_topic_needs_a_vhost_of_its_own(vhost: BusVhost) -> None:
    """Why there are two: whoever may answer calls may write into any queue of its vhost."""
    with serving(vhost.url(ADMIN_HOST), ADMIN) as served, a_channel(vhost.url(ADMIN_HOST)) as channel:
        message = amqp.Message(
            '{"oslo.version": "2.0", "oslo.message": "{\\"method\\": \\"announce\\", \\"args\\": {}}"}',
            content_type="application/json",
            content_encoding="utf-8",
        )
        channel.basic_publish_confirm(message, exchange="", routing_key="sidecar-admin.alpha")
        assert served.heard.get(timeout=TIMEOUT_S) == {}
