"""Servers of oslo.messaging's, each started by a thread of its own that never gives up.

A server's start waits for the broker, and fails where that refuses the user; what has failed once cannot be started
again, so every attempt is another server. Once started it finds its way back to the broker itself. Nothing is stopped:
the process just ends.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tenacity import RetryCallState, Retrying, wait_exponential

from sidecar.bus import oslo

# isort: split
# After ``oslo``, which says how it is imported.
import oslo_messaging

logger = logging.getLogger(__name__)

# Between attempts at a broker that refuses; one that is down is oslo.messaging's own business.
RETRY_FIRST_S, RETRY_LIMIT_S = 0.5, 30.0


@dataclass(frozen=True, slots=True)
class Door:
    """What is served: ``endpoints`` at ``topic`` of this host, by ``threads`` at a time."""

    topic: str
    hostname: str
    endpoints: Sequence[object]
    threads: int = oslo.POOL_SIZE


def serve(transport: Any, door: Door, started: Callable[[], None] = lambda: None) -> threading.Thread:
    """Serve, as soon as the broker is there, and for as long as the process lives; ``started``: it is now."""

    def run() -> None:
        retrying = Retrying(
            wait=wait_exponential(RETRY_FIRST_S, max=RETRY_LIMIT_S),
            before_sleep=lambda state: _log_failure(door, state),
        )
        retrying(_start, transport, door)
        logger.info("serving topic %s on the message bus", door.topic)
        started()

    thread = threading.Thread(target=run, name=f"start-{door.topic}", daemon=True)
    thread.start()
    return thread


def _start(transport: Any, door: Door) -> None:
    server = oslo_messaging.get_rpc_server(
        transport,
        oslo.make_target(door.topic, door.hostname),
        list(door.endpoints),
        # Nothing is served that was not meant to be: not what an object has besides, nor an endpoint's ``target``.
        access_policy=oslo_messaging.ExplicitRPCAccessPolicy,
    )
    server.start(override_pool_size=door.threads)


def _log_failure(door: Door, state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome is not None else None
    if state.attempt_number == 1:
        logger.error("topic %s cannot be served, trying again: %s", door.topic, error)
