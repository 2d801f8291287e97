"""The blocking calls against a domain that answers as told; on real hosts they are shown in tests/lab."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import libvirt
import pytest

from sidecar.adapters.libvirt import calls
from sidecar.adapters.libvirt.calls import inspect_domain, is_record_intact, translated, write_record
from sidecar.errors import (
    DomainGoneError,
    HypervisorDownError,
    HypervisorError,
    JobHeldError,
    OutcomeUnknownError,
    RecordChangedError,
)
from sidecar.record.agreement import Agreement, render_agreement
from sidecar.record.domain_xml import parse_domain_xml
from sidecar.record.policy import NAMESPACE as POLICY_NAMESPACE

AGREEMENT = Agreement("h", "u", "r", "start", 1, "2026-11-21T07:31:38.440Z", ())
FOREIGN = render_agreement(AGREEMENT).replace('arrivals="1"', 'arrivals="2"')


@pytest.fixture(autouse=True)
def qemu_process(monkeypatch: pytest.MonkeyPatch) -> dict[int, str]:
    """The processes of QEMU that there are, and their tokens."""
    processes = {4711: AGREEMENT.run}
    monkeypatch.setattr(calls, "find_qemu", lambda _uuid, _name: next(iter(processes)))
    monkeypatch.setattr(calls, "run_token", processes.__getitem__)
    return processes


def libvirt_error(code: int) -> libvirt.libvirtError:
    error: Any = libvirt.libvirtError("it failed")
    error.err = (code, 0, "it failed", 2, None, None, None, 0, 0)
    assert isinstance(error, libvirt.libvirtError)
    return error


class Domain:
    """An active, persistent domain; also the connection that finds it."""

    def __init__(self) -> None:
        self.alive = self.active = 1
        self.stored: dict[int, str] = {}
        self.metadata_elements: list[str] = []
        self.fails: dict[str, Callable[[], Exception]] = {}

    def _do(self, name: str) -> None:
        if name in self.fails:
            raise self.fails[name]()

    def isAlive(self) -> int:  # noqa: N802 (libvirt's name)
        return self.alive

    def isActive(self) -> int:  # noqa: N802 (libvirt's name)
        return self.active

    def name(self) -> str:
        return "vm1"

    def isPersistent(self) -> int:  # noqa: N802 (libvirt's name)
        return 1

    def lookupByUUIDString(self, _uuid: str) -> "Domain":  # noqa: N802 (libvirt's name)
        self._do("lookup")
        return self

    def state(self) -> list[int]:
        return [libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_MIGRATED]

    def XMLDesc(self, _flags: int) -> str:  # noqa: N802 (libvirt's name)
        return f"<domain><metadata>{''.join(self.metadata_elements)}</metadata></domain>"

    def setMetadata(self, _kind: int, text: str, _key: str, _uri: str, flags: int) -> None:  # noqa: N802 (libvirt's name)
        self._do("set")
        for copy in (libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG):
            if flags & copy:
                self.stored.setdefault(copy, text)

    def metadata(self, _kind: int, _uri: str, copy: int) -> str:
        self._do("get")
        if copy not in self.stored:
            raise libvirt_error(libvirt.VIR_ERR_NO_DOMAIN_METADATA)
        return self.stored[copy]

    def breaks(self, call: str) -> None:
        def fail() -> Exception:
            self.alive = 0
            return libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR)

        self.fails[call] = fail

    def refuses(self, call: str, code: int) -> None:
        self.fails[call] = lambda: libvirt_error(code)


def write(domain: Domain) -> None:
    with translated(domain):
        write_record(domain, UUID(int=1), AGREEMENT)


def kind_of_failure(domain: Domain) -> type[HypervisorError]:
    with pytest.raises(HypervisorError) as caught:
        write(domain)
    return type(caught.value)


def test_a_snapshot_says_what_is_wrong_in_the_policy() -> None:
    domain = Domain()
    snapshot = inspect_domain(domain, UUID(int=1), ())
    assert snapshot is not None
    assert snapshot.policy_problem is None
    domain.metadata_elements.append(f'<polcy xmlns="{POLICY_NAMESPACE}"/>')
    snapshot = inspect_domain(domain, UUID(int=1), ())
    assert snapshot is not None
    assert snapshot.policy_problem == "element 'polcy': expected policy"


def test_it_is_written_and_read_back() -> None:
    domain = Domain()
    assert not is_record_intact(domain, UUID(int=1), AGREEMENT)
    write(domain)
    assert is_record_intact(domain, UUID(int=1), AGREEMENT)
    assert len(domain.stored) == 2


@pytest.mark.parametrize("call", ["set", "get"])
def test_a_connection_that_breaks_from_the_write_on_leaves_the_outcome_unknown(call: str) -> None:
    domain = Domain()
    domain.breaks(call)
    assert kind_of_failure(domain) is OutcomeUnknownError


def test_a_connection_that_breaks_before_the_write_has_written_nothing() -> None:
    domain = Domain()
    domain.breaks("lookup")
    assert kind_of_failure(domain) is HypervisorDownError
    assert domain.stored == {}


def test_the_record_of_a_process_that_is_gone_is_not_written_to_the_next_one(qemu_process: dict[int, str]) -> None:
    domain = Domain()
    qemu_process[4711] = "another"
    assert kind_of_failure(domain) is DomainGoneError
    assert domain.stored == {}


@pytest.mark.parametrize("copy", [libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG])
def test_a_copy_that_reads_back_differently_was_changed_by_somebody(copy: int) -> None:
    domain = Domain()
    domain.stored[copy] = FOREIGN
    assert kind_of_failure(domain) is RecordChangedError


@pytest.mark.parametrize(
    ("code", "active", "kind"),
    [
        (libvirt.VIR_ERR_OPERATION_TIMEOUT, 1, JobHeldError),
        (libvirt.VIR_ERR_OPERATION_INVALID, 0, DomainGoneError),
        (libvirt.VIR_ERR_OPERATION_INVALID, 1, HypervisorError),
        (libvirt.VIR_ERR_NO_DOMAIN, 1, DomainGoneError),
    ],
)
def test_a_refusal_over_a_connection_that_lives(code: int, active: int, kind: type[HypervisorError]) -> None:
    domain = Domain()
    domain.active = active
    domain.refuses("set", code)
    assert kind_of_failure(domain) is kind


def test_xml_that_is_none_is_libvirts_failure() -> None:
    with pytest.raises(HypervisorError, match="cannot be parsed"), translated(None):
        parse_domain_xml("<domain>", [])
