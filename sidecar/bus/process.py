"""The process beside the daemon: everything of the message bus, wired.

It lives as long as the daemon does. The end of its standard input is the daemon's, and it is gone at that moment,
whatever else is under way: what has to outlive it is on disk already.
"""

import logging
import os
import resource
import signal
import sys
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO

from sidecar.adapters.systemd import configure_logging
from sidecar.api.link import BusStatus, Word
from sidecar.api.operations import OPERATIONS
from sidecar.api.versions import ApiVersion
from sidecar.bus import oslo
from sidecar.bus.asks import Asks
from sidecar.bus.caller import Caller
from sidecar.bus.endpoints import make_endpoints, make_fleet_endpoint
from sidecar.bus.fleet_agenda import Cast
from sidecar.bus.fleet_talk import METHODS, FleetTalk
from sidecar.bus.link_end import LinkEnd
from sidecar.bus.log_sieve import LogSieve
from sidecar.bus.notify_driver import make_notifier
from sidecar.bus.outbox import Outbox
from sidecar.bus.publisher import Publisher
from sidecar.bus.rpc_servers import Door, serve
from sidecar.bus.status import StatusTeller
from sidecar.errors import ConfigurationError

# isort: split
# After ``oslo``, which says how it is imported.
import oslo_messaging

logger = logging.getLogger(__name__)

# Forty times of what it takes: a flood of messages ends it, and not the host's memory. Threads' stacks count.
MEMORY_LIMIT_BYTES = 2 * 1024**3

FLEET_VERSION = ApiVersion(1, 0)
# A summary that comes later than this, nobody waits for.
SUMMARY_S = 10.0


def main() -> int:
    """Entry point; the exit code, where it does not just end: 1 after a fault on the link, 2 for a wrong beginning."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    # The terminal's: the daemon is told as well, and decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    incoming, outgoing = _take_link()
    configure_logging("info")
    for handler in logging.getLogger().handlers:
        handler.addFilter(LogSieve())
    _limit_memory()
    oslo.rest_after_messages()
    link = LinkEnd(incoming, outgoing)
    try:
        begin = link.receive_begin()
        if begin is None:
            return 0
        process = BusProcess(link, begin["hostname"], ApiVersion.parse(begin["version"]), begin["section"])
        _set_level(begin.get("log_level", "info"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        logger.error("the daemon's beginning is none: %s", type(error).__name__)
        return 2
    _end_with(process)
    return 0


class BusProcess:
    """The parts of one process."""

    def __init__(self, link: LinkEnd, hostname: str, version: ApiVersion, section: Mapping[str, Any]) -> None:
        """Opens the outbox; nothing is started."""
        self._link, self._hostname, self._version, self._section = link, hostname, version, section
        self._options: Mapping[str, Any] = section["oslo_messaging_rabbit"]
        self._outbox = Outbox(Path(section["directory"]) / "outbox.db", section["outbox_events"])
        self._status = StatusTeller(self._measure, link.send)
        topics = section["notification_topics"]
        make = partial(make_notifier, section["url"], self._options, topics, hostname)
        self._publisher = Publisher(self._outbox, hostname, make, self._status.change)
        self._talk = FleetTalk(hostname, self._cast, link.send, self._summarize, self._status.change)
        self._asks = Asks(self._talk, self._find_caller, link.send)

    def run(self) -> int:
        """Serve the daemon until it ends; the exit code."""
        self._link.send(Word.READY, after=self._outbox.last_id)
        # Before the publisher, which sets up oslo.messaging in a thread of its own: it has one configuration.
        self._open_doors()
        self._publisher.start()
        self._status.start()
        return self._link.run(
            {
                Word.OFFER: lambda values: self._talk.change_offer(values["offer"], announce=values["announce"]),
                Word.LEVEL: lambda values: _set_level(values["level"]),
                Word.EVENT: lambda values: self._publisher.append(values["event"]),
                Word.ASK: self._asks.receive,
            }
        )

    def _measure(self) -> BusStatus:
        published = self._publisher.status()
        return BusStatus(self._talk.connected, published.waiting, published.notified, published.dropped)

    def _open_doors(self) -> None:
        """Have everything served as soon as the broker is there; nothing here waits for it."""
        try:
            transport = self._find_transport()
            admin = self._make_admin_transport()
        except ConfigurationError as error:
            logger.error("[bus] %s; events are kept until it is right", error)
            return
        reading = make_endpoints(oslo.READING, self._version, self._link.call, changes=False)
        serve(transport, Door(oslo.READING, self._hostname, reading))
        # One thread: what a host says is taken in the order in which it says it.
        fleet = make_fleet_endpoint(oslo.FLEET, FLEET_VERSION, self._talk.receive, METHODS)
        serve(transport, Door(oslo.FLEET, self._hostname, [fleet], threads=1), self._talk.start)
        if admin is not None:
            changing = make_endpoints(oslo.ADMIN, self._version, self._link.call, changes=True)
            serve(admin, Door(oslo.ADMIN, self._hostname, changing))

    @cache  # noqa: B019  # there is one process
    def _find_transport(self) -> Any:
        return oslo.make_rpc_transport(self._section["url"], self._options)

    def _make_admin_transport(self) -> Any:
        return oslo.make_rpc_transport(self._section["admin_url"], self._options) if self._section["admin"] else None

    @cache  # noqa: B019
    def _find_caller(self) -> Caller:
        return Caller(oslo.READING, self._section["url"], self._options)

    def _cast(self, cast: Cast) -> None:
        """Say something to the fleet; waits for the broker for as long as it takes, or else tries once."""
        target = oslo.make_target(oslo.FLEET, cast.server, str(FLEET_VERSION), fanout=cast.server is None)
        client = oslo_messaging.get_rpc_client(self._find_transport(), target, retry=None if cast.patient else 0)
        client.cast({}, cast.method, **cast.values)

    def _summarize(self) -> Any:
        return self._link.call("summary", {}, str(OPERATIONS["summary"].since), SUMMARY_S)


def _take_link() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output as the link's alone: what else is printed goes to the log."""
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return incoming, outgoing


def _set_level(level: object) -> None:
    logging.getLogger().setLevel(str(level).upper())


def _limit_memory() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = MEMORY_LIMIT_BYTES if hard == resource.RLIM_INFINITY else min(hard, MEMORY_LIMIT_BYTES)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def _end_with(process: BusProcess) -> None:
    """Run it, and be gone: the interpreter would wait for threads of oslo.messaging's, which wait for a broker."""
    code = 1
    try:
        code = process.run()
    finally:
        sys.stderr.flush()
        os._exit(code)
