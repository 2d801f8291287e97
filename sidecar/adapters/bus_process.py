"""``sidecar.bus``, the process beside the daemon that talks to the message bus: started, watched, started again.

Only that process imports oslo.messaging. Whatever becomes of it, or of the broker, nothing here waits for it but who
asked for the fleet, and they for a bounded time.
"""

import asyncio
import contextlib
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sidecar.adapters.bus_link import Beginning, BusEars, BusLink
from sidecar.api.link import LINE_LIMIT_BYTES, Ask, BusStatus
from sidecar.engine.bell import Bell
from sidecar.engine.event_log import EventLog
from sidecar.engine.tally import Tally
from sidecar.errors import BusDownError

logger = logging.getLogger(__name__)

# -P: nothing is imported from the directory in which the daemon happens to have been started.
COMMAND = (sys.executable, "-P", "-m", "sidecar.bus")

RESTART_FIRST_S, RESTART_LAST_S = 0.5, 30.0
# One that ran for so long was no failure: the next one is started soon again.
STEADY_S = 60.0

# For its last events and its end; what it has not taken by then is killed with it.
STOP_S = 1.0
# One whose link is over may be ending just now, with a status that says why.
END_S = 0.2

# Telling all is saying it, and hearing it come back.
FORGET_S = 5.0


