"""Commands to QEMU guest agents through libvirt: bounded, one at a time a domain, and in nobody else's way.

libvirtd answers at most five calls of one connection at a time (``max_client_requests``); measured: five agents that
hang keep everything else on their connection waiting for 10 s. So each command has a connection of its own, which takes
libvirtd a millisecond to open, and none is held while nothing is asked.

Source: libvirt 9.0's ``qemu_agent.c`` and ``qemu_domain.c`` for what its errors mean; docs/protocol.md.
"""

import asyncio
import json
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import Any
from uuid import UUID
from xml.etree import ElementTree

import libvirt
import libvirt_qemu

from sidecar.adapters.libvirt.calls import is_alive, translated
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
    SidecarError,
)
from sidecar.protocol.guest_text import clean_line

# libvirtd has 20 workers by default for all its clients, and an agent that hangs holds one for some 10 s. Those that
# are known to hang share a few of their own.
WORKERS = 6
SUSPECT_WORKERS = 2

# A day: no command takes longer.
ANSWER_LIMIT_S = 24 * 3600

# libvirt has refused within this time, or it has asked the agent.
REFUSAL_S = 1.0

_KEEPALIVE_COUNT = 3
_UNANSWERED = (libvirt.VIR_ERR_AGENT_UNRESPONSIVE, getattr(libvirt, "VIR_ERR_AGENT_UNSYNCED", None))
_FAILED = "unable to execute QEMU agent command"


class AgentCalls:
    """See the module; ``call`` is ``engine.ports.Hypervisor.call_agent``."""

    def __init__(self, uri: str, keepalive_s: int) -> None:
        self._uri, self._keepalive_s = uri, keepalive_s
        self._workers = ThreadPoolExecutor(WORKERS, "libvirt-agent")
        self._suspect_workers = ThreadPoolExecutor(SUSPECT_WORKERS, "libvirt-suspect")
        self._calling: dict[UUID, asyncio.Future[str]] = {}

    def shutdown(self) -> None:
        """Take no more calls; those under way are left to libvirt."""
        for pool in (self._workers, self._suspect_workers):
            pool.shutdown(wait=False, cancel_futures=True)

    async def call(
        self, uuid: UUID, request: str, answer_s: float, wait_s: float, *, wanted: Callable[[], bool], suspect: bool
    ) -> str:
        """See ``Hypervisor.call_agent``."""
        begun = asyncio.get_running_loop().time()
        await self._wait_for_earlier(uuid, begun + wait_s)
        pool = self._suspect_workers if suspect else self._workers
        try:
            running = pool.submit(self._call_blocking, uuid, request, answer_s, wanted)
        except RuntimeError as error:  # the pool is shut down
            raise HypervisorDownError("the daemon is stopping") from error
        calling = self._calling[uuid] = asyncio.wrap_future(running)
        calling.add_done_callback(partial(self._forget, uuid))
        try:
            return await _wait_until(begun + wait_s, calling)
        except TimeoutError as error:
            if running.cancel():
                raise AgentBusyError(f"no worker was free for {wait_s:g} s") from error
            raise NoAnswerError(f"no answer within {wait_s:g} s") from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if running.cancel() and (task is None or not task.cancelling()):  # if it has not begun, it never will
                raise HypervisorDownError("the daemon is stopping") from error
            raise

    async def _wait_for_earlier(self, uuid: UUID, end: float) -> None:
        while (earlier := self._calling.get(uuid)) is not None:
            done, _ = await asyncio.wait([earlier], timeout=max(0.0, end - asyncio.get_running_loop().time()))
            if not done:
                raise AgentBusyError("libvirt has not returned from an earlier command")

    def _forget(self, uuid: UUID, calling: asyncio.Future[str]) -> None:
        if self._calling.get(uuid) is calling:
            del self._calling[uuid]
        if not calling.cancelled():
            calling.exception()  # whoever wanted it may be gone, and then nobody else takes it

    def _call_blocking(self, uuid: UUID, request: str, answer_s: float, wanted: Callable[[], bool]) -> str:
        with translated(None):
            opened = libvirt.open(self._uri)
        with closing(opened) as connection, translated(connection):
            connection.setKeepAlive(self._keepalive_s, _KEEPALIVE_COUNT)
            return call_agent(connection, uuid, request, answer_s, wanted)


