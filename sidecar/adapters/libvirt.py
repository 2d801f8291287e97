"""Libvirt: the one module that imports it.

libvirt's event loop runs in a thread of its own, registered before the connection is opened (keepalive needs that);
its callbacks hand small values over with ``call_soon_threadsafe``. Calls run in two bounded pools, off the loop: one
for reads, and one for writes, so that writes caught behind somebody's job never keep us from looking.

After a reconnect nothing old is used: every call looks its domain up anew, and callbacks of an old connection are
told by its number and dropped.
"""

import asyncio
import contextlib
import json
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar
from uuid import UUID
from xml.etree import ElementTree

import libvirt
import libvirt_qemu
from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential

from sidecar.adapters.qemu_process import find_qemu, run_token
from sidecar.engine.notices import DomainNotice, Happening, LifecycleNotice, PortNotice, RecordNotice
from sidecar.engine.ports import Activity, DomainSnapshot, HostIdentity
from sidecar.errors import DomainGoneError, HypervisorDownError, HypervisorError, JobHeldError
from sidecar.record.agreement import KEY, NAMESPACE, Agreement, Origin, parse_agreement, render_agreement
from sidecar.record.domain_xml import parse_domain_xml

logger = logging.getLogger(__name__)

T = TypeVar("T")

# A read that libvirt does not answer by then is given up; its worker is free when libvirt or keepalive ends it.
READ_TIMEOUT_S = 15.0
READ_WORKERS = 4
WRITE_WORKERS = 8

# Missed pings after which libvirt's client library declares the connection dead.
KEEPALIVE_COUNT = 3

_LIVE, _CONFIG = libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG

_STARTED_ORIGINS = {
    libvirt.VIR_DOMAIN_EVENT_STARTED_BOOTED: Origin.START,
    libvirt.VIR_DOMAIN_EVENT_STARTED_MIGRATED: Origin.MIGRATION,
    libvirt.VIR_DOMAIN_EVENT_STARTED_RESTORED: Origin.RESTORE,
    libvirt.VIR_DOMAIN_EVENT_STARTED_FROM_SNAPSHOT: Origin.SNAPSHOT,
}

# RESUMED/FROM_SNAPSHOT is said of a restored guest, too, so it tells nothing.
_RESUMED_ORIGINS = {libvirt.VIR_DOMAIN_EVENT_RESUMED_MIGRATED: Origin.MIGRATION}

_RUNNING_ORIGINS = {
    libvirt.VIR_DOMAIN_RUNNING_BOOTED: Origin.START,
    libvirt.VIR_DOMAIN_RUNNING_MIGRATED: Origin.MIGRATION,
    libvirt.VIR_DOMAIN_RUNNING_POSTCOPY: Origin.MIGRATION,
    libvirt.VIR_DOMAIN_RUNNING_RESTORED: Origin.RESTORE,
    libvirt.VIR_DOMAIN_RUNNING_FROM_SNAPSHOT: Origin.SNAPSHOT,
}

_INACTIVE = (libvirt.VIR_DOMAIN_NOSTATE, libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_CRASHED)
_NOT_HERE_YET = (libvirt.VIR_DOMAIN_PAUSED_MIGRATION, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP)

