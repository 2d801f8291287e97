"""``sidecarctl events``: one event a line, until somebody ends it; a daemon that restarts is waited for."""

import json
import select
import signal
import sys
import time
from argparse import Namespace
from dataclasses import dataclass
from typing import NoReturn

from sidecar.api.events import Event
from sidecar.api.problems import ProblemCode, ProblemError
from sidecar.cli.sheets import render_event
from sidecar.cli.talk import describe, open_client
from sidecar.cli.terminal import warn
from sidecar.client import EventStream
from sidecar.client.event_stream import NO_EVENT_YET
from sidecar.errors import DaemonUnreachableError

FIRST_DELAY_S, LAST_DELAY_S = 0.25, 5.0

# While nothing happens nothing is printed, and only by looking is it seen that nobody reads any more.
LOOK_S = 1.0


@dataclass(slots=True)
class _Outage:
    """The time without a stream: the next delay, and whether anybody was told."""

    delay_s: float = FIRST_DELAY_S
    is_told: bool = False

    def wait(self, why: DaemonUnreachableError | ProblemError) -> None:
        """Let some time pass; twice as much the next time."""
        if not self.is_told:
            warn(f"{describe(why)}; waiting for the daemon")
            self.is_told = True
        time.sleep(self.delay_s)
        self.delay_s = min(2 * self.delay_s, LAST_DELAY_S)


def follow(options: Namespace) -> int:
    """Print events until SIGINT, SIGTERM, or nobody reads them: 0 then.

    Raises:
        DaemonUnreachableError, ProblemError, VersionCapError: As ``sidecar.client`` does, of the first try; later, the
            daemon's refusals.
        BrokenPipeError: Nobody reads them.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGALRM, _look_for_reader)
    signal.setitimer(signal.ITIMER_REAL, LOOK_S, LOOK_S)
    try:
        _follow(options)
    except KeyboardInterrupt:
        return 0
    finally:
        # While the interpreter ends its handler is gone, and the signal would end the process without a status.
        signal.setitimer(signal.ITIMER_REAL, 0)


def _look_for_reader(*_: object) -> None:
    """End as SIGINT does when nobody can read what is printed."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    if poll.poll(0):  # without an event that is asked for: an error, or a hang-up
        raise KeyboardInterrupt


def _follow(options: Namespace) -> NoReturn:
    after, outage = options.after, _Outage()
    stream: EventStream | None = _open(options, after)
    while True:
        try:
            stream = stream or _open(options, after or NO_EVENT_YET)
            for event in stream:
                _print(event, as_json=options.json)
                after, outage = event.id, _Outage()
        except DaemonUnreachableError as error:
            outage.wait(error)
        except ProblemError as error:
            if error.problem.code != ProblemCode.TOO_MANY_CONNECTIONS:
                raise
            outage.wait(error)
        stream = None


def _open(options: Namespace, after: str | None) -> EventStream:
    with open_client(options) as client:
        return client.events(options.domain, after)


def _print(event: Event, *, as_json: bool) -> None:
    print(json.dumps(event.document) if as_json else render_event(event), flush=True)
