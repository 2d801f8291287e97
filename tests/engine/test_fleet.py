"""Hosts that come and go, what that caps this one to, and what outlives a restart."""

import asyncio
import json
import logging

import pytest

import sidecar.protocol.roster as roster
from sidecar.engine.fleet import SAVE_DELAY_S, SAVE_INTERVAL_S
from sidecar.engine.settings import Caps, FleetLevels
from sidecar.protocol.releases import Release
from sidecar.protocol.states import Dialect
from tests.engine.lone_bridge import OFFER
from tests.engine.lone_fleet import AUTO, LoneFleet
from tests.engine.lone_host import now, settle
from tests.fakes.fleet_bus import FakeStore
from tests.protocol.offers import describe_offer

pytestmark = pytest.mark.looptime

HOUR_S, WEEK_S = 3600.0, 7 * 24 * 3600.0


def lines(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    found = [record.getMessage() for record in caplog.records if record.levelno >= level]
    assert all(line.isprintable() for line in found)
    return found


class TestCaps:
    async def test_a_host_with_less_lowers_it_at_once(self) -> None:
        async with LoneFleet().running() as lone:
            lone.see("gamma", ovirt=3)
            assert lone.fleet.caps == Caps(ovirt=3)
            assert lone.applied == [Caps(ovirt=3)]
            assert lone.events() == [
                {"what": "cap-changed", "dialect": "ovirt", "old": 4, "new": 3, "held_by": "gamma"},
            ]
            lone.see("delta", qga="7.2")
            assert lone.fleet.caps == Caps(3, Release(7, 2))
            assert lone.events() == [
                {"what": "cap-changed", "dialect": "qga", "old": "10.0", "new": "7.2", "held_by": "delta"},
            ]

    async def test_an_equal_host_changes_nothing(self) -> None:
        async with LoneFleet().running() as lone:
            lone.see()
            assert (lone.fleet.caps, lone.applied) == (Caps(), [])
            lone.see()
            assert lone.events() == []  # every host sees every other one: that is no event

    async def test_raised_an_hour_after_the_host_is_forgotten(self) -> None:
        async with LoneFleet().running() as lone:
            lone.see("gamma", ovirt=3)
            lone.see("delta")
            lone.events()
            begun = now()
            lone.fleet.receive_forgotten("gamma")
            assert lone.events() == [{"what": "host-forgotten", "host": "gamma"}]
            await settle(HOUR_S - 1)
            assert lone.fleet.caps.ovirt == 3
            await lone.surroundings.events.bell.wait()
            assert now() - begun == pytest.approx(HOUR_S, abs=0.1)
            assert (lone.fleet.caps, lone.applied[-1]) == (Caps(), Caps())
            assert lone.events() == [{"what": "cap-changed", "dialect": "ovirt", "old": 3, "new": 4, "held_by": None}]

    async def test_raised_an_hour_after_the_host_was_upgraded(self) -> None:
        async with LoneFleet().running() as lone:
            lone.see("gamma", ovirt=2)
            lone.see("gamma", ovirt=2, supported=(4, "10.0"))
            await settle(HOUR_S - 1)
            assert lone.fleet.caps.ovirt == 2
            await settle(2)
            assert lone.fleet.caps.ovirt == 4

    async def test_a_host_that_is_away_for_a_moment_costs_the_guests_nothing(self) -> None:
        async with LoneFleet().running() as lone:
            lone.see("gamma", ovirt=3)
            for _ in range(5):
                lone.fleet.receive_forgotten("gamma")
                await settle(HOUR_S / 2)
                lone.see("gamma", ovirt=3)
                await settle(HOUR_S / 2)
            assert lone.applied == [Caps(ovirt=3)]

    async def test_a_partial_view_changes_nothing(self) -> None:
        async with LoneFleet().running() as lone:
            lone.see("gamma", ovirt=3)
            lone.see("delta", ovirt=3)
            lone.fleet.receive_forgotten("delta")
            lone.fleet.bus_changed(False)
            await settle(10 * WEEK_S)
            assert set(lone.fleet.known.hosts) == {"gamma"}
            lone.fleet.receive_forgotten("gamma")  # just before the bus was gone
            await settle(WEEK_S)
            assert lone.fleet.caps.ovirt == 3
            lone.fleet.bus_changed(True)
            await settle(HOUR_S - 1)
            assert lone.fleet.caps.ovirt == 3
            await settle(2)
            assert lone.fleet.caps == Caps()

    async def test_what_was_not_seen_for_a_week_counts_no_more(self) -> None:
        async with LoneFleet().running() as lone:
            lone.see("gamma", ovirt=3)
            await settle(WEEK_S / 2)
            lone.see("delta")
            lone.events()
            await settle(WEEK_S / 2 - 1)
            assert lone.events() == []
            await settle(3)
            assert lone.events() == [{"what": "host-expired", "host": "gamma"}]
            assert lone.fleet.caps.ovirt == 3
            await settle(HOUR_S)
            assert lone.fleet.caps == Caps()

    async def test_only_what_is_auto_is_capped(self) -> None:
        levels = FleetLevels(auto=frozenset({Dialect.QGA}))
        async with LoneFleet(levels).running() as lone:
            lone.see("gamma", ovirt=3)
            assert (lone.fleet.caps, lone.applied) == (Caps(), [])
            lone.see("gamma", ovirt=3, qga="7.2")
            assert lone.fleet.caps == Caps(qga=Release(7, 2))
            assert lone.applied == [lone.fleet.caps]

    async def test_a_new_configuration_holds_without_being_applied_twice(self) -> None:
        async with LoneFleet(FleetLevels()).running() as lone:
            lone.see("gamma", ovirt=3)
            lone.fleet.reconfigure(AUTO)
            assert (lone.fleet.caps, lone.applied) == (Caps(ovirt=3), [])
            lone.fleet.reconfigure(FleetLevels(ovirt=2, auto=frozenset({Dialect.QGA})))
            assert lone.fleet.caps == Caps()
            assert lone.fleet.known.lowest_ovirt == 2
            lone.fleet.reconfigure(AUTO)
            assert lone.fleet.caps.ovirt == 3  # an operator's own pin is no cap of the fleet's
            await settle(HOUR_S + 1)
            assert lone.applied == []

    async def test_a_new_configuration_is_told_as_far_as_the_fleet_has_a_word(self) -> None:
        async with LoneFleet(FleetLevels()).running() as lone:
            lone.see("gamma", ovirt=3)
            told = {"what": "cap-changed", "dialect": "ovirt"}
            for levels, expected in (
                (FleetLevels(ovirt=1, qga=Release(5, 2)), []),
                (FleetLevels(), []),
                (AUTO, [told | {"old": 4, "new": 3, "held_by": "gamma"}]),
                (AUTO, []),
                (FleetLevels(), [told | {"old": 3, "new": 4, "held_by": None}]),
                (AUTO, [told | {"old": 4, "new": 3, "held_by": "gamma"}]),
                (FleetLevels(ovirt=2), [told | {"old": 3, "new": 2, "held_by": None}]),
                (FleetLevels(ovirt=1, auto=frozenset({Dialect.QGA})), []),
            ):
                lone.fleet.reconfigure(levels)
                assert lone.events() == expected
            assert lone.applied == []

    async def test_nothing_is_polled(self) -> None:
        async with LoneFleet().running() as lone:
            lone.see("gamma", ovirt=3)
            await settle(60)
            ticks = 0
            tick = lone.fleet.known.tick

            def count(now: float) -> tuple[str, ...]:
                nonlocal ticks
                ticks += 1
                return tick(now)

            lone.fleet.known.tick = count  # type: ignore[method-assign]
            await settle(24 * HOUR_S)
            assert ticks <= 2 * 24 + 1  # the file's


class TestWords:
    @pytest.mark.parametrize("word", [None, 7, [], {}, "gamma", {"hostname": "gamma"}, describe_offer("a b")])
    async def test_what_is_no_offer_is_one_line_and_nothing_else(
        self, word: object, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with LoneFleet().running() as lone:
            lone.see("gamma", ovirt=3)
            lone.fleet.receive_offer(word)
            assert len(lines(caplog)) == 1
            assert set(lone.fleet.known.hosts) == {"gamma"}

    @pytest.mark.parametrize("word", [None, 7, [], {}, "nobody", "\x1b[31m"])
    async def test_what_is_nobody_to_forget(self, word: object) -> None:
        async with LoneFleet().running() as lone:
            lone.see()
            lone.events()
            lone.fleet.receive_forgotten(word)
            assert lone.events() == []
            assert set(lone.fleet.known.hosts) == {"gamma"}

    async def test_our_own_word_comes_back(self, caplog: pytest.LogCaptureFixture) -> None:
        async with LoneFleet().running() as lone:
            lone.see(OFFER.hostname, ovirt=1, uuid=OFFER.host_uuid.upper())
            assert not lone.fleet.known.hosts
            assert (lone.fleet.caps, lone.events(), lines(caplog)) == (Caps(), [], [])

    async def test_another_machine_of_our_name_is_told_once(self, caplog: pytest.LogCaptureFixture) -> None:
        async with LoneFleet().running() as lone:
            for uuid in (1, 2, 1, 2):
                lone.see(OFFER.hostname, ovirt=1, uuid=f"9a000000-0000-4000-8000-00000000000{uuid}")
            assert not lone.fleet.known.hosts
            found = lines(caplog, logging.ERROR)
            assert len(found) == 2
            assert all("another machine has this host's name" in line for line in found)

    async def test_a_host_that_is_here_cannot_be_forgotten(self) -> None:
        async with LoneFleet().running() as lone:
            lone.fleet.receive_forgotten(OFFER.hostname)
            assert [offer["hostname"] for offer in lone.bus.announced] == [OFFER.hostname]

    async def test_a_name_that_is_ours_now_was_anothers(self) -> None:
        async with LoneFleet().running() as lone:
            lone.own = None  # libvirt has not told yet
            lone.see("gamma", ovirt=3)
            lone.rename("gamma")
            lone.see("delta")
            await settle(1)
            assert set(lone.fleet.known.hosts) == {"delta"}

    async def test_one_host_too_many(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        monkeypatch.setattr(roster, "HOSTS_LIMIT", 1)
        async with LoneFleet().running() as lone:
            lone.see("gamma")
            lone.see("delta", ovirt=0)
            assert lone.fleet.caps == Caps()
            assert any("delta is one host too many" in line for line in lines(caplog, logging.ERROR))


class TestFile:
    async def test_what_is_known_outlives_a_restart(self) -> None:
        store = FakeStore()
        async with LoneFleet(store=store).running() as lone:
            lone.see("gamma", ovirt=3)
        after = LoneFleet(store=store)
        assert after.fleet.caps == Caps(ovirt=3)  # before anything runs: the first guests are to be met with it
        async with after.running():
            assert set(after.fleet.known.hosts) == {"gamma"}
            assert (after.events(), after.applied) == ([], [])

    async def test_the_cap_outlives_a_restart_within_its_hour(self) -> None:
        store = FakeStore()
        async with LoneFleet(store=store).running() as lone:
            lone.see("gamma", ovirt=3)
            lone.see("delta")
            lone.fleet.receive_forgotten("gamma")
            await settle(HOUR_S - 10)
        async with LoneFleet(store=store).running() as after:
            await settle(HOUR_S - 1)
            assert after.fleet.caps.ovirt == 3
            await settle(2)
            assert after.fleet.caps == Caps()

    async def test_without_a_bus_nothing_is_written(self) -> None:
        lone = LoneFleet()
        lone.bus.configured = lone.bus.connected = False
        async with lone.running():
            lone.fleet.reconfigure(FleetLevels())
            await settle(2 * SAVE_INTERVAL_S)
        assert lone.store.saves == []

    async def test_when_the_bus_is_gone_nothing_is_written_any_more(self) -> None:
        lone = LoneFleet()
        async with lone.running():
            lone.see("gamma", ovirt=3)
            await settle(60)
            lone.see("delta")
            saves = len(lone.store.saves)
            lone.bus.configured = lone.bus.connected = False
            lone.fleet.reconfigure(AUTO)
            lone.fleet.bus_changed(False)
            await settle(2 * SAVE_INTERVAL_S)
        assert len(lone.store.saves) == saves > 0

    async def test_a_status_that_says_the_same_is_no_change(self) -> None:
        async with LoneFleet().running() as lone:
            await settle(60)
            saves = len(lone.store.saves)
            for _ in range(100):
                lone.fleet.bus_changed(True)
                await settle(1)
            assert len(lone.store.saves) == saves

    async def test_many_changes_are_one_write(self) -> None:
        async with LoneFleet().running() as lone:
            await settle(60)
            saves = len(lone.store.saves)
            begun = now()
            for number in range(500):
                lone.see(f"host{number}")
            await settle(60)
            assert len(lone.store.saves) == saves + 1
            at, document = lone.store.saves[-1]
            assert at - begun == pytest.approx(SAVE_DELAY_S, abs=0.1)
            assert len(document["hosts"]) == 500

    async def test_without_a_change_it_is_written_now_and_then(self) -> None:
        async with LoneFleet().running() as lone:
            lone.see()
            await settle(60)
            saves = len(lone.store.saves)
            await settle(10 * SAVE_INTERVAL_S)
            assert 9 <= len(lone.store.saves) - saves <= 11

    @pytest.mark.parametrize("text", ["{}", "[]", '{"format": 2}'])
    async def test_a_broken_file_is_one_line_and_nothing_is_known(
        self, text: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        lone = LoneFleet(store=FakeStore(text))
        assert (lone.fleet.caps, len(lines(caplog))) == (Caps(), 1)
        async with lone.running():
            lone.see()
        assert len(json.loads(lone.store.text or "")["hosts"]) == 1

    @pytest.mark.parametrize("error", [PermissionError(13, "no"), ValueError("no JSON\n")])
    async def test_a_file_that_cannot_be_read(self, error: Exception, caplog: pytest.LogCaptureFixture) -> None:
        store = FakeStore()
        store.error = error
        assert LoneFleet(store=store).fleet.caps == Caps()
        assert len(lines(caplog)) == 1

    async def test_a_file_that_cannot_be_written_is_tried_again_later(self, caplog: pytest.LogCaptureFixture) -> None:
        async with LoneFleet().running() as lone:
            lone.store.error = OSError(28, "No space left on device")
            lone.see()
            await settle(60)
            assert len(lines(caplog)) == 1
            lone.store.error = None
            await settle(SAVE_INTERVAL_S)
            assert len(lone.store.saves[-1][1]["hosts"]) == 1

    async def test_a_disk_that_hangs_does_not_hold_up_the_end(self) -> None:
        async with LoneFleet().running() as lone:

            async def hang(render: object) -> None:
                await asyncio.sleep(1e6)

            lone.store.save = hang  # type: ignore[method-assign]
            lone.see()
            await settle(60)
            begun = now()
        assert now() - begun < 10
