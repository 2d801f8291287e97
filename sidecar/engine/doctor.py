"""The doctor: what is wrong with this host, its hook, its sockets and its domains' channels, and how to mend it.

What a QEMU guest agent suffers shows only when somebody asks it. So each one that looks healthy is asked a question
that changes nothing; of all others the negotiation knows already what is wrong.

Source: docs/problems.md.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sidecar.api.views import DoctorView, FindingView
from sidecar.engine.channel import Channel
from sidecar.engine.domain import Domain
from sidecar.engine.host import Host
from sidecar.engine.qga_channel import QgaChannel
from sidecar.engine.remedies import Place, find_absent, find_fault
from sidecar.engine.settings import Way
from sidecar.engine.stay import Phase
from sidecar.errors import (
    AgentBusyError,
    AgentError,
    AgentLeftError,
    AgentPoisonedError,
    AgentUnsynchronizedError,
    BadReplyError,
    HypervisorError,
    JobHeldError,
    MessageNotAllowedError,
    NoAnswerError,
    SidecarError,
)
from sidecar.protocol.states import Dialect, Reason, State

# How long an agent has for its answer, of whole seconds the least: it has nothing to look up.
ANSWER_S = 1.0

# libvirt synchronises with an agent for 5 s, waits for ANSWER_S, and then says so. When it says nothing at all it has
# not begun, because another client's command is under way.
HELD_AFTER_S = 7.0

# Timers are not exact to the last of this.
_ALMOST = 0.95

# Fewer than libvirt's workers that we have: nobody's command waits for the doctor's.
ASKED_AT_A_TIME = 4

# What was not asked by then is judged by what is known already.
ASKING_LIMIT_S = 20.0

# Where both oVirt channels are there the agent takes one, and this is what the other one looks like.
_LEFT_ALONE = (Reason.NOT_OPENED, Reason.PORT_CLOSED)


@dataclass(frozen=True, slots=True)
class Examination:
    """What was looked at, each in a few words, and the faults that were found."""

    checked: tuple[str, ...] = ()
    findings: tuple[FindingView, ...] = ()


def join(examinations: Iterable[Examination]) -> Examination:
    """All of them in one, in this order."""
    done = list(examinations)
    return Examination(
        tuple(text for examination in done for text in examination.checked),
        tuple(finding for examination in done for finding in examination.findings),
    )


def sum_up(examinations: Iterable[Examination]) -> DoctorView:
    """One word on all of them, in this order."""
    whole = join(examinations)
    return DoctorView(not whole.findings, whole.checked, whole.findings)


def judge_error(error: SidecarError, waited_s: float, way: Way) -> Reason | None:
    """What a question that was not answered, after so long, tells of the agent; ``None``: nothing."""
    match error:
        case AgentPoisonedError():
            return Reason.AGENT_POISONED
        case JobHeldError() | AgentBusyError():
            return Reason.AGENT_JOB_HELD
        case AgentLeftError():
            return None  # which is reported, too
        case NoAnswerError() if way is Way.LIBVIRT and waited_s >= _ALMOST * HELD_AFTER_S:
            return Reason.AGENT_JOB_HELD
        case NoAnswerError() | AgentUnsynchronizedError():
            return Reason.AGENT_SILENT
        case BadReplyError():
            return Reason.BAD_REPLY
    return None


def hide_unused(reasons: dict[str, Reason | None], used: Collection[str], ovirt: Collection[str]) -> None:
    """An agent needs one of a domain's ``ovirt`` channels: while one is ``used``, the others may be closed."""
    if any(name in used for name in ovirt):
        for name in ovirt:
            if reasons[name] in _LEFT_ALONE:
                reasons[name] = None


