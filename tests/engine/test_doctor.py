"""The doctor among domains of the real engine, in virtual time."""

import asyncio

import pytest

from sidecar.api.views import FindingView
from sidecar.engine.doctor import (
    ANSWER_S,
    ASKED_AT_A_TIME,
    ASKING_LIMIT_S,
    HELD_AFTER_S,
    Doctor,
    Examination,
    judge_error,
)
from sidecar.engine.notices import AgentNotice, Happening
from sidecar.engine.ports import Activity
from sidecar.engine.settings import Way
from sidecar.errors import (
    AgentBusyError,
    AgentDisconnectedError,
    AgentLeftError,
    AgentPoisonedError,
    AgentUnsynchronizedError,
    BadReplyError,
    CommandFailedError,
    DomainGoneError,
    HypervisorDownError,
    JobHeldError,
    NoAnswerError,
    SidecarError,
)
from sidecar.protocol.states import Reason
from sidecar.record.agreement import Origin
from tests.engine.lone_host import NEW, OLD, LoneHost, now, settle
from tests.engine.lone_talk import QGA, talking
from tests.fakes.hypervisor import FakeDomain
from tests.fakes.qga_agent import FakeQga

pytestmark = pytest.mark.looptime

WANTED = (NEW, OLD, QGA)
HOOK = FindingView("hook-missing", None, None, "no hook", "install it")


def doctor_of(host: LoneHost, *findings: FindingView, wanted: tuple[str, ...] = WANTED) -> Doctor:
    """A doctor who finds these faults with the host itself."""

    async def check_host() -> Examination:
        return Examination(("hook",), findings)

    return Doctor(host.engine, check_host, lambda: wanted)


async def find(host: LoneHost, domain: FakeDomain) -> list[tuple[str, str | None]]:
    """Code and channel of each fault of this domain."""
    view = await doctor_of(host).examine(domain.name)
    assert view.healthy == (not view.findings)
    assert all(finding.domain == domain.name for finding in view.findings)
    return [(finding.code, finding.channel) for finding in view.findings]


class TestAgents:
    async def test_a_healthy_one_is_asked_one_question_that_leaves_no_trace(self) -> None:
        async with talking() as talk:
            before = len(talk.agent.received)
            view = await doctor_of(talk.host).examine(None)
            assert view.healthy
            assert view.checked == ("hook", f"domain {talk.domain.name}: {NEW}, {QGA}")
            assert talk.agent.commands()[before:] == ["guest-fsfreeze-status"]
            assert not any(channel.used for channel in talk.stay.channels if channel.device.name == QGA)

    async def test_frozen_since_anybody_asked(self) -> None:
        async with talking() as talk:
            talk.agent.frozen = True
            assert await find(talk.host, talk.domain) == [("guest-frozen", QGA)]

    async def test_thawed_while_the_record_still_warns(self) -> None:
        async with talking() as talk:
            await talk.send("guest-fsfreeze-freeze")
            await settle(120)
            assert talk.host.verdict(talk.domain, QGA) == ("agreed", "7.2", "guest-frozen")
            talk.agent.frozen = False
            assert await find(talk.host, talk.domain) == []
            assert talk.host.verdict(talk.domain, QGA) == ("agreed", "7.2", "guest-frozen")

    async def test_poisoned_since_anybody_asked(self) -> None:
        async with talking() as talk:
            talk.domain.port.poisoned = True
            assert await find(talk.host, talk.domain) == [("agent-poisoned", QGA)]
            await settle(1)
            assert talk.host.verdict(talk.domain, QGA)[2] == "agent-poisoned"
            assert await find(talk.host, talk.domain) == [("agent-poisoned", QGA)]

    async def test_silent_and_held_are_told_apart(self) -> None:
        async with talking() as talk:
            begun = now()
            talk.agent.silent = True
            assert await find(talk.host, talk.domain) == [("agent-silent", QGA)]
            assert now() - begun == pytest.approx(ANSWER_S, abs=0.1)
        async with talking() as talk:
            begun = now()
            talk.domain.port.job_held = True
            assert await find(talk.host, talk.domain) == [("agent-job-held", QGA)]
            assert now() - begun == pytest.approx(HELD_AFTER_S, abs=0.1)
            talk.domain.port.job_held = False
            await settle(60)
            assert await find(talk.host, talk.domain) == []

    async def test_gone(self) -> None:
        async with talking() as talk:
            talk.close_agent()
            await settle(0.1)
            assert await find(talk.host, talk.domain) == [("port-closed", QGA)]

    @pytest.mark.parametrize(
        ("blocked", "question"), [({"guest-fsfreeze-status"}, ["guest-ping"]), ({"guest-ping"}, [])]
    )
    async def test_is_asked_what_it_may_be_asked(self, blocked: set[str], question: list[str]) -> None:
        async with talking(FakeQga(blocked=blocked)) as talk:
            before = len(talk.agent.received)
            assert await find(talk.host, talk.domain) == []
            assert talk.agent.commands()[before:] == question

    async def test_flaps_until_it_is_calm(self) -> None:
        async with talking() as talk:
            for _ in range(8):
                talk.host.tell(AgentNotice(talk.domain.uuid, False))
                talk.host.tell(AgentNotice(talk.domain.uuid, True))
                await settle(1)
            assert await find(talk.host, talk.domain) == [("flapping", QGA)]
            await settle(130)
            assert await find(talk.host, talk.domain) == []


