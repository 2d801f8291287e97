"""Keeps one domain's record in its XML as it should be: written on change, coalesced, paced, never in a duel."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from uuid import UUID

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
)

from sidecar.engine.ports import Hypervisor
from sidecar.engine.retrying import call_retrying
from sidecar.engine.tally import Tally, WriteOutcome
from sidecar.errors import DomainGoneError, HypervisorDownError, HypervisorError, JobHeldError, RecordChangedError
from sidecar.protocol.budget import Budget
from sidecar.record.agreement import Agreement

logger = logging.getLogger(__name__)

# A guest that flaps makes six writes a minute and channel, six for its tools, and no more. Five go at once; the sixth
# waits a moment, so that it can tell how it ended (and carries "flapping", if that is what it was).
WRITE_LIMIT = 6
WRITE_WINDOW_S = 60.0
LAST_WRITE_WAIT_S = 10.0

# How long somebody else's change of our element is left standing before it is put back, once.
FOREIGN_EDIT_S = 60.0

# After these many failures in a row (about 25 s) the write waits for the domain's next change or event.
ATTEMPTS = 8

# What is paced beside the channels; no channel has such a name.
_NO_CHANNEL = ""
_TOOLS = "\0tools"
_WAIT = wait_exponential(multiplier=0.25, max=5)


class Recorder:
    """Writes the record of one domain while one QEMU process runs it; one write in flight.

    ``want`` says what should stand there; ``run`` sees to it until it is cancelled, or ends by itself when the domain
    is gone. ``written`` is called with each agreement that stands in the XML now.
    """

    def __init__(
        self,
        hypervisor: Hypervisor,
        uuid: UUID,
        label: str,
        recorded: Agreement | None,
        written: Callable[[Agreement], None],
        tally: Tally,
    ) -> None:
        """``recorded`` is what the live XML holds already, when it is this QEMU process's record."""
        self._hypervisor, self._uuid, self._label = hypervisor, uuid, label
        self._recorded = recorded
        self._wanted: Agreement | None = None
        self._written, self._tally = written, tally
        self._at_once = False
        self._work = asyncio.Event()
        self._event = asyncio.Event()
        self._paces: dict[str, _Pace] = {}
        self._echoes = 0
        self._check_at: float | None = None
        self._put_back = self._overwritten = False

    @property
    def recorded(self) -> Agreement | None:
        """What stands in the XML as far as we know; ``None`` before the first write."""
        return self._recorded

    @property
    def settled(self) -> bool:
        """Whether just that stands in the XML what is wanted, and something is."""
        if self._wanted is None or self._overwritten:
            return False
        return self._wanted is self._recorded or self._wanted == self._recorded

    def want(self, agreement: Agreement, *, at_once: bool = False) -> None:
        """This should stand in the XML; ``at_once``: no job can hold the domain now, do not ask."""
        self._at_once |= at_once
        if agreement != self._wanted:
            self._wanted = agreement
            self._put_back = False
            self._work.set()

    def look_again(self, *, at_once: bool = False) -> None:
        """Something happened to the domain: a job that held it may have ended."""
        self._at_once |= at_once
        self._event.set()
        self._work.set()

    def record_touched(self) -> None:
        """Libvirt reports a write to our element: our own echo, or somebody else's edit."""
        if self._echoes:
            self._echoes -= 1
        else:
            self._note_foreign_edit()

    def _note_foreign_edit(self) -> None:
        if self._check_at is None and not self._put_back and self._recorded is not None:
            self._check_at = _loop_time() + FOREIGN_EDIT_S
            self._work.set()

    def connection_renewed(self) -> None:
        """Libvirt was away: events, echoes among them, are lost."""
        self._echoes = 0
        self.look_again()

    async def run(self) -> None:
        """Write what is wanted, whenever it differs from what stands there."""
        try:
            while True:
                await self._wait_for_work()
                await self._check_foreign_edit()
                if self._differs:
                    await self._pace()
                if self._differs:  # what flips may be back by now, and then libvirt is not even asked
                    await self._write_until_done()
                else:
                    self._at_once = False  # it held for this moment, and jobs come and go
        except DomainGoneError:
            logger.info("%s: gone before its record was written", self._label)

    @property
    def _differs(self) -> bool:
        return self._wanted is not None and self._wanted != self._recorded

    async def _wait_for_work(self) -> None:
        try:
            async with asyncio.timeout_at(self._check_at):
                await self._work.wait()
        except TimeoutError:
            return
        self._work.clear()

    async def _check_foreign_edit(self) -> None:
        if self._check_at is None or _loop_time() < self._check_at:
            return
        self._check_at = None
        try:
            intact = self._recorded is None or await self._hypervisor.is_record_intact(self._uuid, self._recorded)
        except DomainGoneError:
            raise
        except HypervisorError as error:
            logger.warning("%s: cannot check the record: %s", self._label, error)
            self._check_at = _loop_time() + FOREIGN_EDIT_S
            return
        self._overwritten = False
        if not intact:
            logger.warning("%s: somebody changed the record; putting it back, once", self._label)
            self._put_back, self._recorded = True, None

    async def _pace(self) -> None:
        """Wait until one of the rows that changed may be written; another may join them meanwhile."""
        while (due := self._due()) > _loop_time():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._work.wait()
            self._work.clear()

    def _due(self) -> float:
        return min(self._paces[name].due(_loop_time()) for name in self._changed())

    def _changed(self) -> list[str]:
        """The rows that differ from what stands there; all channels when it is something else that differs."""
        known = {} if self._recorded is None else {row.name: row for row in self._recorded.channels}
        wanted = () if self._wanted is None else self._wanted.channels
        changed = [row.name for row in wanted if known.get(row.name) != row]
        if self._recorded is not None and self._wanted is not None and self._recorded.tools != self._wanted.tools:
            changed.append(_TOOLS)
        changed = changed or [row.name for row in wanted] or [_NO_CHANNEL]
        for name in changed:
            self._paces.setdefault(name, _Pace())
        return changed

    async def _write_until_done(self) -> None:
        try:
            await call_retrying(self._write_once, self._make_write_retrying)
        except DomainGoneError:
            raise
        except HypervisorDownError:
            logger.info("%s: libvirt is away; the record is written when it is back", self._label)
        except HypervisorError as error:
            logger.warning("%s: the record could not be written, waiting for the next change: %s", self._label, error)

    def _make_write_retrying(self) -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_exception(_is_worth_retrying),
            wait=_WAIT,
            stop=stop_after_attempt(ATTEMPTS),
            sleep=self._sleep,
            before_sleep=self._count_retry,
            reraise=True,
        )

    async def _write_once(self) -> None:
        await self._wait_for_job()
        self._at_once = False
        agreement = self._wanted
        if agreement is None or agreement == self._recorded:
            return
        for name in self._changed():
            self._paces[name].take(_loop_time())
        self._echoes += 1
        try:
            await self._hypervisor.write_record(self._uuid, agreement)
        except RecordChangedError:
            self._tally.record_writes[WriteOutcome.CHANGED_BY_OTHERS] += 1
            self._recorded, self._overwritten = agreement, True
            self._note_foreign_edit()  # somebody was quicker than our reading back: no duel
        except HypervisorError as error:
            self._echoes -= self._echoes > 0
            if not isinstance(error, DomainGoneError):
                self._tally.record_writes[WriteOutcome.FAILED] += 1
            raise
        else:
            self._tally.record_writes[WriteOutcome.WRITTEN] += 1
            self._recorded, self._overwritten = agreement, False
            self._written(agreement)
        if self._wanted != agreement:
            self._work.set()

    def _count_retry(self, _attempt: RetryCallState) -> None:
        self._tally.record_retries += 1

    async def _wait_for_job(self) -> None:
        """A held job is no failure: look again at the domain's next event, and now and then, until it ends."""
        await call_retrying(
            self._require_no_job,
            lambda: AsyncRetrying(retry=retry_if_exception_type(JobHeldError), wait=_WAIT, sleep=self._sleep),
        )

    async def _require_no_job(self) -> None:
        self._event.clear()
        if not self._at_once and await self._hypervisor.is_job_held(self._uuid):
            raise JobHeldError(f"{self._label}: a job holds the domain")

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            pass


class _Pace:
    """How often one row may be written."""

    def __init__(self) -> None:
        self._budget = Budget(WRITE_LIMIT, WRITE_WINDOW_S)
        self._last_write = float("-inf")

    def due(self, now: float) -> float:
        """When it may be written next."""
        if self._budget.used(now) == WRITE_LIMIT - 1:
            return max(self._budget.next_free(), self._last_write + LAST_WRITE_WAIT_S)
        return self._budget.next_free()

    def take(self, now: float) -> None:
        """It is being written."""
        self._budget.take(now)
        self._last_write = now


def _is_worth_retrying(error: BaseException) -> bool:
    return isinstance(error, HypervisorError) and not isinstance(error, DomainGoneError | HypervisorDownError)


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
