"""Which ``guest-tools`` count: what has grown, from a peer that is still known; and when a peer is another one."""

import asyncio
import json
from collections.abc import Callable

import pytest

from sidecar.engine.clocks import GuestClock
from sidecar.engine.ovirt_tools import OvirtTools
from sidecar.engine.ports import HostIdentity
from sidecar.engine.settings import Settings, Surroundings
from sidecar.engine.tools import CARRIED_FIRST_S, ToolsEntry
from sidecar.protocol.states import Port
from sidecar.protocol.tools import Source, ToolsReport, ToolsVersion
from tests.engine.lone_host import settle, wall_clock
from tests.fakes.channels import FakeDialer
from tests.fakes.hypervisor import FakeHypervisor
from tests.protocol.host_sessions import GOOD, heartbeat, new_session

pytestmark = pytest.mark.looptime

APPLICATIONS = b'{"__name__": "applications", "applications": ["ovirt-guest-agent-common-1.0.16"]}\n'
UNINSTALLED = b'{"__name__": "uninstalled"}\n'
BEYOND_S = CARRIED_FIRST_S + 0.1


def guest_tools(updated: int, minor: int | None = None) -> bytes:
    """Tools whose minor number is that of ``updated``, unless it is told."""
    told = {"major": 1, "minor": updated if minor is None else minor, "installed": True, "updated": updated}
    return json.dumps({"__name__": "guest-tools", **told}).encode() + b"\n"


class Listener:
    """A session and what is made of its events, as a channel does it; connected, and the guest runs."""

    def __init__(self, maximum: int = 4, port: Port = Port.OPEN) -> None:
        settings = Settings(ovirt_maximum=maximum, responsive_s=120, absent_s=120)
        surroundings = Surroundings(
            FakeHypervisor(lambda _: None), FakeDialer(), settings, HostIdentity("h", "u"), wall_clock
        )
        self.clock = GuestClock(asyncio.get_running_loop().time)
        self.clock.start()
        self.told: list[str | None] = []
        self.entry = ToolsEntry(None, surroundings, self.clock, self._changed)
        self.session = new_session(maximum, port)
        self.session.connect(self.clock.now())
        self.tools = OvirtTools(self.entry, maximum)

    def _changed(self) -> None:
        row = self.entry.row
        self.told.append(None if row is None else f"{row.source} {row.version}")

    def hear(self, *lines: bytes) -> list[str | None]:
        """Every row that comes of it."""
        self.told.clear()
        for event in self.session.receive_data(b"".join(lines), self.clock.now()):
            self.tools.receive(event, self.session.peer)
        return [*self.told]

    async def wait(self) -> list[str | None]:
        """What becomes of it in the time that a peer has to tell the same."""
        self.told.clear()
        await settle(BEYOND_S)
        return [*self.told]

    def set_maximum(self, maximum: int) -> None:
        self.session.set_maximum(maximum, self.clock.now())
        self.tools.set_maximum(maximum)


def tools(*minors: int) -> list[str]:
    return [f"guest-tools 1.{minor}" for minor in minors]


def agreed(maximum: int = 4) -> Listener:
    listener = Listener(maximum)
    listener.hear(heartbeat(4))
    return listener


class TestUpdated:
    async def test_what_has_not_grown_does_not_count(self) -> None:
        listener = agreed()
        assert listener.hear(*map(guest_tools, (5, 4, 6, 0, 9))) == tools(5, 6, 9)
        assert listener.hear(guest_tools(9, minor=99), guest_tools(10)) == tools(10)

    async def test_what_the_same_peer_says_meanwhile_changes_nothing(self) -> None:
        listener = agreed()
        listener.hear(guest_tools(5))
        for data in (heartbeat(4), heartbeat(3), heartbeat(None), GOOD, b"bad\n"):
            assert listener.hear(data, guest_tools(5, minor=99)) == []

    async def test_an_agent_restarts_and_tells_in_one_piece(self) -> None:
        listener = agreed()
        lines = guest_tools(5), heartbeat(0), guest_tools(2), guest_tools(2, minor=99)
        assert listener.hear(*lines) == tools(5, 2)

    async def test_an_agent_that_is_at_zero_is_not_trusted_to_count(self) -> None:
        listener = Listener()
        for updated in (5, 2):
            assert listener.hear(heartbeat(0), guest_tools(updated)) == tools(updated)

    @pytest.mark.parametrize("port", Port)
    async def test_an_agent_that_tells_before_the_versions_are_agreed_is_heard(self, port: Port) -> None:
        listener = Listener(port=port)
        assert listener.hear(guest_tools(5), heartbeat(4)) == tools(5)
        assert listener.hear(guest_tools(5, minor=99)) == []
        assert listener.session.view.version == 4


