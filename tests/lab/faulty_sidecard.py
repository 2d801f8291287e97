"""sidecard that stops itself at one step: `python -m tests.lab.faulty_sidecard --stop-at STEP --config FILE`.

The daemon is the real one. Around the adapters' functions that are the steps of an arrival there are wrappers here,
which in the moment before or after the call stop the whole process, once. Nothing of that is in production code.
"""

import argparse
import functools
import inspect
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from signal import SIGSTOP
from types import SimpleNamespace
from typing import Any

import libvirt

from sidecar import daemon
from sidecar.adapters import offer_file, spool
from sidecar.adapters.libvirt import Libvirt
from sidecar.adapters.unix_channel import UnixConnection, UnixDialer
from sidecar.api.events import EventType
from sidecar.engine import recorder
from sidecar.engine.clocks import utc_now
from sidecar.engine.event_log import EventLog
from sidecar.engine.notices import Happening, LifecycleNotice
from sidecar.engine.settings import Surroundings
from sidecar.record.agreement import NAMESPACE
from tests.lab.fault_points import Step


class When(Enum):
    """On which side of the call."""

    BEFORE = "before the call"
    AFTER = "when the call has returned"


@dataclass(frozen=True, slots=True)
class Point:
    """A function of `owner`, and the side of it; only calls whose arguments are `right` count."""

    owner: object
    name: str
    when: When
    right: Callable[..., bool] = lambda *_: True


def _says(message: str) -> Callable[..., bool]:
    mark = f'"{message}"'.encode()
    return lambda _connection, data: mark in data


def _says_agreed(text: str) -> bool:
    return 'state="agreed"' in text


def _is_of(kind: EventType) -> Callable[..., bool]:
    return lambda _log, published, *_, **__: published is kind


def _is_resumed(_libvirt: Libvirt, _number: int, notice: object) -> bool:
    return isinstance(notice, LifecycleNotice) and notice.happening is Happening.RESUMED


def _runs_something(_libvirt: Libvirt, _uuid: object, request: str, *_: object, **__: object) -> bool:
    return "guest-exec" in request


def _is_agreed(_libvirt: Libvirt, _uuid: object, agreement: Any) -> bool:
    return any(row.state == "agreed" for row in agreement.channels)


def _sets_record(_domain: Any, _kind: int, _text: str, _key: str, uri: str, _flags: int) -> bool:
    return uri == NAMESPACE


def _sets_agreed(domain: Any, kind: int, text: str, key: str, uri: str, flags: int) -> bool:
    return _sets_record(domain, kind, text, key, uri, flags) and _says_agreed(text)


def _replaces_offer(_old: object, new: object) -> bool:
    return Path(str(new)).name == offer_file.NAME


