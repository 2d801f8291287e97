"""Messages sent for others, through the host: which channel takes them, what is refused, and how each ends."""

import asyncio
from dataclasses import replace
from uuid import UUID

import pytest

from sidecar.engine.domain import INBOX_LIMIT
from sidecar.engine.notices import AgentNotice, Happening, LookNotice, PortNotice
from sidecar.errors import (
    AgentDisconnectedError,
    AgentUnsynchronizedError,
    BadReplyError,
    CommandFailedError,
    DomainGoneError,
    MessageNotAllowedError,
    NoAnswerError,
)
from tests.engine.lone_host import NEW, now, settle
from tests.engine.lone_talk import QGA, Talk, talking
from tests.fakes.ovirt_agent import Era
from tests.fakes.qga_agent import FakeQga

pytestmark = pytest.mark.looptime


def nested(depth: int) -> object:
    return [nested(depth - 1)] if depth else []


async def test_both_channels_are_on_record() -> None:
    async with talking() as talk:
        assert talk.host.verdict(talk.domain, NEW) == ("agreed", "3", None)
        assert talk.host.verdict(talk.domain, QGA) == ("agreed", "7.2", None)


async def test_no_such_domain() -> None:
    async with talking() as talk:
        with pytest.raises(DomainGoneError):
            talk.host.engine.find(str(UUID(int=99)))
        talk.host.end(talk.domain)
        await settle(0.1)
        with pytest.raises(DomainGoneError):
            await talk.send("guest-ping")


async def test_what_was_told_while_too_much_was_told_is_found_out() -> None:
    async with talking() as talk:
        talk.host.hypervisor.delays_s["inspect_domain"] = 10.0
        talk.host.tell(LookNotice(talk.domain.uuid))
        await settle(0.1)
        for _ in range(INBOX_LIMIT):
            talk.host.tell(PortNotice(talk.domain.uuid, "nobody's", True))
        newer = FakeQga("5.2.0", blocked={"guest-exec"})
        talk.domain.port.agent = newer
        talk.domain.channels = tuple(replace(device, opened=True) for device in talk.domain.channels)
        talk.host.tell(AgentNotice(talk.domain.uuid, False))
        talk.host.tell(AgentNotice(talk.domain.uuid, True))
        await settle(30)
        assert newer.asked == 1
        assert talk.host.verdict(talk.domain, QGA) == ("agreed", "5.2", None)


async def test_a_channel_whose_dialect_is_changed_is_spoken_to_anew() -> None:
    async with talking() as talk:
        settings = talk.host.surroundings.settings
        talk.host.engine.reconfigure(replace(settings, qga_channels=frozenset(), qga_direct_channels=frozenset({NEW})))
        talk.host.tell(LookNotice(talk.domain.uuid))
        await settle(7)
        assert talk.host.row(talk.domain, NEW).dialect == "qga"
        assert talk.host.row(talk.domain, QGA).dialect == "ovirt"


class TestGate:
    async def test_what_may_be_sent(self) -> None:
        async with talking() as talk:
            for message in ("lock-screen", "lifecycle-event", "guest-ping", "guest-exec", "guest-get-cpustats"):
                assert talk.refusal(message) is None

    async def test_refusals_name_what_is_required_what_is_agreed_and_why(self) -> None:
        async with talking(FakeQga(blocked={"guest-exec"})) as talk:
            low = talk.refusal("guest-get-load")
            assert low is not None
            assert (low.code, low.required, low.agreed) == ("version-too-low", "10.0", "7.2")
            off = talk.refusal("guest-exec")
            assert off is not None
            assert (off.code, off.required, off.agreed) == ("not-enabled", "2.5", "7.2")
            assert talk.refused("guest-sync") == talk.refused("api-version") == "negotiation-only"
            assert talk.refused("guest-rm-rf") == talk.refused("heartbeat") == "not-in-table"
            assert talk.refused("guest-ping", NEW) == "no-channel"
            assert talk.refused("lock-screen", QGA) == "no-channel"
            with pytest.raises(MessageNotAllowedError):
                await talk.send("guest-exec")
            assert "guest-exec" not in talk.agent.commands()

    async def test_an_agent_that_went_is_refused_at_once(self) -> None:
        async with talking() as talk:
            talk.close_agent()
            talk.guest.close()
            await settle(0.01)
            for message in ("guest-ping", "lock-screen"):
                refusal = talk.refusal(message)
                assert refusal is not None
                assert (refusal.code, refusal.reason, refusal.agreed) == ("not-agreed", "port-closed", "0")


