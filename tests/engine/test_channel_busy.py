"""Another program holds the channel: how that is noticed, and how it gets its channel back whenever it restarts."""

import itertools

import pytest

from sidecar.engine.notices import Happening
from sidecar.engine.ports import Activity
from sidecar.record.agreement import Origin
from tests.engine.lone_channel import LoneChannel
from tests.engine.lone_host import LoneHost, settle
from tests.fakes.channels import Occupant

pytestmark = pytest.mark.looptime

BUSY = ("waiting", "0", "socket-busy")


def overlooked(channel: LoneChannel) -> Occupant:
    """A program that was first, and that our look before dialling did not show."""
    channel.socket.shown = False
    return Occupant(channel.socket)


class TestNoticing:
    async def test_unread_for_three_seconds_after_the_guest_opened(self) -> None:
        c = LoneChannel()
        vdsm = overlooked(c)
        async with c.running():
            await settle(50)
            assert c.verdict == ("waiting", "0", "not-heard")  # the guest's end is closed: nobody would read
            c.guest.open()
            await settle(2.9)
            assert len(c.socket.clients) == 2
            await settle(0.2)
            assert c.verdict == BUSY
            assert len(c.socket.clients) == 1
            assert vdsm.has_channel
            vdsm.stop()

    async def test_end_known_open_from_the_xml(self) -> None:
        c = LoneChannel(opened=True)
        vdsm = overlooked(c)
        async with c.running():
            await settle(3.1)
            assert c.verdict == BUSY
            vdsm.stop()

    async def test_closed_end_is_never_busy(self) -> None:
        c = LoneChannel()
        vdsm = overlooked(c)
        async with c.running():
            for _ in range(20):
                c.guest.open()
                await settle(2)
                c.guest.close()
                await settle(20)
            assert c.verdict[2] != "socket-busy"
            assert len(c.socket.dials) == 1
            vdsm.stop()

    async def test_the_guests_seconds_count(self) -> None:
        c = LoneChannel()
        vdsm = overlooked(c)
        async with c.running():
            c.guest.open()
            await settle(2)
            c.stop_clock()
            await settle(60)
            assert c.verdict == ("waiting", "0", "not-heard")
            c.start_clock()
            await settle(1.1)
            assert c.verdict == BUSY
            vdsm.stop()

    async def test_one_that_leaves_in_time_leaves_it_to_us(self) -> None:
        c = LoneChannel()
        vdsm = overlooked(c)
        async with c.running():
            c.guest.open()
            await settle(2)
            vdsm.stop()
            await settle(10)
            assert c.verdict == ("agreed", "3", None)

    async def test_a_qemu_that_reads_late_is_not_busy(self) -> None:
        c = LoneChannel()
        c.socket.reading = False
        async with c.running():
            c.guest.open()
            await settle(2.5)
            c.socket.reading = True
            c.socket.serve_soon()
            await settle(10)
            assert c.verdict == ("agreed", "3", None)
            assert len(c.socket.dials) == 1

    async def test_who_was_heard_is_not_busy(self) -> None:
        async with LoneChannel().running() as c:
            c.guest.open()
            await settle(10)
            c.socket.reading = False  # QEMU's guest buffer is full: the guest does not read any more
            c.guest.close()
            c.guest.open()
            await settle(20)
            assert c.verdict[2] != "socket-busy"
            assert len(c.socket.clients) == 1

    @pytest.mark.parametrize("opened", [True, False])
    async def test_program_that_is_there_already_is_never_queued_behind(self, *, opened: bool) -> None:
        c = LoneChannel(opened=opened)
        vdsm = Occupant(c.socket)
        async with c.running():
            await settle(1)
            assert c.verdict == BUSY
            await settle(1000)
            assert c.socket.dials == []
            vdsm.stop()

    async def test_program_that_is_just_leaving_is_not_there(self) -> None:
        c = LoneChannel(opened=True)
        vdsm = Occupant(c.socket)
        async with c.running():
            vdsm.stop()
            c.guest.open()
            await settle(10)
            assert c.verdict == ("agreed", "3", None)


class TestDiallingAgain:
    async def test_looks_back_off_to_five_minutes(self) -> None:
        c = LoneChannel(opened=True)
        vdsm = Occupant(c.socket)
        async with c.running():
            await settle(3600)
            looks = c.socket.looks[1:]  # the first two made sure
            gaps = [round(b - a) for a, b in itertools.pairwise(looks)]
            assert gaps[:6] == [30, 60, 120, 240, 300, 300]
            assert c.socket.dials == []
            vdsm.stop()

    async def test_only_after_two_looks_half_a_minute_apart(self) -> None:
        c = LoneChannel(opened=True)
        vdsm = Occupant(c.socket)
        async with c.running():
            await settle(40)
            vdsm.stop()  # the look at 30 found it, the one at 90 will not
            c.guest.open()
            await settle(80)
            assert c.socket.dials == []
            await settle(10)
            assert (c.socket.looks[-2] - c.socket.looks[-3]) == pytest.approx(30, abs=0.01)
            assert c.verdict == ("agreed", "3", None)

    async def test_stays_with_the_other_channel_when_it_is_free_again(self) -> None:
        c = LoneChannel(opened=True)
        vdsm = Occupant(c.socket)
        async with c.running():
            await settle(5)
            c.channel.stand_by()
            vdsm.stop()
            await settle(600)
            assert c.socket.dials == []

    @pytest.mark.parametrize("phase_s", range(1, 360, 7))
    async def test_vdsm_that_restarts_any_time_gets_its_channel_back(self, phase_s: int) -> None:
        c = LoneChannel(opened=True)
        vdsm = Occupant(c.socket)
        c.guest.open()
        async with c.running():
            await settle(phase_s)
            for _ in range(4):
                vdsm.stop()
                await settle(25)
                vdsm.start()
                await settle(0.1)
                assert vdsm.has_channel
                await settle(97)
                assert vdsm.has_channel
                assert len(c.socket.clients) == 1
            assert c.verdict == BUSY
            vdsm.stop()

    async def test_vdsm_that_was_away_for_long_is_let_through(self) -> None:
        c = LoneChannel(opened=True)
        vdsm = Occupant(c.socket)
        c.guest.open()
        async with c.running():
            await settle(1)
            for _ in range(3):
                vdsm.stop()
                await settle(700)
                assert c.verdict == ("agreed", "3", None)
                vdsm.start()
                await settle(31)
                assert vdsm.has_channel
                assert (c.verdict[0], c.verdict[2] or "") == ("lost", "socket-busy")
            vdsm.stop()

    async def test_a_channel_that_was_always_ours_is_not_looked_at(self) -> None:
        c = LoneChannel(opened=True)
        c.guest.open()
        async with c.running():
            await settle(3600)
            assert c.verdict == ("agreed", "3", None)
            assert len(c.socket.looks) == 1


async def test_busy_channel_stands_in_the_record_and_ends_with_the_domain() -> None:
    async with LoneHost().running() as host:
        domain = host.add_domain(Activity.RUNNING, origin=Origin.START)
        vdsm = Occupant(host.socket(domain))
        host.event(domain, Happening.STARTED, Origin.START)
        host.guest(domain).socket.peer = host.guest(domain)
        host.reporter(domain)(True)
        await settle(5)
        assert host.verdict(domain) == BUSY
        host.end(domain)
        await settle(1)
        looks = len(host.socket(domain).looks)
        await settle(1000)
        assert len(host.socket(domain).looks) == looks
        vdsm.stop()
