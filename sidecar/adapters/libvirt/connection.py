"""The connection to libvirt: opened with backoff, its events handed over, its calls made off the loop."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar
from uuid import UUID
from xml.etree import ElementTree

import libvirt
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential

from sidecar.adapters.libvirt import calls
from sidecar.adapters.libvirt.agent_calls import AgentCalls
from sidecar.adapters.libvirt.events import read_lifecycle, read_port
from sidecar.adapters.libvirt.handle import Handle
from sidecar.engine.notices import AgentNotice, DomainNotice, LookNotice, RecordNotice
from sidecar.engine.ports import DomainSnapshot, HostIdentity
from sidecar.errors import HypervisorDownError, HypervisorError, OutcomeUnknownError
from sidecar.record.agreement import NAMESPACE, Agreement
from sidecar.record.policy import NAMESPACE as POLICY_NAMESPACE

logger = logging.getLogger(__name__)

T = TypeVar("T")

# A read that libvirt does not answer by then is given up; its worker is free when libvirt or keepalive ends it.
READ_TIMEOUT_S = 15.0
READ_WORKERS = 4
JOB_WORKERS = 4
WRITE_WORKERS = 8

# Missed pings after which libvirt's client library declares the connection dead.
KEEPALIVE_COUNT = 3

# A libvirt that lets us in and then fails is tried again after this long.
RECONNECT_S = 1.0


class EventThread:
    """libvirt's default event loop in its own thread; one in a process."""

    def __init__(self) -> None:
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="libvirt-events", daemon=True)

    def start(self) -> None:
        """Register the loop with libvirt and run it; must come before the first connection."""
        libvirt.registerErrorHandler(_log_libvirt_error, None)
        libvirt.virEventRegisterDefaultImpl()
        self._thread.start()

    def stop(self) -> None:
        """End the thread; a timer of zero wakes it from its poll."""
        self._stopping = True
        libvirt.virEventAddTimeout(0, _remove_timer, None)
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stopping:
            libvirt.virEventRunDefaultImpl()