class TestQga:
    async def test_the_result(self) -> None:
        result = {"name": "lab\u0000guest", "list": [1, 2.5, None, True]}
        async with talking(FakeQga(results={"guest-get-host-name": result})) as talk:
            assert await talk.send("guest-get-host-name") == {"name": "lab\ufffdguest", "list": [1, 2.5, None, True]}

    async def test_the_agents_error(self) -> None:
        async with talking(FakeQga(results={"guest-file-open": "no such\nfile \u001b[31m"})) as talk:
            with pytest.raises(CommandFailedError) as caught:
                await talk.send("guest-file-open", path="/x")
            assert "no such" in caught.value.description

    async def test_a_reply_never_answers_another_command(self) -> None:
        async with talking() as talk:
            talk.agent.smuggled = ['{"return": "SMUGGLED"}', '{"return": "SMUGGLED", "id": "guessed"}']
            for _ in range(2):
                with pytest.raises(BadReplyError):
                    await talk.send("guest-get-host-name")
            assert await talk.send("guest-get-host-name") == {}

    @pytest.mark.parametrize("result", [[0] * 200_000, [[]] * 60_000, [{}] * 60_000, nested(40)])
    async def test_a_result_that_is_too_much(self, result: object) -> None:
        nested: object = []
        for _ in range(40):
            nested = [nested]
        async with talking(
            FakeQga(results={"guest-exec-status": nested if isinstance(result, str) else result})
        ) as talk:
            with pytest.raises(BadReplyError):
                await talk.send("guest-exec-status", pid=1)

    async def test_a_timeout_bounds_the_wait_and_shows_silence_when_it_was_long_enough(self) -> None:
        async with talking() as talk:
            talk.agent.silent = True
            begun = now()
            with pytest.raises(NoAnswerError):
                await talk.send("guest-exec", 1.0)
            assert now() - begun == pytest.approx(1.0, abs=0.01)
            await settle(5.1)  # one second is no proof: the agent is asked
            assert talk.refused("guest-ping") == "not-agreed"
            refusal = talk.refusal("guest-ping")
            assert refusal is not None
            assert refusal.reason == "agent-silent"

    async def test_another_clients_job_does_not_lengthen_the_wait(self) -> None:
        async with talking() as talk:
            talk.domain.port.job_held = True
            begun = now()
            with pytest.raises(NoAnswerError):
                await talk.send("guest-ping", 2.0)
            assert now() - begun == pytest.approx(2.0, abs=0.01)

    async def test_an_agent_that_is_killed_meanwhile(self) -> None:
        async with talking() as talk:
            talk.agent.silent = True
            sending = asyncio.create_task(talk.send("guest-exec", 60.0))
            await settle(1)
            talk.close_agent()
            await settle(0.1)
            with pytest.raises(NoAnswerError):
                await sending
            assert talk.host.verdict(talk.domain, QGA) == ("lost", "0", "port-closed")

    async def test_a_command_that_turns_out_to_be_disabled_is_asked_about(self) -> None:
        async with talking() as talk:
            asked = talk.agent.asked
            talk.agent.frozen = True  # somebody else froze the guest
            with pytest.raises(CommandFailedError):
                await talk.send("guest-exec")
            await settle(0.1)
            assert talk.agent.asked == asked + 1
            assert talk.host.verdict(talk.domain, QGA) == ("agreed", "7.2", "guest-frozen")

    async def test_arguments_that_are_no_json(self) -> None:
        async with talking() as talk:
            with pytest.raises(MessageNotAllowedError) as caught:
                await talk.send("guest-exec", path=float("nan"))
            assert caught.value.refusal.code == "bad-arguments"

    async def test_not_connected_is_not_sent(self) -> None:
        async with talking() as talk:
            talk.domain.port.agent = None  # and nobody has told us yet
            with pytest.raises(AgentDisconnectedError):
                await talk.send("guest-ping")