_HAPPENINGS = {
    libvirt.VIR_DOMAIN_EVENT_STARTED: Happening.STARTED,
    libvirt.VIR_DOMAIN_EVENT_RESUMED: Happening.RESUMED,
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED: Happening.SUSPENDED,
    libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED: Happening.SUSPENDED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED: Happening.STOPPED,
    libvirt.VIR_DOMAIN_EVENT_CRASHED: Happening.STOPPED,
    libvirt.VIR_DOMAIN_EVENT_DEFINED: Happening.REDEFINED,
    libvirt.VIR_DOMAIN_EVENT_UNDEFINED: Happening.REDEFINED,
}


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
        self._connection: libvirt.virConnect | None = None
        self._number = 0
        self._closed = asyncio.Event()
        self._notify: Callable[[DomainNotice], None] = _ignore
        self._loop = asyncio.get_running_loop()
        self._opener = ThreadPoolExecutor(1, "libvirt-open")
        self._readers = ThreadPoolExecutor(READ_WORKERS, "libvirt-read")
        self._writers = ThreadPoolExecutor(WRITE_WORKERS, "libvirt-write")

    async def run(
        self, connected: Callable[[HostIdentity], Awaitable[None]], notify: Callable[[DomainNotice], None]
    ) -> None:
        """Stay connected until cancelled: open with backoff, register every event anew, say ``connected`` each time."""
        self._notify = notify
        try:
            while True:
                identity = await self._open_until_done()
                try:
                    await connected(identity)
                    await self._closed.wait()
                except HypervisorError as error:
                    logger.warning("libvirt failed right after connecting: %s", error)
                    await asyncio.sleep(1)
                logger.warning("connection to libvirt lost")
                self._drop()
        finally:
            self._drop()
            for pool in (self._opener, self._readers, self._writers):
                pool.shutdown(wait=False, cancel_futures=True)

    async def _open_until_done(self) -> HostIdentity:
        def note(attempt: Any) -> None:
            if attempt.attempt_number in (1, 10) or attempt.attempt_number % 100 == 0:
                logger.warning("cannot connect to libvirt, trying on: %s", attempt.outcome.exception())

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(HypervisorError),
            wait=wait_exponential(0.25, max=5),
            before_sleep=note,
        )
        return await retrying(self._open)

    async def _open(self) -> HostIdentity:
        # No timeout: a libvirtd that hangs is waited for in the opener's one thread; a second try would hang, too.
        self._number += 1
        self._closed.clear()
        self._connection, identity = await self._loop.run_in_executor(self._opener, self._open_blocking, self._number)
        return identity

    def _open_blocking(self, number: int) -> tuple[libvirt.virConnect, HostIdentity]:
        with _translated(None):
            connection = libvirt.open(self._uri)
            connection.setKeepAlive(self._keepalive_s, KEEPALIVE_COUNT)
            connection.registerCloseCallback(self._on_close, number)
            register = connection.domainEventRegisterAny
            register(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_lifecycle, number)
            register(None, libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE, self._on_metadata, number)
            every_domain: Any = None  # which the binding's annotation forbids, and its C code wants
            libvirt_qemu.qemuMonitorEventRegister(connection, every_domain, "VSERPORT_CHANGE", self._on_port, number)
            uuid = ElementTree.fromstring(connection.getCapabilities()).findtext("./host/uuid", "")
            return connection, HostIdentity(connection.getHostname(), uuid)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        self._number += 1
        if connection is not None:
            # Closing asks libvirtd, which may hang: nobody waits for it, and an interpreter that ends even less.
            threading.Thread(target=_close, args=(connection,), name="libvirt-close", daemon=True).start()

    # Events: on libvirt's thread.

    def _hand_over(self, number: int, notice: DomainNotice) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: we are stopping
            self._loop.call_soon_threadsafe(self._receive, number, notice)

    def _on_close(self, _connection: libvirt.virConnect, _reason: int, number: int) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._receive_close, number)

    def _on_lifecycle(self, _c: libvirt.virConnect, domain: libvirt.virDomain, event: int, detail: int, n: int) -> None:
        happening, origin = _HAPPENINGS.get(event), None
        if happening is None:
            return
        if happening is Happening.STARTED:
            origin = _STARTED_ORIGINS.get(detail)
        elif happening is Happening.RESUMED:
            origin = _RESUMED_ORIGINS.get(detail)
            if detail == libvirt.VIR_DOMAIN_EVENT_RESUMED_POSTCOPY:
                happening, origin = Happening.RESUMED_POSTCOPY, Origin.MIGRATION
        self._hand_over(n, LifecycleNotice(UUID(domain.UUIDString()), domain.name(), happening, origin))

    def _on_metadata(self, _c: libvirt.virConnect, domain: libvirt.virDomain, _type: int, uri: str, n: int) -> None:
        if uri == NAMESPACE:
            self._hand_over(n, RecordNotice(UUID(domain.UUIDString())))

    def _on_port(self, _c: Any, domain: Any, _event: str, _s: int, _us: int, details: str, n: int) -> None:
        try:
            port = json.loads(details)
            notice = PortNotice(UUID(domain.UUIDString()), str(port["id"]), bool(port["open"]))
        except (ValueError, KeyError, TypeError) as error:
            logger.warning("QEMU's VSERPORT_CHANGE cannot be read: %s: %s", ascii(details[:200]), error)
            return
        self._hand_over(n, notice)

    # Events: on our loop's thread.

    def _receive(self, number: int, notice: DomainNotice) -> None:
        if number == self._number:
            self._notify(notice)

    def _receive_close(self, number: int) -> None:
        if number == self._number:
            self._closed.set()

    # Calls.

    async def list_domains(self) -> list[tuple[UUID, str]]:
        """See ``Hypervisor``."""
        return await self._read(_list_domains)

    async def find_domain(self, name: str) -> UUID | None:
        """See ``Hypervisor``."""
        return await self._read(partial(_find_domain, name=name))

    async def inspect_domain(self, uuid: UUID) -> DomainSnapshot | None:
        """See ``Hypervisor``."""
        return await self._read(partial(_inspect_domain, uuid=uuid, channel_names=self.channel_names))

    async def is_job_held(self, uuid: UUID) -> bool:
        """See ``Hypervisor``."""
        return await self._read(partial(_is_job_held, uuid=uuid))

    async def is_record_intact(self, uuid: UUID, agreement: Agreement) -> bool:
        """See ``Hypervisor``."""
        return await self._read(partial(_is_record_intact, uuid=uuid, agreement=agreement))

    async def write_record(self, uuid: UUID, agreement: Agreement) -> None:
        """See ``Hypervisor``."""
        call = partial(_write_record, uuid=uuid, agreement=agreement)
        await self._loop.run_in_executor(self._writers, self._call, call)

    async def _read(self, call: Callable[[Any], T]) -> T:
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                return await self._loop.run_in_executor(self._readers, self._call, call)
        except TimeoutError as error:
            raise HypervisorError(f"libvirt did not answer within {READ_TIMEOUT_S:.0f} s") from error

    def _call(self, call: Callable[[Any], T]) -> T:
        connection = self._connection
        if connection is None:
            raise HypervisorDownError("no connection to libvirt")
        with _translated(connection):
            return call(connection)


