"""A queue of notifications as it lies in the broker, read without oslo.messaging."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kombu.connection import Connection

from tests.bus.conftest import BusVhost

CALL_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Notification:
    """One message; ``delivery_mode`` 2: the broker keeps it on disk."""

    delivery_mode: int
    envelope: Mapping[str, Any]

    @property
    def message(self) -> dict[str, Any]:
        """What oslo.messaging's format 2.0 has inside."""
        found: dict[str, Any] = json.loads(self.envelope["oslo.message"])
        return found

    @property
    def payload(self) -> dict[str, Any]:
        """The event."""
        found: dict[str, Any] = self.message["payload"]
        return found


@contextmanager
def open_channel(vhost: BusVhost) -> Iterator[Any]:
    """A channel of the operator's."""
    url = vhost.broker.url(None, vhost.name).replace("rabbit://", "amqp://")
    connect: Any = Connection  # it has types in part
    with connect(url, connect_timeout=CALL_TIMEOUT_S) as connection:
        yield connection.channel()


def take_all(vhost: BusVhost, queue: str = "notifications.info") -> list[Notification]:
    """Everything that is in a queue, which is empty afterwards."""
    found = []
    with open_channel(vhost) as channel:
        while (message := channel.basic_get(queue, no_ack=True)) is not None:
            found.append(Notification(message.properties["delivery_mode"], json.loads(message.body)))
    return found


def delete_queue(vhost: BusVhost, queue: str = "notifications.info") -> None:
    """An operator's hand, or a policy with ``expires``."""
    with open_channel(vhost) as channel:
        channel.queue_delete(queue)