class Doctor:
    """See the module."""

    def __init__(
        self,
        host: Host,
        check_host: Callable[[], Coroutine[Any, Any, Examination]],
        channel_names: Callable[[], Sequence[str]],
    ) -> None:
        """``check_host`` looks at what is no domain's; ``channel_names`` are those that are looked after."""
        self._host, self._check_host, self._channel_names = host, check_host, channel_names
        self._asking = asyncio.Semaphore(ASKED_AT_A_TIME)

    async def examine(self, domain: str | None) -> DoctorView:
        """Look at the domain of this name or UUID, or at everything.

        Raises:
            DomainGoneError: None that runs here has it.
        """
        if domain is not None:
            return sum_up([await self._examine_domain(self._host.find(domain))])
        async with asyncio.TaskGroup() as group:
            host = group.create_task(self._check_host())
            domains = [group.create_task(self._examine_domain(domain)) for domain in self._host.domains]
        return sum_up(task.result() for task in (host, *domains))

    async def _examine_domain(self, domain: Domain) -> Examination:
        stay = domain.stay
        if stay is None or stay.phase is Phase.EXPECTED:
            return Examination((f"domain {domain.name}: it has not arrived",))
        if stay.phase is Phase.PAUSED:
            return Examination((f"domain {domain.name}: it is paused, and its channels with it",))
        return await self._examine_channels(domain.name, stay.channels)

    async def _examine_channels(self, domain: str, channels: Collection[Channel]) -> Examination:
        wanted = self._channel_names()
        if not channels:
            return Examination((f"domain {domain}: no channel",), (find_absent(domain, wanted),) if wanted else ())
        opinions = dict(zip(channels, await asyncio.gather(*map(self._examine_channel, channels)), strict=True))
        reasons = {channel.device.name: opinion.reason for channel, opinion in opinions.items()}
        ovirt = [channel for channel in channels if channel.dialect is Dialect.OVIRT]
        used = [channel.device.name for channel in ovirt if channel.row.state in (State.AGREED, State.UNVERSIONED)]
        hide_unused(reasons, used, [channel.device.name for channel in ovirt])
        places = (Place(domain, channel.device.name, channel.device.path, channel.way) for channel in channels)
        faults = (find_fault(reasons[place.channel], place) for place in places)
        names = ", ".join(channel.device.name + opinion.remark for channel, opinion in opinions.items())
        return Examination((f"domain {domain}: {names}",), tuple(fault for fault in faults if fault is not None))

    async def _examine_channel(self, channel: Channel) -> "_Opinion":
        """What is known of the channel, or, of an agent that may be asked, found out now."""
        known = None if channel.row.reason is None else Reason(channel.row.reason)
        if not isinstance(channel, QgaChannel) or channel.refuse("guest-ping") is not None:
            return _Opinion(known)
        try:
            async with asyncio.timeout(ASKING_LIMIT_S - HELD_AFTER_S):
                await self._asking.acquire()
        except TimeoutError:
            return _Opinion(known, " (not asked: too many others are slow)")
        try:
            return _Opinion(await _ask(channel, known))
        finally:
            self._asking.release()


@dataclass(frozen=True, slots=True)
class _Opinion:
    """What is wrong with a channel, and a remark on how that was found."""

    reason: Reason | None
    remark: str = ""


async def _ask(channel: QgaChannel, known: Reason | None) -> Reason | None:
    # A frozen agent answers a ping, too; it must do where the better question is blocked.
    question = "guest-ping" if channel.refuse("guest-fsfreeze-status") else "guest-fsfreeze-status"
    loop = asyncio.get_running_loop()
    begun = loop.time()
    try:
        answer = await channel.ask(question, ANSWER_S, HELD_AFTER_S)
    except MessageNotAllowedError as error:
        # While we waited for our turn the negotiation has found out more.
        return known if error.refusal.reason is None else Reason(error.refusal.reason)
    except (AgentError, HypervisorError) as error:
        return judge_error(error, loop.time() - begun, channel.way) or known
    if answer == "frozen":
        return Reason.GUEST_FROZEN
    # An agent that was frozen is asked by the negotiation after up to a minute.
    return None if answer == "thawed" and known is Reason.GUEST_FROZEN else known