class TestSockets:
    async def test_another_client_and_the_channel_is_ours_again(self) -> None:
        async with talking() as talk:
            talk.guest.silence()
            socket = talk.host.socket(talk.domain)
            for client in list(socket.clients):
                client.close()
            other = socket.connect(lambda _data: None)
            await settle(5)
            assert await find(talk.host, talk.domain) == [("socket-busy", NEW)]
            other.close()
            await settle(600)
            assert ("socket-busy", NEW) not in await find(talk.host, talk.domain)

    @pytest.mark.parametrize("speaking", [NEW, OLD])
    async def test_of_two_ovirt_channels_the_agent_leaves_one_alone(self, speaking: str) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(Activity.RUNNING, origin=Origin.START, channels=(NEW, OLD))
            host.event(domain, Happening.STARTED, Origin.START)
            await settle(200)
            assert await find(host, domain) == [("not-opened", NEW), ("not-opened", OLD)]
            guest = host.guest(domain, speaking)
            guest.open()
            await settle(200)
            assert await find(host, domain) == []
            guest.silence()


class TestDomains:
    async def test_without_a_channel(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(Activity.RUNNING, origin=Origin.START, channels=())
            host.event(domain, Happening.STARTED, Origin.START)
            await settle(1)
            assert await find(host, domain) == [("channel-absent", QGA)]
            assert (await doctor_of(host, wanted=()).examine(None)).healthy

    async def test_that_stands_is_left_alone(self) -> None:
        async with talking() as talk:
            talk.close_agent()
            talk.domain.activity = Activity.PAUSED
            talk.host.event(talk.domain, Happening.SUSPENDED)
            await settle(1)
            assert await find(talk.host, talk.domain) == []

    async def test_that_has_not_arrived_is_left_alone(self) -> None:
        async with LoneHost().running() as host:
            domain = host.add_domain(channels=())
            host.event(domain, Happening.STARTED, Origin.MIGRATION)
            await settle(1)
            assert await find(host, domain) == []

    async def test_one_or_all_with_the_host(self) -> None:
        async with talking() as talk:
            talk.close_agent()
            await settle(0.1)
            doctor = doctor_of(talk.host, HOOK)
            assert [finding.code for finding in (await doctor.examine(None)).findings] == [
                "hook-missing",
                "port-closed",
            ]
            for name in (talk.domain.name, str(talk.domain.uuid)):
                view = await doctor.examine(name)
                assert [finding.code for finding in view.findings] == ["port-closed"]
                assert "hook" not in view.checked
            with pytest.raises(DomainGoneError):
                await doctor.examine("no such domain")

    async def test_many_that_hang_keep_neither_the_doctor_nor_libvirts_workers(self) -> None:
        async with LoneHost().running() as host:
            domains = [await held_domain(host) for _ in range(30)]
            begun = now()
            examining = asyncio.create_task(doctor_of(host).examine(None))
            await settle(1)
            assert sum(domain.port.in_flight for domain in domains) == ASKED_AT_A_TIME
            view = await examining
            assert now() - begun <= ASKING_LIMIT_S + 0.1
            assert {finding.code for finding in view.findings} == {"agent-job-held"}
            assert ASKED_AT_A_TIME < len(view.findings) < len(domains)
            assert sum("not asked" in text for text in view.checked) == len(domains) - len(view.findings)


async def held_domain(host: LoneHost) -> FakeDomain:
    """A domain whose agent was agreed with, and is held by another client now."""
    domain = host.add_domain(Activity.RUNNING, origin=Origin.START, channels=(QGA,))
    host.event(domain, Happening.STARTED, Origin.START)
    await settle(0.1)
    domain.port.agent = FakeQga()
    host.tell(AgentNotice(domain.uuid, True))
    await settle(1)
    domain.port.job_held = True
    return domain


@pytest.mark.parametrize(
    ("error", "waited_s", "way", "reason"),
    [
        (AgentPoisonedError(""), 0.1, Way.LIBVIRT, Reason.AGENT_POISONED),
        (JobHeldError(""), 5, Way.LIBVIRT, Reason.AGENT_JOB_HELD),
        (AgentBusyError(""), HELD_AFTER_S, Way.LIBVIRT, Reason.AGENT_JOB_HELD),
        (NoAnswerError(""), HELD_AFTER_S, Way.LIBVIRT, Reason.AGENT_JOB_HELD),
        (NoAnswerError(""), 6.0, Way.LIBVIRT, Reason.AGENT_SILENT),
        (NoAnswerError(""), HELD_AFTER_S, Way.DIRECT, Reason.AGENT_SILENT),
        (AgentUnsynchronizedError(""), HELD_AFTER_S, Way.DIRECT, Reason.AGENT_SILENT),
        (BadReplyError(""), 0.1, Way.DIRECT, Reason.BAD_REPLY),
        (AgentLeftError(""), 0.1, Way.LIBVIRT, None),
        (AgentDisconnectedError(""), 0.1, Way.LIBVIRT, None),
        (CommandFailedError("it says so itself"), 0.1, Way.LIBVIRT, None),
        (HypervisorDownError(""), 0.1, Way.LIBVIRT, None),
    ],
)
def test_what_an_error_tells_of_the_agent(
    error: SidecarError, waited_s: float, way: Way, reason: Reason | None
) -> None:
    assert judge_error(error, waited_s, way) is reason