# The calls themselves, on a pool's thread. The binding's own annotations are wrong in places (state() is no string), so
# connection and domain are untyped here.


def _list_domains(connection: Any) -> list[tuple[UUID, str]]:
    domains = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
    return [(UUID(domain.UUIDString()), domain.name()) for domain in domains]


def _find_domain(connection: Any, name: str) -> UUID | None:
    try:
        return UUID(connection.lookupByName(name).UUIDString())
    except libvirt.libvirtError as error:
        if _is_unknown(error):
            return None
        raise


def _inspect_domain(connection: Any, uuid: UUID, channel_names: tuple[str, ...]) -> DomainSnapshot | None:
    domain = None
    try:
        domain = connection.lookupByUUIDString(str(uuid))
        state, reason = domain.state()
        if state in _INACTIVE:
            return None
        xml = parse_domain_xml(domain.XMLDesc(0), channel_names)
        name = domain.name()
        pid = find_qemu(uuid, name)
        run = run_token(pid)
    except (HypervisorError, libvirt.libvirtError) as error:
        # Whatever failed: when the domain has stopped meanwhile, that is the answer.
        if _is_unknown(error) or (domain is not None and not domain.isActive()):
            return None
        raise
    activity, origin = _judge_state(state, reason)
    return DomainSnapshot(uuid, name, activity, origin, run, pid, xml.channels, xml.record, xml.record_present)


