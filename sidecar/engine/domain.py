"""One domain: takes notices one after the other, looks at libvirt when in doubt, and hands over to its stay."""

import asyncio
import contextlib
import logging
from uuid import UUID

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from sidecar.engine.notices import (
    AgentNotice,
    DomainNotice,
    Happening,
    LifecycleNotice,
    LookNotice,
    PortNotice,
    RecordNotice,
)
from sidecar.engine.ports import Activity, DomainSnapshot
from sidecar.engine.retrying import call_retrying
from sidecar.engine.settings import Surroundings
from sidecar.engine.stay import Stay, Turn
from sidecar.errors import DomainGoneError, HypervisorDownError, HypervisorError
from sidecar.record.agreement import Origin

logger = logging.getLogger(__name__)

# More than libvirt sends of one domain while a look is under way. What does not fit is replaced by one more look.
INBOX_LIMIT = 64

# A look that libvirt refused, although it is there, is tried again after this long.
LOOK_AGAIN_S = 5.0


class Domain:
    """See the module. ``notify`` never blocks; ``run`` returns when the domain is gone, and ``closed`` is set then.

    ``seen`` is set by the first look that libvirt let us take.
    """

    def __init__(self, uuid: UUID, name: str, surroundings: Surroundings) -> None:
        self.uuid, self.name = uuid, name
        self.closed = self.seen = False
        self._surroundings = surroundings
        self._inbox: asyncio.Queue[DomainNotice] = asyncio.Queue(INBOX_LIMIT)
        self._overflowed = False
        self._look_pending = False
        self._owed_look: LookNotice | None = None
        self._owed_at = 0.0
        self._policy_problem: str | None = None
        self._stay: Stay | None = None
        self._task: asyncio.Task[None] | None = None

    def notify(self, notice: DomainNotice) -> None:
        """Take a notice; a look that is pending already is not queued twice."""
        look = isinstance(notice, LookNotice)
        if look and self._look_pending:
            return
        try:
            self._inbox.put_nowait(notice)
        except asyncio.QueueFull:
            self._overflowed = True
        else:
            self._look_pending |= look

    def settings_changed(self) -> None:
        """The configuration was read again."""
        if self._stay is not None:
            self._stay.settings_changed()

    def connection_renewed(self) -> None:
        """Libvirt was away: look again, and believe no old event."""
        if self._stay is not None:
            self._stay.connection_renewed()
        self.notify(LookNotice(self.uuid))

    @property
    def stay(self) -> Stay | None:
        """The stay of its QEMU process; ``None`` while it does not run, or was not looked at yet."""
        return self._stay

    def require_stay(self) -> Stay:
        """Likewise.

        Raises:
            DomainGoneError: There is none.
        """
        if self._stay is None:
            raise DomainGoneError(f"domain {self.name!a} does not run here")
        return self._stay

    async def run(self) -> None:
        """Handle notices until the domain is gone."""
        try:
            async with asyncio.TaskGroup() as group:
                while not await self._handle_next(group):
                    pass
                await self._end_stay()
        finally:
            self.closed = True

    async def _handle_next(self, group: asyncio.TaskGroup) -> bool:
        """Handle one notice; says whether the domain is gone and nothing more was said of it."""
        match notice := await self._next_notice():
            case LookNotice(first_sight=first_sight):
                self._look_pending = False
                await self._look(group, came=Origin.ATTACH if first_sight else None)
            case LifecycleNotice():
                await self._follow(notice, group)
            case PortNotice(alias=alias, opened=opened) if self._stay is not None:
                self._stay.port_changed(alias, opened)
            case AgentNotice(connected=connected) if self._stay is not None:
                self._stay.agent_changed(connected)
            case RecordNotice() if self._stay is not None:
                self._stay.record_touched()
        return self._stay is None and self._inbox.empty() and self._owed_look is None

    async def _next_notice(self) -> DomainNotice:
        # What overflowed is older than a look, and newer than what is queued.
        if self._overflowed and self._inbox.empty():
            self._overflowed = False
            if self._stay is not None:
                self._stay.reports_lost()
            return LookNotice(self.uuid)
        owed, loop = self._owed_look, asyncio.get_running_loop()
        if owed is None:
            return await self._inbox.get()
        if loop.time() < self._owed_at:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._owed_at):
                    return await self._inbox.get()
        return owed

    async def _follow(self, notice: LifecycleNotice, group: asyncio.TaskGroup) -> None:
        stay = self._stay
        match notice.happening:
            case Happening.STOPPED:
                await self._end_stay()
            case Happening.STARTED | Happening.CRASHED:
                await self._look(group, came=notice.origin)
            case Happening.REDEFINED:
                if stay is not None:
                    stay.record_touched()
            case _ if stay is None:
                await self._look(group, came=notice.origin)
            case Happening.RESUMED:
                await self._resume(stay, notice, group)
            case Happening.RESUMED_POSTCOPY:
                stay.turn(Turn.RUNS, notice.origin)
            case Happening.SUSPENDED:
                stay.turn(Turn.STANDS)

    async def _resume(self, stay: Stay, notice: LifecycleNotice, group: asyncio.TaskGroup) -> None:
        # The job that brought a guest here has only its tail left; but an operator may resume a guest under any other.
        job_over = stay.unrecorded or notice.origin is Origin.MIGRATION
        if stay.expected and notice.origin is None and stay.origin is None:
            await self._look(group)  # STARTED follows, and libvirt knows already how the domain came
        if self._stay is stay:
            stay.turn(Turn.RUNS, notice.origin, job_over=job_over)

    async def _look(self, group: asyncio.TaskGroup, *, came: Origin | None = None) -> None:
        """Look at libvirt; ``came`` is how the domain came, where the notice that makes us look tells."""
        try:
            snapshot = await self._inspect()
        except HypervisorError as error:
            # When libvirt is back every domain is looked at anyway; one that it refuses is tried again.
            down = isinstance(error, HypervisorDownError)
            level = logging.DEBUG if self._owed_look else logging.INFO if down else logging.WARNING
            logger.log(level, "%s: cannot look at the domain: %s", ascii(self.name), error)
            self._owed_look = None if down else LookNotice(self.uuid, first_sight=came is Origin.ATTACH)
            self._owed_at = asyncio.get_running_loop().time() + LOOK_AGAIN_S
            return
        self._owed_look, self.seen = None, True
        if snapshot is None:
            await self._end_stay()
            return
        self._report_policy(snapshot)
        if came is Origin.ATTACH and snapshot.activity is Activity.INCOMING:
            came = None  # its guest is not here yet, and will be seen arriving
        if self._stay is None or self._stay.run_token != snapshot.run:
            await self._end_stay()
            self.name = snapshot.name
            self._stay = Stay(snapshot, self._surroundings)
            self._task = group.create_task(self._stay.run(snapshot, came))
            await asyncio.sleep(0)  # the stay takes this look before it is told of anything later
        else:
            self._stay.look(snapshot, came)

    def _report_policy(self, snapshot: DomainSnapshot) -> None:
        """One line when the policy is found broken, or broken otherwise; not at each look."""
        problem = snapshot.policy_problem
        if problem is not None and problem != self._policy_problem:
            logger.warning("%s: bad-policy: it refuses nothing: %s", ascii(snapshot.name), problem)
        self._policy_problem = problem

    async def _inspect(self) -> DomainSnapshot | None:
        return await call_retrying(
            lambda: self._surroundings.hypervisor.inspect_domain(self.uuid),
            lambda: AsyncRetrying(
                retry=retry_if_exception_type(HypervisorError),
                wait=wait_exponential(multiplier=0.25, max=2),
                stop=stop_after_attempt(4),
                reraise=True,
            ),
        )

    async def _end_stay(self) -> None:
        stay, self._stay = self._stay, None
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        if stay is not None:
            stay.end()