POINTS: Mapping[Step, Point] = {
    Step.OFFER_TO_WRITE: Point(daemon, "write_offer", When.BEFORE),
    Step.OFFER_HALF: Point(os, "replace", When.BEFORE, _replaces_offer),
    Step.OFFER_WRITTEN: Point(daemon, "write_offer", When.AFTER),
    Step.SPOOL_READ: Point(spool, "_read_entry", When.AFTER),
    Step.SPOOL_REMOVED: Point(spool.Spool, "_remove", When.AFTER),
    Step.DOMAIN_TO_FIND: Point(Libvirt, "find_domain", When.BEFORE),
    Step.LOOK_BEGUN: Point(Libvirt, "inspect_domain", When.BEFORE),
    Step.LOOK_DONE: Point(Libvirt, "inspect_domain", When.AFTER),
    Step.CHANNEL_TO_DIAL: Point(UnixDialer, "dial", When.BEFORE),
    Step.CHANNEL_DIALLED: Point(UnixDialer, "dial", When.AFTER),
    Step.REFRESH_TO_SEND: Point(UnixConnection, "send", When.BEFORE, _says("refresh")),
    Step.REFRESH_SENT: Point(UnixConnection, "send", When.AFTER, _says("refresh")),
    Step.RESUMED_TOLD: Point(Libvirt, "_receive", When.BEFORE, _is_resumed),
    Step.ARRIVAL_COUNTED: Point(EventLog, "publish", When.AFTER, _is_of(EventType.ARRIVED)),
    Step.JOB_TO_ASK: Point(Libvirt, "is_job_held", When.BEFORE),
    Step.JOB_ASKED: Point(Libvirt, "is_job_held", When.AFTER),
    Step.RECORD_TO_WRITE: Point(Libvirt, "write_record", When.BEFORE),
    Step.RECORD_SET: Point(libvirt.virDomain, "setMetadata", When.AFTER, _sets_record),
    Step.RECORD_WRITTEN: Point(Libvirt, "write_record", When.AFTER),
    Step.HEARTBEAT_RECEIVED: Point(UnixConnection, "data_received", When.BEFORE, _says("heartbeat")),
    Step.VERSION_TO_SEND: Point(UnixConnection, "send", When.BEFORE, _says("api-version")),
    Step.VERSION_SENT: Point(UnixConnection, "send", When.AFTER, _says("api-version")),
    Step.AGREED_TO_WRITE: Point(Libvirt, "write_record", When.BEFORE, _is_agreed),
    Step.AGREED_SET: Point(libvirt.virDomain, "setMetadata", When.AFTER, _sets_agreed),
    Step.AGREED_WRITTEN: Point(Libvirt, "write_record", When.AFTER, _is_agreed),
    Step.MESSAGE_TO_SEND: Point(UnixConnection, "send", When.BEFORE, _says("lifecycle-event")),
    Step.MESSAGE_SENT: Point(UnixConnection, "send", When.AFTER, _says("lifecycle-event")),
    Step.COMMAND_TO_SEND: Point(Libvirt, "call_agent", When.BEFORE, _runs_something),
    Step.COMMAND_ANSWERED: Point(Libvirt, "call_agent", When.AFTER, _runs_something),
}
"""Where each step is; every one of the table has its place."""


class Stop:
    """Stops the process, threads and all, the first time."""

    def __init__(self) -> None:
        self._is_over = False

    def __call__(self) -> None:
        if not self._is_over:
            self._is_over = True
            os.kill(os.getpid(), SIGSTOP)


def stop_at(point: Point) -> None:
    """From now on the process stops there, once."""
    called = getattr(point.owner, point.name)
    setattr(point.owner, point.name, _wrap(called, point, Stop()))


def _wrap(called: Callable[..., Any], point: Point, stop: Stop) -> Callable[..., Any]:
    def stop_if(side: When, arguments: tuple[object, ...], named: Mapping[str, object]) -> None:
        if point.when is side and point.right(*arguments, **named):
            stop()

    @functools.wraps(called)
    def call(*arguments: object, **named: object) -> Any:
        stop_if(When.BEFORE, arguments, named)
        result = called(*arguments, **named)
        stop_if(When.AFTER, arguments, named)
        return result

    @functools.wraps(called)
    async def call_async(*arguments: object, **named: object) -> Any:
        stop_if(When.BEFORE, arguments, named)
        result = await called(*arguments, **named)
        stop_if(When.AFTER, arguments, named)
        return result

    return call_async if inspect.iscoroutinefunction(called) else call


def falsify_clock(file: Path) -> None:
    """The clock on the wall is wrong by as many seconds as the file says, at any time; the monotonic one is right."""

    def offset_s() -> float:
        return float(file.read_text()) if file.exists() else 0.0

    def wall_clock() -> datetime:
        return utc_now() + timedelta(seconds=offset_s())

    def time_ns() -> int:
        return time.time_ns() + int(offset_s() * 1e9)

    setattr(daemon, "Surroundings", functools.partial(Surroundings, wall_clock=wall_clock))  # noqa: B010
    setattr(spool, "time", SimpleNamespace(time_ns=time_ns))  # noqa: B010


def main() -> int:
    """Arrange the fault, then be sidecard."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--stop-at", choices=[step.name for step in Step])
    parser.add_argument("--clock-file", type=Path, required=True)
    parser.add_argument("--foreign-edit-s", type=float, default=recorder.FOREIGN_EDIT_S)
    options, rest = parser.parse_known_args()
    recorder.FOREIGN_EDIT_S = options.foreign_edit_s
    falsify_clock(options.clock_file)
    if options.stop_at:
        stop_at(POINTS[Step[options.stop_at]])
    return daemon.main(rest)


if __name__ == "__main__":
    sys.exit(main())