class TestQueued:
    """What waits for its turn is looked at again when that comes."""

    async def queue_behind_a_hanging_command(
        self, talk: Talk, message: str, **arguments: object
    ) -> asyncio.Task[object]:
        talk.agent.silent = True
        hanging = asyncio.create_task(talk.send("guest-exec", 60.0))
        hanging.add_done_callback(lambda task: task.exception())
        await settle(1)
        queued = asyncio.create_task(talk.send(message, 60.0))
        await settle(1)
        return queued

    async def test_another_agent_is_asked_before_it_is_told_anything(self) -> None:
        async with talking() as talk:
            queued = await self.queue_behind_a_hanging_command(talk, "guest-set-user-password")
            talk.close_agent()
            newer = FakeQga(blocked={"guest-set-user-password"})
            talk.domain.port.agent = newer
            talk.host.tell(AgentNotice(talk.domain.uuid, True))
            with pytest.raises(MessageNotAllowedError):
                await queued
            await settle(1)
            assert newer.commands() == ["guest-info"]

    async def test_another_process_of_qemu_gets_nothing(self) -> None:
        async with talking() as talk:
            queued = await self.queue_behind_a_hanging_command(talk, "guest-get-osinfo")
            talk.host.event(talk.domain, Happening.STOPPED)
            await settle(0.01)
            newer = talk.domain.port.agent = FakeQga()
            talk.domain.port.left.set()
            with pytest.raises(AgentDisconnectedError):
                await queued
            assert "guest-get-osinfo" not in newer.commands()

    async def test_a_frozen_guest_is_not_told_what_waited_behind_the_freeze(self) -> None:
        async with talking() as talk:
            freeze = asyncio.create_task(talk.send("guest-fsfreeze-freeze"))
            await settle(0.001)
            again = asyncio.create_task(talk.send("guest-fsfreeze-thaw"))
            assert (await freeze, await again) == (1, 1)

    async def test_a_shutdown_that_was_never_sent_did_not_succeed(self) -> None:
        async with talking() as talk:
            queued = await self.queue_behind_a_hanging_command(talk, "guest-shutdown")
            talk.close_agent()
            with pytest.raises(MessageNotAllowedError):
                await queued
            assert "guest-shutdown" not in talk.agent.commands()

    async def test_a_hanging_agent_is_not_told_to_shut_down(self) -> None:
        async with talking() as talk:
            talk.agent.silent = True
            sending = asyncio.create_task(talk.send("guest-shutdown", 30.0))
            await settle(1)
            talk.host.event(talk.domain, Happening.SUSPENDED)
            with pytest.raises(AgentUnsynchronizedError):
                await sending
            assert "guest-shutdown" not in talk.agent.commands()


class TestSilentCommands:
    async def test_success_is_that_the_guest_goes(self) -> None:
        async with talking() as talk:
            sending = asyncio.create_task(talk.send("guest-shutdown", 30.0))
            await settle(3)
            talk.host.end(talk.domain)
            assert await sending is None

    async def test_success_is_that_the_agent_goes_with_it(self) -> None:
        async with talking() as talk:
            sending = asyncio.create_task(talk.send("guest-suspend-ram", 30.0))
            await settle(0.05)
            talk.close_agent()
            assert await sending is None

    async def test_an_error_is_answered(self) -> None:
        async with talking(FakeQga(results={"guest-shutdown": "cannot"})) as talk:
            with pytest.raises(CommandFailedError):
                await talk.send("guest-shutdown", 30.0)

    async def test_nothing_happens(self) -> None:
        async with talking() as talk:
            begun = now()
            with pytest.raises(NoAnswerError, match="no error came"):
                await talk.send("guest-shutdown", 30.0)
            assert now() - begun == pytest.approx(30, abs=0.1)