class BusProcess:
    """See ``engine.ports.FleetBus``, and the module; for the loop's thread alone.

    Attributes:
        pid: Of the process that runs now; 0 when none does.
    """

    def __init__(self, events: EventLog, tally: Tally, command: Sequence[str] = COMMAND) -> None:
        """No process is there before ``begin``, and while ``run`` does not run."""
        self.pid = 0
        self._events, self._tally, self._command = events, tally, command
        self._beginning: Beginning | None = None
        self._bell = Bell()
        self._link: BusLink | None = None
        self._offer: Mapping[str, Any] | None = None
        self._level = ""
        self._status = BusStatus()
        self._counted: BusStatus | None = None

    def begin(self, beginning: Beginning | None) -> None:
        """Have a process that began so, in place of another one; ``None``: have none."""
        self._beginning = beginning
        if beginning is not None:
            self._level = beginning.log_level
            if self._link is not None:
                self._link.change_level(self._level)
        self._bell.ring()

    async def run(self, ears: BusEars) -> None:
        """Keep the process that ``begin`` asks for until cancelled."""
        while True:
            beginning = self._beginning
            async with asyncio.TaskGroup() as group:
                keeping = None if beginning is None else group.create_task(self._keep(beginning, ears))
                while self._beginning == beginning:
                    await self._bell.wait()
                if keeping is not None:
                    keeping.cancel()

    # The port.

    @property
    def configured(self) -> bool:
        """See ``FleetBus``."""
        return self._beginning is not None

    @property
    def connected(self) -> bool:
        """See ``FleetBus``."""
        return self._status.connected

    def announce(self, offer: Mapping[str, Any], *, silently: bool = False) -> None:
        """See ``FleetBus``; ``silently``: only who asks from now on is to know it."""
        self._offer = offer
        if self._link is not None:
            self._link.change_offer(offer, announce=not silently)

    async def collect(self, expected: Collection[str], timeout_s: float) -> Sequence[Any]:
        """See ``FleetBus``."""
        result = await self._require_link().ask(Ask.COLLECT, timeout_s, expected=sorted(expected))
        if not isinstance(result, list):
            raise BusDownError("the process that talks to the message bus gave no list")
        return result

    async def call(self, host: str, operation: str, arguments: Mapping[str, Any], timeout_s: float) -> Any:
        """See ``FleetBus``."""
        link = self._require_link()
        return await link.ask(Ask.CALL, timeout_s, host=host, operation=operation, arguments=dict(arguments))

    async def forget(self, hostname: str) -> None:
        """See ``FleetBus``."""
        await self._require_link().ask(Ask.FORGET, FORGET_S, hostname=hostname)

    def _require_link(self) -> BusLink:
        if self._beginning is None:
            raise BusDownError("no message bus is configured: [bus] url")
        if self._link is None:
            raise BusDownError("the process that talks to the message bus does not run at the moment")
        return self._link

    # The process.

    async def _keep(self, beginning: Beginning, ears: BusEars) -> None:
        failures = 0
        clock = asyncio.get_running_loop().time
        while True:
            begun = clock()
            why = await self._try_one(beginning, ears)
            failures = 1 if clock() - begun >= STEADY_S else failures + 1
            delay_s = min(RESTART_FIRST_S * 2 ** min(failures - 1, 10), RESTART_LAST_S)
            if failures in (1, 10) or failures % 100 == 0:
                logger.warning("the process for the message bus: %s; it is started again in %g s", why, delay_s)
            self._tally.bus_restarts += 1
            await asyncio.sleep(delay_s)

    async def _try_one(self, beginning: Beginning, ears: BusEars) -> str:
        """Start one and stay with it to its end; returns what it was."""
        try:
            return await self._tend(beginning, ears)
        except OSError as error:
            return f"it cannot be started: {error.strerror}"
        except Exception:
            logger.exception("the process for the message bus: a fault of ours; the daemon goes on")
            return "it was ended"

    async def _tend(self, beginning: Beginning, ears: BusEars) -> str:
        process = await self._spawn()
        assert process.stdin is not None
        assert process.stdout is not None
        heard = replace(ears, status=lambda status: self._take_status(status, ears))
        link = BusLink(process.stdout, process.stdin, self._events, heard)
        if self._offer is not None:
            link.change_offer(self._offer, announce=True)
        link.change_level(self._level)
        self._link, self.pid = link, process.pid
        try:
            why = await link.run(beginning)
            await _end(process)
            return f"{why} (status {process.returncode})"
        finally:
            self._link, self.pid = None, 0
            # Without an end by now it is we who stop, or another one is to take its place.
            await _let_go(link, process)
            self._take_connected(ears, replace(self._status, connected=False))
            self._counted = None if self._counted is None else replace(self._counted, notified=0)

    async def _spawn(self) -> Process:
        # What it said to systemd would be taken for the daemon's word.
        environment = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
        return await asyncio.create_subprocess_exec(
            *self._command, stdin=PIPE, stdout=PIPE, env=environment, limit=LINE_LIMIT_BYTES
        )

    def _take_status(self, status: BusStatus, ears: BusEars) -> None:
        # What was dropped before we began was counted by another daemon.
        known = self._counted or BusStatus(dropped=status.dropped)
        self._tally.bus_waiting = status.waiting
        self._tally.bus_notified += max(status.notified - known.notified, 0)
        self._tally.bus_dropped += max(status.dropped - known.dropped, 0)
        self._counted = status
        if status.connected and not self._status.connected:
            logger.info("the message bus is connected")
        elif self._status.connected and not status.connected:
            logger.warning("the message bus is not connected any more")
        self._take_connected(ears, status)

    def _take_connected(self, ears: BusEars, status: BusStatus) -> None:
        was, self._status = self._status.connected, status
        self._tally.bus_connected = status.connected
        if status.connected is not was:
            ears.status(status)


async def _let_go(link: BusLink, process: Process) -> None:
    """Have it end by itself, or else end it."""
    if process.returncode is not None:
        return
    # Not asyncio.timeout: in a task that was cancelled that ends as if it were cancelled again. And nothing here is
    # cancelled: asyncio takes the wait for a pipe's end for the end itself. It comes with the process's.
    finishing = asyncio.create_task(_finish(link, process))
    try:
        await asyncio.wait([finishing], timeout=STOP_S)
    finally:
        await _kill(process)
        await finishing


async def _finish(link: BusLink, process: Process) -> None:
    with contextlib.suppress(OSError):
        await link.finish()
        await process.wait()


async def _end(process: Process) -> None:
    """It is about to end, or hangs, or talks nonsense."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(END_S):
            await process.wait()
    await _kill(process)


async def _kill(process: Process) -> None:
    if process.returncode is None:
        process.kill()
    assert process.stdin is not None
    assert process.stdout is not None
    # asyncio takes a process for ended when its pipes are, too, and has stopped reading one that said too much.
    while await process.stdout.read(LINE_LIMIT_BYTES):
        pass
    with contextlib.suppress(OSError):
        process.stdin.close()
        await process.stdin.wait_closed()
    await process.wait()
