"""Keeps a channel's socket connected, and leaves it to another program that had it first.

QEMU serves one client a socket; a second one is accepted by the kernel, queued, and served when the first leaves. What
it says in the queue reaches the guest then. So we look before we dial, dial again only when nobody has been there for a
while, and let those through who queue behind us on a channel that was theirs.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Generic, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_exponential

from sidecar.engine.ports import Connection, Dialer
from sidecar.engine.retrying import call_retrying
from sidecar.errors import ForeignSocketError, TransportError
from sidecar.protocol.states import Fault

logger = logging.getLogger(__name__)

ConnectionT = TypeVar("ConnectionT", bound=Connection)

# A program that holds the channel may restart at any time and must find it free: it is dialled again only after two
# looks, the first time apart, found nobody there. Should the program come back all the same after we have taken the
# channel, it queues behind us, and is let through at the next look.
BUSY_RETRY_FIRST_S = 30.0
BUSY_RETRY_LAST_S = 300.0

# A client that has just closed its end is gone for QEMU within this time.
LEAVE_S = 0.5

# A peer that accepts and hangs up at once must not make us spin.
HANG_UP_PAUSE_S = 0.3

# While a domain starts, its socket is not there yet, and for some milliseconds it is libvirtd's own, which hands it to
# QEMU. Only what lasts longer than these attempts (about half a second) is a fault worth a word.
QUIET_ATTEMPTS = 5
_DIAL_WAIT = wait_exponential(multiplier=0.03, max=30)


class Ending(Enum):
    """How a connection ended."""

    BROKEN = "QEMU closed it"
    LET_GO = "we did not want it any more"
    YIELDED = "another program has the channel, or queues for what was its own"


class Attachment(Generic[ConnectionT]):
    """The connection to one channel's socket; ``run`` keeps it, the rest is told by the channel.

    ``dial`` makes a connection; ``dialer`` is looked through at who else is there. ``connected`` is called when a
    connection is up, ``disconnected`` when it is down or could not be brought up (not when it was let go).
    ``was_anothers``: another program is known to have had the channel, so that it is not dialled before it was seen
    free.
    """

    def __init__(
        self,
        path: str,
        label: str,
        dialer: Dialer,
        dial: Callable[[], Awaitable[ConnectionT]],
        connected: Callable[[], None],
        disconnected: Callable[[Fault], None],
        *,
        was_anothers: bool,
    ) -> None:
        self._path, self._label, self._dialer = path, label, dialer
        self._dial_socket, self._connected, self._disconnected = dial, connected, disconnected
        self._connection: ConnectionT | None = None
        self._ending = Ending.BROKEN
        self._was_anothers = was_anothers
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._hurried = asyncio.Event()

    @property
    def wanted(self) -> bool:
        """Whether there should be a connection."""
        return self._wanted.is_set()

    @property
    def connection(self) -> ConnectionT | None:
        """The connection, while there is one."""
        return self._connection

    def unread_bytes(self) -> int:
        """How many of our bytes QEMU has not read."""
        return 0 if self._connection is None else self._connection.unread_bytes()

    def want(self) -> None:
        """There should be a connection."""
        self._wanted.set()

    def hurry(self) -> None:
        """The socket ought to be there by now: a pause before it is dialled again ends."""
        self._hurried.set()

    def let_go(self) -> None:
        """No connection is wanted until ``want``."""
        self._wanted.clear()
        self._close(Ending.LET_GO)

    def drop_unread(self) -> None:
        """What QEMU has not read nobody may read any more: hang up, upon which QEMU forgets it, and dial anew."""
        if self.unread_bytes():
            self._close(Ending.BROKEN)

    def give_way(self) -> None:
        """Another program has the channel: leave it to them, and look again after a while."""
        self._close(Ending.YIELDED)

    def close(self) -> None:
        """Close the connection for good; ``run`` is being cancelled."""
        self._close(Ending.LET_GO)

    def _close(self, ending: Ending) -> None:
        if self._connection is not None:
            self._ending = ending
            self._connection.close()
            self._connection = None

    async def run(self) -> None:
        """Keep the channel connected while that is wanted; ends only by being cancelled."""
        if self._was_anothers:
            self._disconnected(Fault.BUSY)
            await self._wait_until_free()
        while True:
            await self._wanted.wait()
            match await self._serve():
                case Ending.BROKEN:
                    self._disconnected(Fault.DISCONNECTED)
                    await asyncio.sleep(HANG_UP_PAUSE_S)
                case Ending.YIELDED:
                    logger.warning("%s: another program holds the channel; it is left to it", self._label)
                    self._was_anothers = True
                    self._disconnected(Fault.BUSY)
                    await self._wait_until_free()

    async def _serve(self) -> Ending:
        """Dial, and return when the connection is over."""
        try:
            connection = await call_retrying(self._dial, self._make_retrying)
        except TransportError:
            return Ending.LET_GO
        if connection is None:
            return Ending.YIELDED
        if not self.wanted:
            connection.close()
            return Ending.LET_GO
        self._connection, self._ending = connection, Ending.BROKEN
        logger.debug("%s: attached", self._label)
        self._connected()
        await self._wait_closed(connection)
        self._connection = None
        return self._ending

    def _make_retrying(self) -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_exception(self._is_worth_dialling_again),
            wait=_DIAL_WAIT,
            sleep=self._pause,
            before_sleep=self._note_failure,
            reraise=True,
        )

    async def _dial(self) -> ConnectionT | None:
        """A connection, or ``None`` when another program has the channel."""
        self._hurried.clear()
        if await self._is_held():
            return None
        return await self._dial_socket()

    async def _is_held(self) -> bool:
        if not await self._dialer.is_in_use(self._path):
            return False
        await asyncio.sleep(LEAVE_S)
        return await self._dialer.is_in_use(self._path)

    def _is_worth_dialling_again(self, error: BaseException) -> bool:
        return isinstance(error, TransportError) and self.wanted

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurried.wait()

    def _note_failure(self, attempt: RetryCallState) -> None:
        if attempt.attempt_number < QUIET_ATTEMPTS:
            return
        error = attempt.outcome.exception() if attempt.outcome else None
        if attempt.attempt_number == QUIET_ATTEMPTS:
            logger.warning("%s: %s", self._label, error)
        self._disconnected(Fault.FOREIGN if isinstance(error, ForeignSocketError) else Fault.UNREACHABLE)

    async def _wait_closed(self, connection: ConnectionT) -> None:
        while self._was_anothers:
            try:
                async with asyncio.timeout(BUSY_RETRY_FIRST_S):
                    return await connection.wait_closed()
            except TimeoutError:
                if await self._dialer.is_awaited(self._path):
                    return self.give_way()
        return await connection.wait_closed()

    async def _wait_until_free(self) -> None:
        wait_s = BUSY_RETRY_FIRST_S
        free_looks = 0
        while free_looks < 2:
            await asyncio.sleep(BUSY_RETRY_FIRST_S if free_looks else wait_s)
            free = not await self._dialer.is_in_use(self._path)
            free_looks = free_looks + 1 if free else 0
            wait_s = min(2 * wait_s, BUSY_RETRY_LAST_S)
