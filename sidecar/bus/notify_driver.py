"""Notifications that the broker has, or an error: oslo.messaging's own drivers log the error, payload and all.

``NotifyDriver`` is the entry point ``sidecar`` of ``oslo.messaging.notify.drivers``. It sends what ``messagingv2``
sends, and leans on two methods of the transport that are private: a test tells when they have changed.

Source: oslo.messaging 18.3, notify/messaging.py, notify/notifier.py and _drivers/impl_rabbit.py.
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakSet

from sidecar.bus import oslo

# isort: split
# After ``oslo``, which says how it is imported.
import oslo_messaging

from sidecar.bus.priorities import Priority
from sidecar.bus.publisher import NotTakenError
from sidecar.errors import ConfigurationError

DRIVER = "sidecar"
# Not the exchange of the operations: whoever may call these may write there, and could tell what is not so.
EXCHANGE = "sidecar-notifications"

_FORMAT = 2.0
# The publisher tries again; what oslo.messaging would repeat it would repeat for ever.
_NO_RETRY = 0

# RabbitMQ gives back what no queue took, instead of dropping it.
_MANDATORY = oslo_messaging.TransportOptions(at_least_once=True)

# Whose errors' texts are known to hold nothing of a notification.
_BROKER_PACKAGES = ("oslo_messaging", "kombu", "amqp")

# Equal events of a host have equal ids, so that a repeat can be told by any consumer of notifications.
_MESSAGE_IDS = uuid.UUID("c1f4fd5e-7a0e-5f0b-9d54-5b2f0d3d6d2e")

# Those whose notifier found the driver.
_served: WeakSet[Any] = WeakSet()


class _NotTaken(BaseException):
    """Carries an error out of oslo.messaging's notifier, which catches every ``Exception``, and logs the payload."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(cause)
        self.cause = cause


class NotifyDriver:
    """One a notifier, made by it; for one thread."""

    def __init__(self, conf: Any, topics: Sequence[str], transport: Any) -> None:
        self._topics, self._transport = topics, transport
        self._declared: set[str] = set()
        _served.add(transport)

    def notify(self, ctxt: Mapping[str, Any], msg: Mapping[str, Any], priority: str, retry: int) -> None:
        """Send it to every topic; whoever gets it twice, because another topic failed, sees it by the id.

        Raises:
            _NotTaken: One of them did not take it, or nobody knows whether it did. The transport is of no use then.
        """
        message = {**msg, "message_id": _derive_id(msg)}
        for topic in self._topics:
            try:
                self._send(f"{topic}.{priority.lower()}", ctxt, message, retry)
            except Exception as error:
                raise _NotTaken(error) from error

    def _send(self, queue: str, ctxt: Mapping[str, Any], message: Mapping[str, Any], retry: int) -> None:
        """Send it, and return when the broker confirms it: for a durable queue, that it is on disk.

        The first makes the queue where there is none, so that nothing is lost before somebody listens. But that way
        none notices that a queue has been deleted since, and RabbitMQ confirms what goes nowhere: the others say that
        they must arrive. What then fails leaves the channel out of step: a confirmation may still be on its way, and
        would be taken for the next one's.
        """
        target = oslo_messaging.Target(exchange=EXCHANGE, topic=queue)
        # The driver adds to the message that it is given.
        if queue not in self._declared:
            self._transport._send_notification(target, ctxt, dict(message), version=_FORMAT, retry=retry)
            self._declared.add(queue)
        else:
            self._transport._send(target, ctxt, dict(message), retry=retry, transport_options=_MANDATORY)


class BusNotifier:
    """See ``publisher.Notifier``; a connection of its own, so that nothing else waits when it does."""

    def __init__(self, transport: Any, topics: Sequence[str], hostname: str) -> None:
        self._transport = transport
        self._notifier = oslo_messaging.Notifier(
            transport, f"sidecar.{hostname}", driver=DRIVER, retry=_NO_RETRY, topics=list(topics)
        )
        if transport not in _served:  # it would send nothing, and say nothing
            raise ConfigurationError(
                f"oslo.messaging finds no driver {DRIVER}: the package is not installed as it should"
            )

    def notify(self, event_type: str, priority: Priority, payload: Mapping[str, Any]) -> None:
        """See there."""
        send = {
            Priority.INFO: self._notifier.info,
            Priority.WARN: self._notifier.warn,
            Priority.ERROR: self._notifier.error,
        }[priority]
        try:
            send({}, event_type, payload)
        except _NotTaken as error:
            raise NotTakenError(_describe(error.cause)) from error.cause

    def close(self) -> None:
        """See there; takes as long as the broker hangs, up to the heartbeat's limit."""
        self._transport.cleanup()


def make_notifier(url: str, options: Mapping[str, Any], topics: Sequence[str], hostname: str) -> BusNotifier:
    """A notifier; it connects when it is used.

    Args:
        url: oslo.messaging's transport URL.
        options: See ``oslo.make_notification_transport``.
        topics: Of the notifications; each priority of each has a queue.
        hostname: Who publishes.

    Raises:
        ConfigurationError: The URL or an option is not one, or the driver is not there.
    """
    return BusNotifier(oslo.make_notification_transport(url, options), topics, hostname)


def _derive_id(message: Mapping[str, Any]) -> str:
    payload = message["payload"]
    parts = message["publisher_id"], message["event_type"], payload.get("id"), payload.get("time")
    return str(uuid.uuid5(_MESSAGE_IDS, "\n".join(ascii(part) for part in parts)))


def _describe(error: Exception) -> str:
    if isinstance(error, oslo_messaging.MessageUndeliverable):  # its text is the message
        return "the queue is gone, and is made anew"
    known = isinstance(error, OSError) or type(error).__module__.split(".")[0] in _BROKER_PACKAGES
    return f"{type(error).__name__}: {error}" if known else type(error).__name__