class Libvirt:
    """See ``engine.ports.Hypervisor``. ``run`` keeps the connection; events go to ``notify``."""

    def __init__(self, uri: str, keepalive_s: int, channel_names: tuple[str, ...]) -> None:
        self._uri, self._keepalive_s = uri, keepalive_s
        self.channel_names = channel_names
        self._handle: Handle | None = None
        self._number = 0
        self._closed = asyncio.Event()
        self._notify: Callable[[DomainNotice], None] = _ignore
        self._loop = asyncio.get_running_loop()
        self._opener = ThreadPoolExecutor(1, "libvirt-open")
        self._readers = ThreadPoolExecutor(READ_WORKERS, "libvirt-read")
        self._askers = ThreadPoolExecutor(JOB_WORKERS, "libvirt-job")
        self._writers = ThreadPoolExecutor(WRITE_WORKERS, "libvirt-write")
        self._writing: dict[UUID, asyncio.Future[None]] = {}
        self._agent_calls = AgentCalls(uri, keepalive_s)

    async def run(
        self,
        connected: Callable[[HostIdentity], Awaitable[None]],
        disconnected: Callable[[], None],
        notify: Callable[[DomainNotice], None],
    ) -> None:
        """Stay connected until cancelled: open with backoff, register every event anew, say ``connected`` each time.

        ``disconnected`` is called for each connection that was lost or gave no use, not for the one open at the end.
        """
        self._notify = notify
        try:
            while True:
                identity = await self._open_until_done()
                try:
                    await connected(identity)
                    await self._closed.wait()
                    logger.warning("connection to libvirt lost")
                    disconnected()
                except HypervisorError as error:
                    logger.warning("libvirt failed right after connecting: %s", error)
                    disconnected()
                    await asyncio.sleep(RECONNECT_S)
                self._drop()
        finally:
            self._drop()
            for pool in (self._opener, self._readers, self._askers, self._writers):
                pool.shutdown(wait=False, cancel_futures=True)
            self._agent_calls.shutdown()

    def wait_stopped(self, limit_s: float) -> int:
        """After ``run``: wait for the threads of ours that libvirt still holds; returns how many it holds on to.

        Blocks for up to ``limit_s`` seconds; for the very end of the program.
        """
        threads = [thread for thread in threading.enumerate() if thread.name.startswith("libvirt-")]
        end = time.monotonic() + limit_s
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        return sum(thread.is_alive() for thread in threads)

    async def _open_until_done(self) -> HostIdentity:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(HypervisorError),
            wait=wait_exponential(0.25, max=5),
            before_sleep=_note_failure,
        )
        return await retrying(self._open)

    async def _open(self) -> HostIdentity:
        # No timeout: a libvirtd that hangs is waited for in the opener's one thread; a second try would hang, too.
        self._number += 1
        self._closed.clear()
        self._handle, identity = await self._loop.run_in_executor(self._opener, self._open_blocking, self._number)
        return identity

    def _open_blocking(self, number: int) -> tuple[Handle, HostIdentity]:
        with calls.translated(None):
            handle = Handle(libvirt.open(self._uri))
            try:
                return handle, self._prepare(handle, number)
            except BaseException:
                handle.close()
                raise

    def _prepare(self, handle: Handle, number: int) -> HostIdentity:
        handle.connection.setKeepAlive(self._keepalive_s, KEEPALIVE_COUNT)
        handle.register_close(self._on_close, number)
        handle.register_event(libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_lifecycle, number)
        handle.register_event(libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE, self._on_metadata, number)
        handle.register_event(libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, self._on_agent, number)
        handle.register_event(libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, self._on_device, number)
        handle.register_event(libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, self._on_device, number)
        handle.register_monitor("VSERPORT_CHANGE", self._on_port, number)
        uuid = ElementTree.fromstring(handle.connection.getCapabilities()).findtext("./host/uuid", "")
        return HostIdentity(handle.connection.getHostname(), uuid)

    def _drop(self) -> None:
        handle, self._handle = self._handle, None
        self._number += 1
        if handle is not None:
            # Closing asks libvirtd, which may hang: nobody waits for it, and an interpreter that ends even less.
            threading.Thread(target=handle.close, name="libvirt-close", daemon=True).start()

    # Events: on libvirt's thread.

    def _hand_over(self, number: int, notice: DomainNotice) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: we are stopping
            self._loop.call_soon_threadsafe(self._receive, number, notice)

    def _on_close(self, _connection: libvirt.virConnect, _reason: int, number: int) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._receive_close, number)

    def _on_lifecycle(self, _c: libvirt.virConnect, domain: libvirt.virDomain, event: int, detail: int, n: int) -> None:
        notice = read_lifecycle(UUID(domain.UUIDString()), domain.name(), event, detail)
        if notice is not None:
            self._hand_over(n, notice)

    def _on_metadata(self, _c: libvirt.virConnect, domain: libvirt.virDomain, _type: int, uri: str, n: int) -> None:
        if uri == NAMESPACE:
            self._hand_over(n, RecordNotice(UUID(domain.UUIDString())))
        elif uri == POLICY_NAMESPACE:
            self._hand_over(n, LookNotice(UUID(domain.UUIDString())))  # it may be broken now

    def _on_agent(self, _c: libvirt.virConnect, domain: libvirt.virDomain, state: int, _reason: int, n: int) -> None:
        connected = state == libvirt.VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED
        self._hand_over(n, AgentNotice(UUID(domain.UUIDString()), connected))

    def _on_device(self, _c: libvirt.virConnect, domain: libvirt.virDomain, _alias: str, n: int) -> None:
        self._hand_over(n, LookNotice(UUID(domain.UUIDString())))  # it may be a channel

    def _on_port(self, _c: Any, domain: Any, _event: str, _s: int, _us: int, details: str, n: int) -> None:
        try:
            self._hand_over(n, read_port(UUID(domain.UUIDString()), details))
        except ValueError as error:
            logger.warning("QEMU's VSERPORT_CHANGE cannot be read: %s", error)

    # Events: on our loop's thread.

    def _receive(self, number: int, notice: DomainNotice) -> None:
        if number == self._number:
            self._notify(notice)

    def _receive_close(self, number: int) -> None:
        if number == self._number:
            self._closed.set()

    def _receive_broken(self, handle: Handle) -> None:
        if handle is self._handle:
            self._closed.set()

    # Calls.

    async def list_domains(self) -> list[tuple[UUID, str]]:
        """See ``Hypervisor``."""
        return await self._ask(self._readers, calls.list_domains)

    async def find_domain(self, name: str) -> UUID | None:
        """See ``Hypervisor``."""
        return await self._ask(self._readers, partial(calls.find_domain, name=name))

    async def inspect_domain(self, uuid: UUID) -> DomainSnapshot | None:
        """See ``Hypervisor``."""
        call = partial(calls.inspect_domain, uuid=uuid, channel_names=self.channel_names)
        return await self._ask(self._readers, call)

    async def is_job_held(self, uuid: UUID) -> bool:
        """See ``Hypervisor``."""
        return await self._ask(self._askers, partial(calls.is_job_held, uuid=uuid))

    async def is_record_intact(self, uuid: UUID, agreement: Agreement) -> bool:
        """See ``Hypervisor``."""
        return await self._ask(self._readers, partial(calls.is_record_intact, uuid=uuid, agreement=agreement))

    async def write_record(self, uuid: UUID, agreement: Agreement) -> None:
        """See ``Hypervisor``. A write that was cancelled goes on in libvirt, and the next one waits for it."""
        while (earlier := self._writing.get(uuid)) is not None:
            await asyncio.wait([earlier])
        call = partial(calls.write_record, uuid=uuid, agreement=agreement)
        writing = self._loop.run_in_executor(self._writers, self._call, call)
        self._writing[uuid] = writing
        writing.add_done_callback(partial(self._forget_write, uuid))
        await asyncio.shield(writing)

    async def call_agent(
        self, uuid: UUID, request: str, answer_s: float, wait_s: float, *, wanted: Callable[[], bool], suspect: bool
    ) -> str:
        """See ``Hypervisor``."""
        if self._handle is None:
            raise HypervisorDownError("no connection to libvirt")
        return await self._agent_calls.call(uuid, request, answer_s, wait_s, wanted=wanted, suspect=suspect)

    def _forget_write(self, uuid: UUID, writing: asyncio.Future[None]) -> None:
        if self._writing.get(uuid) is writing:
            del self._writing[uuid]
        if not writing.cancelled():
            writing.exception()  # whoever wanted it may be gone, and then nobody else takes it

    async def _ask(self, pool: ThreadPoolExecutor, call: Callable[[Any], T]) -> T:
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                return await self._loop.run_in_executor(pool, self._call, call)
        except TimeoutError as error:
            raise OutcomeUnknownError(f"libvirt did not answer within {READ_TIMEOUT_S:.0f} s") from error

    def _call(self, call: Callable[[Any], T]) -> T:
        handle = self._handle
        if handle is None:
            raise HypervisorDownError("no connection to libvirt")
        try:
            with handle.used() as connection, calls.translated(connection):
                return call(connection)
        except (HypervisorDownError, OutcomeUnknownError):
            # Of two calls under way when keepalive gives up, libvirt 9.0 ends one. The other waits on for a libvirtd
            # that hangs, and until it returns the close callback is not called.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._receive_broken, handle)
            raise


def _note_failure(attempt: RetryCallState) -> None:
    number = attempt.attempt_number
    if attempt.outcome is not None and (number in (1, 10) or number % 100 == 0):
        logger.warning("cannot connect to libvirt, trying on: %s", attempt.outcome.exception())


def _remove_timer(timer: int, _opaque: object) -> None:
    libvirt.virEventRemoveTimeout(timer)


def _log_libvirt_error(_context: object, error: tuple[Any, ...]) -> None:
    logger.debug("libvirt: %s", error[2])


def _ignore(_notice: DomainNotice) -> None:
    pass
