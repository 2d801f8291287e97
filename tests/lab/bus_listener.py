"""A foreign program that receives the hosts' notifications, with oslo.messaging alone; one JSON line for each.

Usage: ``bus_listener.py CONFIGURATION``. A pool is one queue for all priorities, so that the order is the hosts'; and
one thread, so that it stays so.
"""

import json
import sys
from typing import Any

import oslo_messaging
from oslo_config import cfg

POOL = "notifications.lab"


class Endpoint:
    """Prints what comes."""

    def info(
        self, _context: object, publisher_id: str, event_type: str, payload: Any, metadata: dict[str, Any]
    ) -> None:
        """Of every priority alike."""
        line = {"publisher_id": publisher_id, "event_type": event_type, "payload": payload, **metadata}
        print(json.dumps(line), flush=True)

    warn = error = info


def main() -> None:
    """Until it is killed."""
    cfg.CONF(["--config-file", sys.argv[1]], project="listener")
    transport = oslo_messaging.get_notification_transport(cfg.CONF)
    topics = [oslo_messaging.Target(exchange="sidecar-notifications", topic="notifications")]
    listener = oslo_messaging.get_notification_listener(transport, topics, [Endpoint()], pool=POOL)
    listener.start(override_pool_size=1)
    print(json.dumps("listening"), flush=True)
    listener.wait()


if __name__ == "__main__":
    main()
