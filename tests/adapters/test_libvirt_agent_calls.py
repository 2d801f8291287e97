"""Agent calls against a libvirt that answers as told; on real hosts they are shown in tests/lab."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import libvirt
import libvirt_qemu
import pytest

from sidecar.adapters.libvirt.agent_calls import SUSPECT_WORKERS, AgentCalls, call_agent
from sidecar.errors import (
    AgentBusyError,
    AgentDisconnectedError,
    AgentLeftError,
    AgentPoisonedError,
    BadReplyError,
    CommandFailedError,
    DomainGoneError,
    HypervisorDownError,
    JobHeldError,
    NoAnswerError,
    OutcomeUnknownError,
)

ONE, TWO = UUID(int=1), UUID(int=2)
REQUEST = '{"execute": "guest-info", "id": "x"}'
CHANNEL = "<domain><devices><channel><target name='org.qemu.guest_agent.0' state='{}'/></channel></devices></domain>"


def libvirt_error(code: int, text: str) -> libvirt.libvirtError:
    error: Any = libvirt.libvirtError(text)
    error.err = (code, 0, text, 2, None, None, None, 0, 0)
    assert isinstance(error, libvirt.libvirtError)
    return error


def yes() -> bool:
    """It is still wanted."""
    return True


class Libvirtd:
    """libvirtd with one domain a UUID; `outcome` is what an agent command comes to, after `release` is set."""

    def __init__(self) -> None:
        self.outcome: str | Exception = '{"return": {}}'
        self.alive = self.active = 1
        self.state = "connected"
        self.release = threading.Event()
        self.release.set()
        self.begun: list[str] = []
        self.timeouts: list[int] = []
        self.opened = self.closed = 0

    def open(self, _uri: str) -> "Libvirtd":
        self.opened += 1
        return self

    def close(self) -> None:
        self.closed += 1

    def setKeepAlive(self, _interval: int, _count: int) -> None:  # noqa: N802 (libvirt's name)
        pass

    def isAlive(self) -> int:  # noqa: N802
        return self.alive

    def isActive(self) -> int:  # noqa: N802
        return self.active

    def lookupByUUIDString(self, uuid: str) -> "Libvirtd":  # noqa: N802
        self.begun.append(uuid)
        return self

    def XMLDesc(self, _flags: int) -> str:  # noqa: N802
        return CHANNEL.format(self.state)

    def command(self, _domain: object, _text: str, timeout: int, _flags: int) -> str:
        self.timeouts.append(timeout)
        assert self.release.wait(10)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.fixture
def libvirtd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Libvirtd]:
    made = Libvirtd()
    monkeypatch.setattr(libvirt, "open", made.open)
    monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", made.command)
    yield made
    made.release.set()


# The words and codes are those of libvirt 9.0, as the lab saw them; the guest chose what follows a colon.
UNRESPONSIVE = libvirt.VIR_ERR_AGENT_UNRESPONSIVE
OUTCOMES = [
    (libvirt.VIR_ERR_NO_DOMAIN, "Domain not found", DomainGoneError),
    (libvirt.VIR_ERR_OPERATION_INVALID, "domain is not running", AgentDisconnectedError),
    (libvirt.VIR_ERR_OPERATION_TIMEOUT, "cannot acquire state change lock (held by agent=x)", JobHeldError),
    (libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED, "QEMU guest agent is not configured", AgentDisconnectedError),
    (UNRESPONSIVE, "Guest agent is not responding: QEMU guest agent is not connected", AgentDisconnectedError),
    (UNRESPONSIVE, "…: QEMU guest agent is not available due to an error", AgentPoisonedError),
    (UNRESPONSIVE, "…: Guest agent disappeared while executing command", AgentLeftError),
    (
        libvirt.VIR_ERR_INTERNAL_ERROR,
        "unable to execute QEMU agent command 'guest-info': The command guest-info has not been found",
        CommandFailedError,
    ),
    (libvirt.VIR_ERR_INTERNAL_ERROR, "cannot parse json 'guest-info': lexical error", BadReplyError),
    (libvirt.VIR_ERR_SYSTEM_ERROR, "No complete agent response found in 10485760 bytes", BadReplyError),
    (libvirt.VIR_ERR_NO_MEMORY, "out of memory", OutcomeUnknownError),
    (libvirt.VIR_ERR_RPC, "Unable to encode message payload", BadReplyError),
]


@pytest.mark.parametrize(("code", "text", "expected"), OUTCOMES)
def test_what_libvirts_errors_mean(libvirtd: Libvirtd, code: int, text: str, expected: type[Exception]) -> None:
    calls = AgentCalls("uri", 5)
    libvirtd.outcome = libvirt_error(code, text)
    with pytest.raises(expected) as caught:
        calls._call_blocking(ONE, REQUEST, 5, yes)
    assert type(caught.value) is expected
    assert libvirtd.opened == libvirtd.closed == 1
    calls.shutdown()


@pytest.mark.parametrize("state", ["connected", "disconnected"])
def test_an_agent_that_went_away_with_its_guest(libvirtd: Libvirtd, state: str) -> None:
    libvirtd.outcome = libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, "End of file from agent socket")
    libvirtd.state = state  # the XML may be behind
    with pytest.raises(AgentLeftError):
        call_agent(libvirtd, ONE, REQUEST, 5, yes)


def test_what_is_not_wanted_any_more_is_not_sent(libvirtd: Libvirtd) -> None:
    with pytest.raises(AgentDisconnectedError):
        call_agent(libvirtd, ONE, REQUEST, 5, lambda: False)
    assert libvirtd.timeouts == []


@pytest.mark.parametrize(
    "fault", [SystemError("returned a result with an exception set"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no")]
)
def test_text_of_the_guests_that_the_binding_fails_over(libvirtd: Libvirtd, fault: Exception) -> None:
    libvirtd.outcome = fault
    with pytest.raises(BadReplyError):
        call_agent(libvirtd, ONE, REQUEST, 5, yes)


def test_in_another_language_the_live_xml_tells(libvirtd: Libvirtd) -> None:
    libvirtd.outcome = libvirt_error(UNRESPONSIVE, "Der Agent antwortet nicht")
    with pytest.raises(AgentPoisonedError):
        call_agent(libvirtd, ONE, REQUEST, 5, yes)
    with pytest.raises(NoAnswerError):  # which may have been sent: that is never called unsent on a guess
        call_agent(libvirtd, ONE, '{"execute": "guest-exec"}', 5, yes)
    libvirtd.state = "disconnected"
    with pytest.raises(NoAnswerError):
        call_agent(libvirtd, ONE, REQUEST, 5, yes)


def test_a_domain_that_has_stopped_meanwhile(libvirtd: Libvirtd) -> None:
    libvirtd.outcome, libvirtd.active = libvirt_error(libvirt.VIR_ERR_OPERATION_INVALID, "not running"), 0
    with pytest.raises(DomainGoneError):
        call_agent(libvirtd, ONE, REQUEST, 5, yes)


def test_a_connection_that_broke_leaves_it_unknown(libvirtd: Libvirtd) -> None:
    libvirtd.outcome, libvirtd.alive = libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, "client socket is closed"), 0
    with pytest.raises(OutcomeUnknownError):
        call_agent(libvirtd, ONE, REQUEST, 5, yes)


def test_no_libvirtd(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_uri: str) -> None:
        raise libvirt_error(libvirt.VIR_ERR_SYSTEM_ERROR, "Failed to connect socket")

    monkeypatch.setattr(libvirt, "open", refuse)
    calls = AgentCalls("uri", 5)
    with pytest.raises(HypervisorDownError):
        calls._call_blocking(ONE, REQUEST, 5, yes)
    calls.shutdown()


def test_the_guests_words_are_made_one_printable_line(libvirtd: Libvirtd) -> None:
    words = "unable to execute QEMU agent command 'guest-info': a\nb\x1b[31m\u202e" + "x" * 5000
    libvirtd.outcome = libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, words)
    with pytest.raises(CommandFailedError) as caught:
        call_agent(libvirtd, ONE, REQUEST, 5, yes)
    assert str(caught.value).isprintable()
    assert str(caught.value).isascii()
    assert len(str(caught.value)) < 2100


@pytest.mark.parametrize(("answer_s", "timeout"), [(0.01, 1), (1.0, 1), (1.2, 2), (1e9, 24 * 3600)])
def test_the_agents_time_is_whole_seconds(libvirtd: Libvirtd, answer_s: float, timeout: int) -> None:
    call_agent(libvirtd, ONE, REQUEST, answer_s, yes)
    assert libvirtd.timeouts == [timeout]


async def wait_begun(libvirtd: Libvirtd, count: int) -> None:
    async with asyncio.timeout(5):
        while len(libvirtd.begun) < count:  # noqa: ASYNC110 - a thread does it
            await asyncio.sleep(0.001)


async def test_a_caller_whose_time_is_over_does_not_know_and_the_next_one_waits(libvirtd: Libvirtd) -> None:
    calls = AgentCalls("uri", 5)
    libvirtd.release.clear()
    with pytest.raises(NoAnswerError):
        await calls.call(ONE, REQUEST, 5, 0.05, wanted=yes, suspect=False)
    with pytest.raises(AgentBusyError):
        await calls.call(ONE, REQUEST, 5, 0.05, wanted=yes, suspect=False)
    assert len(libvirtd.begun) == 1, "one call at a time a domain"
    waiting = asyncio.create_task(calls.call(ONE, REQUEST, 5, 5, wanted=yes, suspect=False))
    await asyncio.sleep(0.01)
    libvirtd.release.set()
    assert await waiting == '{"return": {}}'
    calls.shutdown()


async def test_a_caller_that_is_cancelled_leaves_nothing_but_the_call(libvirtd: Libvirtd) -> None:
    calls = AgentCalls("uri", 5)
    libvirtd.release.clear()
    libvirtd.outcome = libvirt_error(UNRESPONSIVE, "not connected")
    calling = asyncio.create_task(calls.call(ONE, REQUEST, 5, 5, wanted=yes, suspect=False))
    await wait_begun(libvirtd, 1)
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)
    libvirtd.release.set()
    with pytest.raises(AgentDisconnectedError):
        await calls.call(ONE, REQUEST, 5, 5, wanted=yes, suspect=False)
    calls.shutdown()


async def test_those_that_hang_do_not_keep_the_others_waiting(libvirtd: Libvirtd) -> None:
    calls = AgentCalls("uri", 5)
    libvirtd.release.clear()
    hanging = [
        asyncio.create_task(calls.call(UUID(int=10 + n), REQUEST, 5, 0.2, wanted=yes, suspect=True))
        for n in range(SUSPECT_WORKERS + 1)
    ]
    await wait_begun(libvirtd, SUSPECT_WORKERS)
    healthy = asyncio.create_task(calls.call(TWO, REQUEST, 5, 5, wanted=yes, suspect=False))
    await wait_begun(libvirtd, SUSPECT_WORKERS + 1)
    assert str(TWO) in libvirtd.begun
    ends = [type(end) for end in await asyncio.gather(*hanging, return_exceptions=True)]
    assert sorted(end.__name__ for end in ends) == ["AgentBusyError"] + ["NoAnswerError"] * SUSPECT_WORKERS
    libvirtd.release.set()
    assert await healthy == '{"return": {}}'
    assert len(libvirtd.begun) == SUSPECT_WORKERS + 1, "what had not begun when its time was over never will"
    calls.shutdown()


async def test_when_the_daemon_stops_nobody_is_cancelled_who_was_not(libvirtd: Libvirtd) -> None:
    calls = AgentCalls("uri", 5)
    libvirtd.release.clear()
    callers = [
        asyncio.create_task(calls.call(UUID(int=n), REQUEST, 5, 5, wanted=yes, suspect=True))
        for n in range(SUSPECT_WORKERS + 2)
    ]
    await wait_begun(libvirtd, SUSPECT_WORKERS)
    calls.shutdown()
    libvirtd.release.set()
    ends = await asyncio.gather(*callers, return_exceptions=True)
    assert sorted(type(end).__name__ for end in ends) == ["HypervisorDownError"] * 2 + ["str"] * SUSPECT_WORKERS
    with pytest.raises(HypervisorDownError):
        await calls.call(ONE, REQUEST, 5, 5, wanted=yes, suspect=False)
