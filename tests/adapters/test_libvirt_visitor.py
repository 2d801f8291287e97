"""The visitor against a libvirt that answers as told; on real hosts it is shown in tests/lab."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import libvirt
import libvirt_qemu
import pytest

from sidecar.adapters.libvirt import Visitor
from sidecar.errors import DomainGoneError, HypervisorDownError, NoAnswerError

ONE = UUID(int=1)


def libvirt_error(code: int, text: str) -> libvirt.libvirtError:
    error: Any = libvirt.libvirtError(text)
    error.err = (code, 0, text, 2, None, None, None, 0, 0)
    assert isinstance(error, libvirt.libvirtError)
    return error


class Libvirtd:
    """libvirtd with one domain; `outcome` is what an agent command comes to."""

    def __init__(self) -> None:
        self.outcome: str | Exception = '{"return": {}}'
        self.opened = self.closed = 0
        self.timeouts: list[int] = []

    def open(self, _uri: str) -> "Libvirtd":
        self.opened += 1
        return self

    def close(self) -> None:
        self.closed += 1

    def isAlive(self) -> int:  # noqa: N802 (libvirt's name)
        return 1

    def listAllDomains(self, _flags: int) -> list["Libvirtd"]:  # noqa: N802
        return [self]

    def UUIDString(self) -> str:  # noqa: N802
        return str(ONE)

    def name(self) -> str:
        return "vm1"

    def lookupByUUIDString(self, uuid: str) -> "Libvirtd":  # noqa: N802
        if uuid != str(ONE):
            raise libvirt_error(libvirt.VIR_ERR_NO_DOMAIN, "no domain")
        return self

    def command(self, _domain: object, _text: str, timeout: int, _flags: int) -> str:
        self.timeouts.append(timeout)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.fixture
def libvirtd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Libvirtd]:
    made = Libvirtd()
    monkeypatch.setattr(libvirt, "open", made.open)
    monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", made.command)
    yield made
    assert made.opened == made.closed, "every connection was closed"


@pytest.fixture
def visitor() -> Visitor:
    return Visitor("qemu:///system", ())


def test_each_call_has_a_connection_of_its_own(libvirtd: Libvirtd, visitor: Visitor) -> None:
    assert visitor.list_domains() == [(ONE, "vm1")]
    assert visitor.call_agent(ONE, '{"execute": "guest-ping"}', 1.0) == '{"return": {}}'
    assert visitor.inspect_domain(UUID(int=2)) is None
    assert libvirtd.opened == 3
    assert libvirtd.timeouts == [1]


def test_what_fails_is_told_in_our_words(libvirtd: Libvirtd, visitor: Visitor) -> None:
    libvirtd.outcome = libvirt_error(libvirt.VIR_ERR_AGENT_UNRESPONSIVE, "Guest agent not available for now")
    with pytest.raises(NoAnswerError):
        visitor.call_agent(ONE, '{"execute": "guest-ping"}', 1.0)
    with pytest.raises(DomainGoneError):
        visitor.call_agent(UUID(int=2), '{"execute": "guest-ping"}', 1.0)


def test_no_libvirt_is_told_once_and_not_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(HypervisorDownError):
        Visitor("qemu+unix:///system?socket=/nowhere", ()).list_domains()
    assert capfd.readouterr().err == ""