class TestCap:
    @pytest.mark.parametrize("maximum", range(5))
    async def test_a_host_that_is_capped_below_it_does_not_know_the_message(self, maximum: int) -> None:
        listener = Listener(maximum)
        assert listener.hear(guest_tools(1), heartbeat(4)) == (tools(1) if maximum == 4 else [])
        assert listener.session.bad_input == {}
        assert listener.hear(APPLICATIONS) == ([] if maximum == 4 else ["applications 1.0.16"])

    async def test_one_that_is_lifted_lets_through_what_was_held_back(self) -> None:
        listener = agreed(3)
        assert listener.hear(guest_tools(5)) == []
        listener.set_maximum(4)
        assert listener.hear(guest_tools(5)) == tools(5)

    async def test_one_that_comes_leaves_to_the_next_best_what_the_message_told(self) -> None:
        listener = agreed()
        listener.hear(APPLICATIONS, guest_tools(5))
        listener.set_maximum(2)
        assert listener.hear(guest_tools(6)) == []
        assert await listener.wait() == ["applications 1.0.16"]  # it is the same agent, and need not tell again
        listener.set_maximum(4)
        assert listener.hear(guest_tools(5)) == tools(5)

    async def test_another_that_leaves_the_message_alone_changes_nothing(self) -> None:
        listener = agreed(3)
        listener.hear(APPLICATIONS)
        listener.entry.tell(*_qga())
        listener.set_maximum(2)
        assert await listener.wait() == []


def _qga() -> tuple[Source, ToolsReport]:
    return Source.QGA, ToolsReport(Source.QGA, ToolsVersion(7, 2))


def reconnect(listener: Listener) -> None:
    listener.session.disconnect(listener.clock.now())
    listener.session.connect(listener.clock.now())


def reopen(listener: Listener) -> None:
    listener.session.port_closed(listener.clock.now())
    listener.session.port_opened(listener.clock.now())


def open_again(listener: Listener) -> None:
    listener.session.port_opened(listener.clock.now())  # and the closing before it was swallowed


def close_and_speak(listener: Listener) -> None:
    listener.session.port_closed(listener.clock.now())


def restart_agent(listener: Listener) -> None:
    listener.hear(heartbeat(0))


ANOTHER = [reconnect, reopen, open_again, close_and_speak, restart_agent]


class TestPeers:
    @pytest.mark.parametrize("happen", ANOTHER)
    async def test_another_is_looked_at_whatever_its_clock_says(self, happen: Callable[[Listener], None]) -> None:
        listener = agreed()
        listener.hear(guest_tools(1_800_000_000))
        happen(listener)
        assert listener.hear(guest_tools(3), guest_tools(3, minor=99)) == tools(3)

    @pytest.mark.parametrize("happen", ANOTHER)
    async def test_one_that_tells_the_same_changes_nothing(self, happen: Callable[[Listener], None]) -> None:
        listener = agreed()
        listener.hear(APPLICATIONS, guest_tools(5))
        listener.entry.tell(*_qga())
        happen(listener)
        assert listener.hear(APPLICATIONS, GOOD, heartbeat(4)) == []
        await settle(CARRIED_FIRST_S - 0.1)
        assert listener.hear(guest_tools(5)) == []
        assert await listener.wait() == []

    @pytest.mark.parametrize("happen", ANOTHER)
    async def test_one_that_tells_less_is_believed_after_a_while(self, happen: Callable[[Listener], None]) -> None:
        listener = agreed()
        listener.hear(guest_tools(5))
        happen(listener)
        assert listener.hear(heartbeat(3), APPLICATIONS) == []
        assert await listener.wait() == ["applications 1.0.16"]

    @pytest.mark.parametrize("happen", ANOTHER)
    async def test_one_that_tells_nothing_leaves_it_to_the_qemu_guest_agent(
        self, happen: Callable[[Listener], None]
    ) -> None:
        listener = agreed()
        listener.hear(APPLICATIONS, guest_tools(5))
        listener.entry.tell(*_qga())
        happen(listener)
        assert listener.hear(heartbeat(3)) == []
        assert await listener.wait() == ["qga 7.2"]

    async def test_an_end_that_closes_or_falls_silent_takes_nothing_away(self) -> None:
        listener = agreed()
        listener.hear(guest_tools(5))
        listener.entry.tell(*_qga())
        await settle(1000)
        listener.session.tick(listener.clock.now())
        listener.session.port_closed(listener.clock.now())
        assert await listener.wait() == []

    async def test_an_agent_that_stays_at_zero_restarts_no_more(self) -> None:
        listener = agreed()
        listener.hear(guest_tools(5))
        listener.hear(heartbeat(0), APPLICATIONS)
        for _ in range(3):
            listener.hear(heartbeat(0))
            await settle(4)
        assert listener.entry.row is not None
        assert listener.entry.row.source is Source.APPLICATIONS

    async def test_the_greeting_of_an_agent_takes_back_nothing_that_it_told_before(self) -> None:
        listener = agreed()
        listener.entry.tell(*_qga())
        reopen(listener)
        assert listener.hear(APPLICATIONS, heartbeat(0)) == ["applications 1.0.16"]
        assert await listener.wait() == []


async def test_an_agent_that_is_being_removed_takes_everything_with_it() -> None:
    listener = agreed()
    listener.hear(APPLICATIONS, guest_tools(5))
    assert listener.hear(UNINSTALLED)[-1] is None
    assert listener.entry.row is None