def _judge_state(state: int, reason: int) -> tuple[Activity, Origin | None]:
    if state == libvirt.VIR_DOMAIN_PMSUSPENDED:
        return Activity.PAUSED, None
    if state != libvirt.VIR_DOMAIN_PAUSED:
        return Activity.RUNNING, _RUNNING_ORIGINS.get(reason) if state == libvirt.VIR_DOMAIN_RUNNING else None
    if reason in _NOT_HERE_YET:
        return Activity.INCOMING, None
    return Activity.PAUSED, Origin.SNAPSHOT if reason == libvirt.VIR_DOMAIN_PAUSED_FROM_SNAPSHOT else None


def _is_job_held(connection: Any, uuid: UUID) -> bool:
    domain = connection.lookupByUUIDString(str(uuid))
    try:
        return bool(domain.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE)
    except libvirt.libvirtError as error:
        # "available only on the source host": an incoming migration holds the domain.
        if error.get_error_code() in (
            libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
            libvirt.VIR_ERR_OPERATION_TIMEOUT,
        ):
            return True
        _raise_if_gone(domain, error)
        raise


def _write_record(connection: Any, uuid: UUID, agreement: Agreement) -> None:
    domain = connection.lookupByUUIDString(str(uuid))
    try:
        copies = _copies(domain)
        text = render_agreement(agreement)
        domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, text, KEY, NAMESPACE, sum(copies))
        for copy in copies:
            if _read_record(domain, copy) != agreement:
                raise HypervisorError("the record read back differs from what was written")
    except libvirt.libvirtError as error:
        _raise_if_gone(domain, error)
        raise


def _is_record_intact(connection: Any, uuid: UUID, agreement: Agreement) -> bool:
    domain = connection.lookupByUUIDString(str(uuid))
    return all(_read_record(domain, copy) == agreement for copy in _copies(domain))


def _copies(domain: Any) -> tuple[int, ...]:
    return (_LIVE, _CONFIG) if domain.isPersistent() else (_LIVE,)


def _read_record(domain: Any, copy: int) -> Agreement | None:
    try:
        return parse_agreement(domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, NAMESPACE, copy))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_METADATA:
            return None
        raise


def _is_unknown(error: Exception) -> bool:
    return isinstance(error, libvirt.libvirtError) and error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN


def _raise_if_gone(domain: Any, error: libvirt.libvirtError) -> None:
    if error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID and not domain.isActive():
        raise DomainGoneError(str(error)) from error


@contextlib.contextmanager
def _translated(connection: Any) -> Iterator[None]:
    """Turn libvirt's errors into ours; with a connection, tell a broken one from a refusal."""
    try:
        yield
    except libvirt.libvirtError as error:
        code = error.get_error_code()
        if code == libvirt.VIR_ERR_NO_DOMAIN:
            raise DomainGoneError(str(error)) from error
        if code == libvirt.VIR_ERR_OPERATION_TIMEOUT:
            raise JobHeldError(str(error)) from error
        if connection is None or connection.isAlive() != 1:
            raise HypervisorDownError(str(error)) from error
        raise HypervisorError(str(error)) from error


def _close(connection: libvirt.virConnect) -> None:
    with contextlib.suppress(libvirt.libvirtError):
        connection.unregisterCloseCallback()
        connection.close()


def _remove_timer(timer: int, _opaque: object) -> None:
    libvirt.virEventRemoveTimeout(timer)


def _log_libvirt_error(_context: object, error: tuple[Any, ...]) -> None:
    logger.debug("libvirt: %s", error[2])


def _ignore(_notice: DomainNotice) -> None:
    pass
