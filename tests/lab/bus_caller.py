"""A foreign program that calls hosts over the bus, with oslo.messaging alone: a JSON line in, a JSON line out.

Usage: ``bus_caller.py CONFIGURATION READER_URL ADMIN_URL``. A line has ``topic``, ``server``, ``version``, ``method``
and ``arguments``; its answer ``result``, or ``problem`` with code and detail.
"""

import json
import sys
from typing import Any

import oslo_messaging
from oslo_config import cfg

TIMEOUT_S = 30


def main() -> None:
    """Until its input ends."""
    configuration, *urls = sys.argv[1:]
    cfg.CONF(["--config-file", configuration], project="caller")
    exmods = ["sidecar.api.problems"]
    reader, admin = (oslo_messaging.get_rpc_transport(cfg.CONF, url, allowed_remote_exmods=exmods) for url in urls)
    transports = {"sidecar": reader, "sidecar-admin": admin}
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(call(transports[asked["topic"]], asked)), flush=True)


def call(transport: Any, asked: dict[str, Any]) -> dict[str, Any]:
    """One call."""
    topic = asked["topic"]
    target = oslo_messaging.Target(exchange=topic, topic=topic, server=asked["server"], version=asked["version"])
    client = oslo_messaging.get_rpc_client(transport, target, timeout=TIMEOUT_S)
    try:
        return {"result": client.call({}, asked["method"], **asked["arguments"])}
    except oslo_messaging.RemoteError as error:
        return {"problem": {"code": error.exc_type}}
    except Exception as error:
        problem = getattr(error, "problem", None)
        if problem is None:
            return {"problem": {"code": type(error).__name__}}
        return {"problem": {**problem.extra, "code": problem.code, "detail": problem.detail}}


if __name__ == "__main__":
    main()