async def _wait_until(end: float, calling: "asyncio.Future[str]") -> str:
    async with asyncio.timeout_at(end):
        return await asyncio.shield(calling)


def call_agent(connection: Any, uuid: UUID, request: str, answer_s: float, wanted: Callable[[], bool]) -> str:
    """One command over this connection; see ``Hypervisor.call_agent``."""
    domain = connection.lookupByUUIDString(str(uuid))
    begun = time.monotonic()
    timeout = min(max(1, math.ceil(answer_s)), ANSWER_LIMIT_S)
    if not wanted():
        raise AgentDisconnectedError("another agent may be there now")
    try:
        return str(libvirt_qemu.qemuAgentCommand(domain, request, timeout, 0))
    except (UnicodeError, SystemError) as error:
        # libvirt quotes the guest in its errors, and the binding fails over text that is no UTF-8, in both ways.
        raise BadReplyError("a reply that is no UTF-8") from error
    except libvirt.libvirtError as error:
        if not is_alive(connection):
            raise OutcomeUnknownError(f"the connection broke during a command: {error}") from error
        raise _judge(error, domain, json.loads(request)["execute"], time.monotonic() - begun) from error


def _judge(error: libvirt.libvirtError, domain: Any, command: str, took_s: float) -> SidecarError:
    """What libvirt's error means for a command that it was given."""
    text = error.get_error_message() or ""
    match error.get_error_code():
        case libvirt.VIR_ERR_NO_DOMAIN:
            return DomainGoneError(text)
        case libvirt.VIR_ERR_OPERATION_INVALID:
            return AgentDisconnectedError("the domain is paused") if domain.isActive() else DomainGoneError(text)
        case libvirt.VIR_ERR_OPERATION_TIMEOUT:
            return JobHeldError(text)
        case libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED:
            return AgentDisconnectedError(text)
        case libvirt.VIR_ERR_RPC:
            return BadReplyError("a reply over libvirt's limit of 4 MiB")
        case libvirt.VIR_ERR_INTERNAL_ERROR:
            return _judge_failure(text, command, domain)
        case code if code in _UNANSWERED:
            return _judge_silence(text, command, domain, took_s)
        case libvirt.VIR_ERR_SYSTEM_ERROR:
            return BadReplyError(f"libvirt's connection to the agent failed: {clean_line(text)}")
    return OutcomeUnknownError(clean_line(text))


def _judge_failure(text: str, command: str, domain: Any) -> SidecarError:
    """The agent's own error, whose class libvirt drops; the agent's, or QEMU's, end; or a reply that cannot be read."""
    named = f"'{command}': "
    if named in text and (_FAILED in text or "json" not in text):
        return CommandFailedError(clean_line(text.partition(named)[2]))
    # QEMU's end of the agent's socket is told to the caller before the live XML, and the domain's state, show it.
    if "End of file" in text or not _shows_connected(domain):
        return AgentLeftError("the agent went away")
    return BadReplyError(f"libvirt cannot use the reply: {clean_line(text)}")


def _judge_silence(text: str, command: str, domain: Any, took_s: float) -> SidecarError:
    """Not connected, given up, or asked and not answered: libvirt has one code for all three.

    Its words tell when they are English; otherwise how quick it was, and what the live XML shows of the channel. That
    is good enough for ``guest-info``, which changes nothing.
    """
    if "not connected" in text:
        return AgentDisconnectedError("the agent is not connected")
    if "disappeared" in text:
        return AgentLeftError("the agent went away")
    quick = command == "guest-info" and took_s < REFUSAL_S
    if "due to an error" in text or (quick and _shows_connected(domain)):
        return AgentPoisonedError("libvirt has given up its connection to the agent")
    return NoAnswerError(f"no answer: {clean_line(text)}")


def _shows_connected(domain: Any) -> bool:
    try:
        xml = domain.XMLDesc(0)
    except libvirt.libvirtError:
        return False  # it is gone
    target = ElementTree.fromstring(xml).find("./devices/channel/target[@name='org.qemu.guest_agent.0']")
    return target is not None and target.get("state") == "connected"
