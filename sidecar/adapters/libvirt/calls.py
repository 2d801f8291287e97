"""The blocking calls, for a pool's thread, and what libvirt's errors are in ours.

Each call looks its domain up anew and runs inside ``translated``. The binding's own annotations are wrong in places
(``state()`` is no string), so connection and domain are untyped here.
"""

import contextlib
from collections.abc import Iterator
from typing import Any
from uuid import UUID
from xml.etree import ElementTree

import libvirt

from sidecar.adapters.libvirt.events import judge_state
from sidecar.adapters.qemu_process import find_qemu, run_token
from sidecar.engine.ports import DomainSnapshot
from sidecar.errors import (
    DomainGoneError,
    HypervisorDownError,
    HypervisorError,
    JobHeldError,
    OutcomeUnknownError,
    RecordChangedError,
)
from sidecar.record.agreement import KEY, NAMESPACE, Agreement, parse_agreement, render_agreement
from sidecar.record.domain_xml import parse_domain_xml

_LIVE, _CONFIG = libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG

# What an incoming migration, which holds the domain, and a job that does not let go answer to jobInfo.
_HELD = (libvirt.VIR_ERR_OPERATION_UNSUPPORTED, libvirt.VIR_ERR_OPERATION_TIMEOUT)


@contextlib.contextmanager
def translated(connection: Any) -> Iterator[None]:
    """Turn libvirt's errors into ours; with a connection, tell a broken one from a refusal.

    Raises:
        DomainGoneError: There is no such domain.
        JobHeldError: Another job held the domain for too long.
        HypervisorDownError: The connection is broken, or, without one, could not be made.
        HypervisorError: Any other failure, XML that cannot be parsed among them.
    """
    try:
        yield
    except libvirt.libvirtError as error:
        code = error.get_error_code()
        if code == libvirt.VIR_ERR_NO_DOMAIN:
            raise DomainGoneError(str(error)) from error
        if code == libvirt.VIR_ERR_OPERATION_TIMEOUT:
            raise JobHeldError(str(error)) from error
        if connection is None or not is_alive(connection):
            raise HypervisorDownError(str(error)) from error
        raise HypervisorError(str(error)) from error
    except ElementTree.ParseError as error:
        raise HypervisorError(f"XML from libvirt cannot be parsed: {error}") from error


def list_domains(connection: Any) -> list[tuple[UUID, str]]:
    """See ``Hypervisor``."""
    domains = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
    return [(UUID(domain.UUIDString()), domain.name()) for domain in domains]


def find_domain(connection: Any, name: str) -> UUID | None:
    """See ``Hypervisor``."""
    try:
        return UUID(connection.lookupByName(name).UUIDString())
    except libvirt.libvirtError as error:
        if _is_unknown(error):
            return None
        raise


def inspect_domain(connection: Any, uuid: UUID, channel_names: tuple[str, ...]) -> DomainSnapshot | None:
    """See ``Hypervisor``."""
    domain = None
    try:
        domain = connection.lookupByUUIDString(str(uuid))
        if not domain.isActive():
            return None
        state, reason = domain.state()
        xml = parse_domain_xml(domain.XMLDesc(0), channel_names)
        name = domain.name()
        pid = find_qemu(uuid, name)
        run = run_token(pid)
    except (HypervisorError, libvirt.libvirtError) as error:
        # Whatever failed: when the domain has stopped meanwhile, that is the answer.
        if _is_unknown(error) or (domain is not None and not domain.isActive()):
            return None
        raise
    activity, origin = judge_state(state, reason)
    return DomainSnapshot(
        uuid=uuid,
        name=name,
        activity=activity,
        origin=origin,
        run=run,
        pid=pid,
        channels=xml.channels,
        record=xml.record,
        record_present=xml.record_present,
        policy=xml.policy,
        policy_problem=xml.policy_problem,
        shows_tools=xml.shows_tools,
    )


def is_job_held(connection: Any, uuid: UUID) -> bool:
    """See ``Hypervisor``."""
    domain = connection.lookupByUUIDString(str(uuid))
    try:
        if domain.jobInfo()[0] == libvirt.VIR_DOMAIN_JOB_NONE:
            return False
        # A backup lets changes through, and may take all night.
        operation = domain.jobStats().get(libvirt.VIR_DOMAIN_JOB_OPERATION)
        return bool(operation != libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP)
    except libvirt.libvirtError as error:
        if error.get_error_code() in _HELD:
            return True
        _raise_if_gone(domain, error)
        raise


def write_record(connection: Any, uuid: UUID, agreement: Agreement) -> None:
    """See ``Hypervisor``."""
    domain = connection.lookupByUUIDString(str(uuid))
    try:
        _require_run(domain, uuid, agreement.run)
        copies = _copies(domain)
        text = render_agreement(agreement)
        with _broken_is_unknown(connection):
            domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, text, KEY, NAMESPACE, sum(copies))
            if not _hold(domain, copies, agreement):
                raise RecordChangedError("the record read back differs from what was written")
    except libvirt.libvirtError as error:
        _raise_if_gone(domain, error)
        raise


def is_record_intact(connection: Any, uuid: UUID, agreement: Agreement) -> bool:
    """See ``Hypervisor``."""
    domain = connection.lookupByUUIDString(str(uuid))
    return _hold(domain, _copies(domain), agreement)


def _require_run(domain: Any, uuid: UUID, run: str) -> None:
    """The record is that of one QEMU process, and no other shall get it."""
    try:
        now = run_token(find_qemu(uuid, domain.name()))
    except HypervisorError as error:
        if domain.isActive():
            raise
        raise DomainGoneError(str(error)) from error
    if now != run:
        raise DomainGoneError("another QEMU process runs the domain now")


def _copies(domain: Any) -> tuple[int, ...]:
    return (_LIVE, _CONFIG) if domain.isPersistent() else (_LIVE,)


def _hold(domain: Any, copies: tuple[int, ...], agreement: Agreement) -> bool:
    return all(_read_record(domain, copy) == agreement for copy in copies)


def _read_record(domain: Any, copy: int) -> Agreement | None:
    try:
        return parse_agreement(domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, NAMESPACE, copy))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_METADATA:
            return None
        raise


@contextlib.contextmanager
def _broken_is_unknown(connection: Any) -> Iterator[None]:
    """While something is written: when the connection breaks, libvirtd may have done it all the same."""
    try:
        yield
    except libvirt.libvirtError as error:
        if not is_alive(connection):
            raise OutcomeUnknownError(f"the connection broke during a write: {error}") from error
        raise


def is_alive(connection: Any) -> bool:
    """Whether the connection to libvirt still stands."""
    try:
        return bool(connection.isAlive() == 1)
    except libvirt.libvirtError:
        return False  # closed by us meanwhile


def _is_unknown(error: Exception) -> bool:
    return isinstance(error, libvirt.libvirtError) and error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN


def _raise_if_gone(domain: Any, error: libvirt.libvirtError) -> None:
    if error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID and not domain.isActive():
        raise DomainGoneError(str(error)) from error