class TestOvirt:
    async def test_a_message_without_an_answer(self) -> None:
        async with talking() as talk:
            assert await talk.send("lock-screen") is None
            await settle(0.1)
            assert talk.heard("lock-screen")

    @pytest.mark.parametrize("sent", [True, False])
    async def test_what_was_sent_to_one_who_had_just_gone_nobody_reads(self, sent: bool) -> None:
        async with talking() as talk:
            socket = talk.host.socket(talk.domain)
            socket.peer = None  # closed, and not reported yet
            if sent:
                await talk.send("lock-screen")
            talk.guest.close()
            await settle(1)
            assert len(socket.dials) == 1 + sent
            talk.guest.heard.clear()
            talk.guest.open()
            await settle(6)
            assert talk.heard("api-version")
            assert not talk.heard("lock-screen")
            talk.guest.silence()

    async def test_what_qemu_does_not_read_is_not_called_sent(self) -> None:
        async with talking() as talk:
            talk.host.socket(talk.domain).reading = False
            ends = await asyncio.gather(
                *(talk.send("login", password="y" * 4096) for _ in range(20)), return_exceptions=True
            )
            assert any(isinstance(end, NoAnswerError) for end in ends)

    async def test_completion(self) -> None:
        async with talking() as talk:
            assert await talk.send("lifecycle-event", type="before_migration") == {"done": True}

    async def test_two_waits_do_not_mix_and_a_foreign_or_late_answer_is_none(self) -> None:
        async with talking() as talk:
            talk.guest.running = False
            first = asyncio.create_task(talk.send("lifecycle-event", 10.0, type="a", reply_id="one"))
            second = asyncio.create_task(talk.send("lifecycle-event", 20.0, type="b", reply_id="two"))
            await settle(1)
            for reply_id in ("three", "two"):
                talk.guest.socket.write(b'{"__name__": "completion", "reply_id": "%s"}\n' % reply_id.encode())
            await settle(0.1)
            assert second.done()
            with pytest.raises(NoAnswerError):
                await first
            talk.guest.socket.write(b'{"__name__": "completion", "reply_id": "one"}\n')
            await settle(0.1)

    async def test_a_wait_ends_with_the_connection_and_with_the_guests_end(self) -> None:
        for end in ("connection", "port", "domain"):
            async with talking() as talk:
                talk.guest.running = False
                sending = asyncio.create_task(talk.send("lifecycle-event", 60.0, type="before_migration"))
                await settle(1)
                begun = now()
                match end:
                    case "connection":
                        talk.host.socket(talk.domain).clients[0].close()
                    case "port":
                        talk.guest.close()
                    case _:
                        talk.host.end(talk.domain)
                with pytest.raises(NoAnswerError):
                    await sending
                assert now() - begun < 0.1

    async def test_the_same_reply_id_cannot_be_waited_for_twice(self) -> None:
        async with talking() as talk:
            talk.guest.running = False
            first = asyncio.create_task(talk.send("lifecycle-event", 5.0, type="a", reply_id="one"))
            await settle(0.1)
            for reply_id in ("one", 5, "x" * 129):
                with pytest.raises(MessageNotAllowedError):
                    await talk.send("lifecycle-event", 5.0, type="a", reply_id=reply_id)
            with pytest.raises(NoAnswerError):
                await first

    async def test_an_agent_of_before_completions(self) -> None:
        async with talking(era=Era.V1_0_10) as talk:
            refusal = talk.refusal("lifecycle-event")
            assert refusal is not None
            assert (refusal.code, refusal.required, refusal.agreed) == ("version-too-low", "3", "1")
