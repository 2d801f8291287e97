"""What ``sidecar.bus.oslo`` leans on in oslo.messaging without having been promised it."""

from types import SimpleNamespace
from typing import Any

import pytest

from sidecar.bus import oslo

# isort: split
# After ``oslo``, which says how it is imported.
from oslo_messaging._drivers import amqpdriver
from oslo_messaging._drivers.amqpdriver import AMQPListener, RpcAMQPListener


class Message(dict[str, Any]):
    acknowledged = False

    def acknowledge(self) -> None:
        self.acknowledged = True


def make_message(number: int) -> Message:
    return Message(method="ping", args={}, _unique_id=str(number))


class Connection:
    """Each time there is a message."""

    def __init__(self) -> None:
        self.timeouts: list[float] = []
        self.listener: AMQPListener | None = None

    def consume(self, timeout: float) -> None:
        assert self.listener is not None
        self.timeouts.append(timeout)
        self.listener(make_message(len(self.timeouts)))


def test_a_listener_does_not_look_for_acknowledgements_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amqpdriver, "ACK_REQUEUE_EVERY_SECONDS_MIN", 0.001)
    oslo.rest_after_messages()
    connection = Connection()
    connection.listener = RpcAMQPListener(SimpleNamespace(prefetch_size=0), connection)
    for _ in range(2):
        assert connection.listener.poll()
    assert connection.timeouts == [oslo.REST_S, oslo.REST_S], "at first, and after a message"


def test_a_call_is_acknowledged_when_it_comes() -> None:
    """So nothing waits for the listener to look again."""
    listener = RpcAMQPListener(SimpleNamespace(prefetch_size=0), Connection())
    message = make_message(1)
    listener(message)
    assert message.acknowledged
    [incoming] = listener.poll()
    incoming.acknowledge()
    assert listener._message_operations_handler._tasks.empty()
