"""How oslo.messaging is set up here: the one module that imports it first, and makes transports and targets of it.

Source: oslo.messaging's documentation; docs/decisions/0012-message-bus.md for what was measured.
"""

import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

from sidecar.errors import ConfigurationError

# It is a dependency of oslo.service, whose default it is, and futurist imports it wherever it is installed. Without it
# both do the same with threads, as we have it: nothing may patch the standard library of this process.
sys.modules.setdefault("eventlet", None)  # type: ignore[arg-type]  # None makes the import fail

from oslo_service import backend  # noqa: E402

if backend.get_backend_type() is None:
    backend.init_backend(backend.BackendType.THREADING)

import oslo_messaging  # noqa: E402
from oslo_config import cfg  # noqa: E402
from oslo_messaging import opts  # noqa: E402
from oslo_messaging._drivers import amqpdriver  # noqa: E402

READING, ADMIN, FLEET = "sidecar", "sidecar-admin", "sidecar-fleet"
"""Topics, each in an exchange of its own name: RabbitMQ's permissions are by exchange and queue."""

# The module of the only exception that is made anew from what another host sent.
REMOTE_ERRORS = ("sidecar.api.problems",)

# In the context of a call: the unix time at which the caller gives up. What changes something is not begun later.
EXPIRES = "expires"

_RABBIT = "oslo_messaging_rabbit"

# Options whose defaults do not fit, each for its reason; ``[bus.oslo_messaging_rabbit]`` goes before them.
_RABBIT_DEFAULTS: Mapping[str, Any] = {
    "amqp_durable_queues": True,  # what a broker holds outlives its restart
    "heartbeat_timeout_threshold": 15,  # seconds until a broker that hangs is given up: 60 are long at three o'clock
    "heartbeat_rate": 3,
    "rabbit_interval_max": 5,  # seconds between attempts: the broker's return is noticed at once
    "kombu_missing_consumer_retry_timeout": 5,
    "rpc_conn_pool_size": 8,
    "rabbit_qos_prefetch_count": 16,  # what is more waits at the broker, and not in this process's memory
}
# Threads that serve calls, in each server.
POOL_SIZE = 16
# See ``rest_after_messages``.
REST_S = 1.0


@cache
def _configure() -> cfg.ConfigOpts:
    """The process's one configuration: in a private one oslo.messaging misses what it registers globally."""
    conf = cfg.CONF
    conf([], project="sidecar", default_config_files=[], default_config_dirs=[])
    oslo_messaging.set_transport_defaults(control_exchange=READING)
    # Drivers register and read their own when they are made, which is too late to set any.
    for group, options in opts.list_opts():
        conf.register_opts(options, group)
    conf.set_default("executor_thread_pool_size", POOL_SIZE)
    return conf


def rest_after_messages() -> None:
    """Have listeners of this process wait for the next message; for a process that receives calls and nothing else.

    After each message they look 1, 2, 4, ... ms later whether somebody wants it acknowledged, a dozen times until it is
    a second. Calls are acknowledged when they come. No option of oslo.messaging's.
    """
    amqpdriver.ACK_REQUEUE_EVERY_SECONDS_MIN = REST_S


def make_rpc_transport(url: str, options: Mapping[str, Any]) -> oslo_messaging.transport.RPCTransport:
    """A transport for calls; connects when it is used.

    Args:
        url: oslo.messaging's transport URL.
        options: Of its group ``oslo_messaging_rabbit``. They are the process's: every transport has the same.

    Raises:
        ConfigurationError: The URL or an option is not one; the text holds no password.
    """
    return _make(oslo_messaging.get_rpc_transport, url, options, allowed_remote_exmods=list(REMOTE_ERRORS))


def make_notification_transport(url: str, options: Mapping[str, Any]) -> oslo_messaging.transport.NotificationTransport:
    """A transport for notifications; likewise."""
    return _make(oslo_messaging.get_notification_transport, url, options)


def make_target(topic: str, hostname: str | None = None, version: str | None = None, **more: Any) -> Any:
    """Where a call goes, or is served: a topic in its exchange, at one host."""
    return oslo_messaging.Target(exchange=topic, topic=topic, server=hostname, version=version, **more)


def _make(factory: Any, url: str, options: Mapping[str, Any], **more: Any) -> Any:
    conf = _configure()
    _set_options(conf, {**_RABBIT_DEFAULTS, **options})
    try:
        return factory(conf, url=url, **more)
    except (oslo_messaging.exceptions.MessagingException, ValueError) as error:
        # Their texts hold the URL.
        raise ConfigurationError(f"expected a transport URL of oslo.messaging's: {type(error).__name__}") from None


def _set_options(conf: cfg.ConfigOpts, options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        try:
            conf.set_override(name, value, _RABBIT)
        except (cfg.Error, ValueError, TypeError) as error:
            raise ConfigurationError(f"bus.{_RABBIT}.{name}: {error}") from None
