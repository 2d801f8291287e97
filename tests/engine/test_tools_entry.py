"""What several sources tell comes to one row, whoever speaks first."""

import asyncio
from dataclasses import replace

import pytest

from sidecar.engine.clocks import GuestClock
from sidecar.engine.ports import HostIdentity
from sidecar.engine.settings import Settings, Surroundings
from sidecar.engine.tools import FIRST_CHANNEL, ToolsEntry
from sidecar.protocol.tools import Source, ToolsReport, ToolsState, ToolsVersion, Tristate
from sidecar.record.agreement import ToolsRow
from tests.engine.lone_host import settle, wall_clock
from tests.fakes.channels import FakeDialer
from tests.fakes.hypervisor import FakeHypervisor

pytestmark = pytest.mark.looptime

TRUE, FALSE, UNKNOWN = Tristate
GUEST_TOOLS, APPLICATIONS, QGA = Source
parse = ToolsVersion.parse


class Board:
    """An entry in a guest that runs; `changes` counts what it said of itself."""

    def __init__(self, carried: ToolsRow | None = None, **current: str) -> None:
        settings = Settings(ovirt_maximum=4, responsive_s=120, absent_s=120)
        self.surroundings = Surroundings(
            FakeHypervisor(lambda _: None), FakeDialer(), settings, HostIdentity("h", "u"), wall_clock
        )
        self.set_current(**current)
        self.clock = GuestClock(asyncio.get_running_loop().time)
        self.changes = 0
        self.entry = ToolsEntry(carried, self.surroundings, self.clock, self._changed)
        self.run()

    def _changed(self) -> None:
        self.changes += 1

    def set_current(self, **current: str) -> None:
        versions = {Source(source.replace("_", "-")): parse(text) for source, text in current.items()}
        self.surroundings.settings = replace(self.surroundings.settings, tools_current=versions)

    def run(self) -> None:
        self.clock.start()
        self.entry.clock_changed()

    def stand(self) -> None:
        self.clock.stop()
        self.entry.clock_changed()

    def tell(
        self,
        source: Source,
        version: str | None,
        upgradable: Tristate = UNKNOWN,
        complete: bool = True,
        channel: str = FIRST_CHANNEL,
    ) -> None:
        report = None if version is None else ToolsReport(source, parse(version), complete, upgradable)
        self.entry.tell(source, report, channel)

    @property
    def row(self) -> tuple[str, ...] | None:
        row = self.entry.row
        return None if row is None else tuple(map(str, (row.source, row.version, row.upgradable, row.up_to_date)))


def carried(source: Source, version: str, upgradable: Tristate = TRUE, up_to_date: Tristate = TRUE) -> ToolsRow:
    return ToolsRow(source, parse(version), upgradable, up_to_date)


class TestSources:
    async def test_nothing_told(self) -> None:
        board = Board()
        assert (board.row, board.entry.state) == (None, ToolsState.ABSENT)

    @pytest.mark.parametrize("order", [Source, reversed(Source), (QGA, GUEST_TOOLS, APPLICATIONS)])
    async def test_the_best_wins_whoever_speaks_first(self, order: list[Source]) -> None:
        board = Board()
        for source in order:
            board.tell(source, {GUEST_TOOLS: "1.4", APPLICATIONS: "1.0.16", QGA: "7.2.22"}[source])
        assert board.row == ("guest-tools", "1.4", "unknown", "unknown")

    async def test_one_that_is_withdrawn_leaves_the_next_best(self) -> None:
        board = Board()
        for source, version in ((QGA, "7.2.22"), (APPLICATIONS, "1.0.16"), (GUEST_TOOLS, "1.4")):
            board.tell(source, version)
        board.tell(GUEST_TOOLS, None)
        assert board.row == ("applications", "1.0.16", "unknown", "unknown")
        board.tell(APPLICATIONS, None)
        assert board.row == ("qga", "7.2.22", "unknown", "unknown")
        board.tell(QGA, None)
        assert board.row is None
        board.tell(QGA, None)
        assert board.changes == 6

    async def test_a_source_that_is_withdrawn_withdraws_no_other(self) -> None:
        board = Board()
        board.tell(GUEST_TOOLS, "1.4")
        board.tell(APPLICATIONS, None)
        assert board.row == ("guest-tools", "1.4", "unknown", "unknown")

    async def test_the_same_again_is_no_change(self) -> None:
        board = Board()
        for _ in range(5):
            board.tell(GUEST_TOOLS, "1.4", TRUE)
        assert board.changes == 1
        board.tell(QGA, "7.2")  # what does not show is none, either
        assert board.changes == 1
        board.tell(GUEST_TOOLS, "1.3", TRUE)
        assert board.changes == 2

    async def test_a_downgrade_is_told(self) -> None:
        board = Board(guest_tools="1.4")
        board.tell(GUEST_TOOLS, "1.4", TRUE)
        board.tell(GUEST_TOOLS, "1.3", TRUE)
        assert board.row == ("guest-tools", "1.3", "true", "false")

    async def test_who_has_told(self) -> None:
        board = Board(carried(GUEST_TOOLS, "1.4"))
        assert board.entry.has_told(GUEST_TOOLS)  # it may be about to
        assert not board.entry.has_told(QGA)
        await settle(10.1)
        assert not board.entry.has_told(GUEST_TOOLS)
        board.tell(GUEST_TOOLS, "1.4")
        assert board.entry.has_told(GUEST_TOOLS)
        board.tell(GUEST_TOOLS, None)
        assert not board.entry.has_told(GUEST_TOOLS)


class TestVerdict:
    @pytest.mark.parametrize(
        ("version", "upgradable", "state", "up_to_date"),
        [
            ("1.3", TRUE, ToolsState.OLD, "false"),
            ("1.3", FALSE, ToolsState.OLD_NOT_UPGRADABLE, "true"),
            ("1.4", TRUE, ToolsState.UNKNOWN, "unknown"),
            ("1.4.1", TRUE, ToolsState.CURRENT, "true"),
            ("1.5", TRUE, ToolsState.NEWER, "true"),
        ],
    )
    async def test_every_state_is_reached_and_stays(
        self, version: str, upgradable: Tristate, state: ToolsState, up_to_date: str
    ) -> None:
        board = Board(guest_tools="1.4.1", qga="1.0")
        board.tell(GUEST_TOOLS, version, upgradable)
        for _ in range(3):
            assert (board.entry.state, board.row) == (state, ("guest-tools", version, upgradable, up_to_date))
            await settle(1000)
        assert board.changes == 1

    async def test_each_source_has_its_own_version(self) -> None:
        board = Board(guest_tools="9.9", qga="7.2")
        board.tell(QGA, "7.2.22")
        assert board.row == ("qga", "7.2.22", "unknown", "true")
        board.tell(APPLICATIONS, "1.0.16")
        assert board.row == ("applications", "1.0.16", "unknown", "unknown")

    async def test_what_could_not_be_read_whole_is_shown_and_not_compared(self) -> None:
        board = Board(guest_tools="9.5")
        board.tell(GUEST_TOOLS, "9.4.0", TRUE, complete=False)
        assert (board.entry.state, board.row) == (ToolsState.UNKNOWN, ("guest-tools", "9.4.0", "true", "unknown"))

    async def test_new_settings_hold_at_once(self) -> None:
        board = Board()
        board.tell(GUEST_TOOLS, "1.4", TRUE)
        for current, verdict in (("1.5", "false"), ("1.4", "true")):
            board.set_current(guest_tools=current)
            assert board.row == ("guest-tools", "1.4", "true", verdict)
        board.set_current()
        assert board.row == ("guest-tools", "1.4", "true", "unknown")


class TestNumberings:
    """Builds that number themselves otherwise are compared among themselves."""

    @pytest.mark.parametrize(
        ("version", "current", "up_to_date"),
        [
            ("7.2.22", "107.0", "unknown"),
            ("107.0.1", "7.2", "unknown"),
            ("107.0.1", "107.0", "true"),
            ("106.0.1", "107.0", "false"),
            ("7.2.22", "8.0", "false"),
        ],
    )
    async def test_of_the_qemu_guest_agent(self, version: str, current: str, up_to_date: str) -> None:
        board = Board(qga=current)
        board.tell(QGA, version)
        assert board.row == ("qga", version, "unknown", up_to_date)
        brought = Board(carried(QGA, version), qga=current)
        assert brought.row == ("qga", version, "true", up_to_date)

    @pytest.mark.parametrize("source", [GUEST_TOOLS, APPLICATIONS])
    async def test_the_other_sources_have_one(self, source: Source) -> None:
        board = Board(None, **{source.name.lower(): "107.0"})
        board.tell(source, "7.2.22")
        assert board.row == (str(source), "7.2.22", "unknown", "false")


class TestSeveralChannels:
    ORDER = (FIRST_CHANNEL, "org.example.1", "org.example.2")

    @pytest.mark.parametrize("order", [ORDER, ORDER[::-1]])
    async def test_the_first_counts_whoever_speaks_last(self, order: tuple[str, ...]) -> None:
        board = Board()
        for channel in order * 2:
            board.tell(QGA, f"7.{self.ORDER.index(channel)}", channel=channel)
            board.entry.tell_upgradable(FALSE if channel == FIRST_CHANNEL else TRUE, channel)
        assert board.row == ("qga", "7.0", "false", "true")
        changes = board.changes
        for channel in order * 5:
            board.tell(QGA, f"7.{self.ORDER.index(channel)}", channel=channel)
            board.entry.tell_upgradable(FALSE if channel == FIRST_CHANNEL else TRUE, channel)
        assert board.changes == changes

    async def test_one_that_is_withdrawn_leaves_the_next(self) -> None:
        board = Board()
        for number, channel in enumerate(self.ORDER):
            board.tell(QGA, f"7.{number}", channel=channel)
        board.tell(QGA, None)
        assert board.row == ("qga", "7.1", "unknown", "unknown")

    async def test_what_came_along_waits_for_the_first(self) -> None:
        board = Board(carried(QGA, "7.0"))
        board.tell(QGA, "7.1", channel="org.example.1")
        board.tell(QGA, None, channel="org.example.1")
        board.tell(QGA, "7.1", channel="org.example.1")
        await settle(5)
        board.tell(QGA, "7.0")
        await settle(20)
        assert board.changes == 0

    async def test_what_came_along_waits_for_a_while(self) -> None:
        board = Board(carried(QGA, "7.0"))
        board.tell(QGA, "7.1", channel="org.example.1")
        await settle(10.1)
        assert (board.row, board.changes) == (("qga", "7.1", "true", "unknown"), 1)


class TestRenewal:
    """The peer that told may be gone."""

    async def test_it_changes_nothing_by_itself(self) -> None:
        board = Board(guest_tools="1.5")
        for source, version in ((QGA, "7.2"), (APPLICATIONS, "1.0"), (GUEST_TOOLS, "1.4")):
            board.tell(source, version, TRUE)
        changes = board.changes
        board.entry.renew(GUEST_TOOLS, APPLICATIONS)
        assert (board.row, board.changes) == (("guest-tools", "1.4", "true", "false"), changes)
        assert board.entry.has_told(GUEST_TOOLS)

    async def test_what_is_told_the_same_in_time_stands(self) -> None:
        board = Board()
        board.tell(QGA, "7.2")
        board.tell(GUEST_TOOLS, "1.4")
        board.entry.renew(GUEST_TOOLS)
        await settle(9.9)
        board.tell(GUEST_TOOLS, "1.4")
        await settle(100)
        assert (board.row, board.changes) == (("guest-tools", "1.4", "unknown", "unknown"), 2)

    async def test_what_nobody_tells_again_gives_way_to_what_another_tells(self) -> None:
        board = Board()
        board.tell(GUEST_TOOLS, "1.4")
        board.entry.renew(GUEST_TOOLS)
        board.tell(APPLICATIONS, "1.0")
        await settle(9.9)
        assert board.changes == 1
        await settle(0.2)
        assert (board.row, board.changes) == (("applications", "1.0", "unknown", "unknown"), 2)
        assert not board.entry.has_told(GUEST_TOOLS)

    async def test_what_nobody_gainsays_stands(self) -> None:
        board = Board()
        board.tell(GUEST_TOOLS, "1.4")
        board.entry.renew(GUEST_TOOLS)
        await settle(1000)
        assert board.changes == 1

    async def test_the_time_is_the_guests(self) -> None:
        board = Board()
        board.tell(QGA, "7.2")
        board.tell(GUEST_TOOLS, "1.4")
        board.stand()
        board.entry.renew(GUEST_TOOLS)
        await settle(1000)
        board.run()
        await settle(9.9)
        assert board.changes == 2
        await settle(0.2)
        assert board.row == ("qga", "7.2", "unknown", "unknown")

    async def test_what_could_not_be_read_whole_is_not_compared_now(self) -> None:
        board = Board(guest_tools="1.5")
        board.tell(GUEST_TOOLS, "1.4", TRUE, complete=False)
        board.entry.renew(GUEST_TOOLS)
        assert board.row == ("guest-tools", "1.4", "true", "unknown")

    async def test_what_came_along_from_others_has_no_more_time(self) -> None:
        board = Board(carried(APPLICATIONS, "1.0"))
        board.tell(QGA, "7.2")
        await settle(9)
        board.entry.renew(GUEST_TOOLS)
        await settle(1.1)
        assert board.row == ("qga", "7.2", "true", "unknown")


class TestUpgradable:
    async def test_what_was_found_in_the_guest_counts_for_those_that_cannot_tell(self) -> None:
        board = Board(applications="2.0", qga="9.0")
        board.tell(QGA, "7.2.22")
        assert board.row == ("qga", "7.2.22", "unknown", "false")
        board.entry.tell_upgradable(FALSE)
        assert board.row == ("qga", "7.2.22", "false", "true")
        board.tell(APPLICATIONS, "1.0.16")
        assert board.row == ("applications", "1.0.16", "false", "true")
        board.entry.tell_upgradable(TRUE)
        assert board.row == ("applications", "1.0.16", "true", "false")

    async def test_what_guest_tools_says_is_not_overruled(self) -> None:
        board = Board()
        board.tell(GUEST_TOOLS, "1.4", FALSE)
        board.entry.tell_upgradable(TRUE)
        assert (board.row, board.changes) == (("guest-tools", "1.4", "false", "true"), 1)


class TestWhatCameAlong:
    @pytest.mark.parametrize("source", Source)
    async def test_stands_until_the_guest_tells_anew(self, source: Source) -> None:
        board = Board(carried(source, "1.4"), **{source.name.lower(): "1.4"})
        await settle(5000)
        assert (board.row, board.changes) == ((str(source), "1.4", "true", "true"), 0)
        board.tell(source, "1.5", TRUE)
        assert board.row is not None
        assert board.row[:2] == (str(source), "1.5")

    async def test_is_judged_by_this_host(self) -> None:
        assert Board(carried(GUEST_TOOLS, "1.4"), guest_tools="1.5").row == ("guest-tools", "1.4", "true", "false")
        assert Board(carried(GUEST_TOOLS, "1.4", FALSE), guest_tools="1.5").row == (
            "guest-tools",
            "1.4",
            "false",
            "true",
        )
        assert Board(carried(GUEST_TOOLS, "1.4")).row == ("guest-tools", "1.4", "true", "unknown")
        old = carried(GUEST_TOOLS, "1.4", up_to_date=FALSE)
        assert Board(old, guest_tools="1.4").row == ("guest-tools", "1.4", "true", "true")

    async def test_without_a_verdict_there_it_has_none_here(self) -> None:
        board = Board(carried(GUEST_TOOLS, "9.4.0", up_to_date=UNKNOWN), guest_tools="9.5")
        assert board.row == ("guest-tools", "9.4.0", "true", "unknown")
        board.tell(GUEST_TOOLS, "9.4.0", TRUE)
        assert board.row == ("guest-tools", "9.4.0", "true", "false")

    async def test_a_better_source_replaces_it_at_once(self) -> None:
        board = Board(carried(QGA, "7.2.22"))
        board.tell(APPLICATIONS, "1.0.16")
        assert board.row == ("applications", "1.0.16", "true", "unknown")
        board.tell(APPLICATIONS, None)
        assert board.row is None

    async def test_a_lesser_source_that_is_quicker_waits(self) -> None:
        board = Board(carried(GUEST_TOOLS, "1.4"))
        board.tell(QGA, "7.2.22")
        await settle(9)
        board.tell(APPLICATIONS, "1.0.16")
        assert (board.row, board.changes) == (("guest-tools", "1.4", "true", "unknown"), 0)
        board.tell(GUEST_TOOLS, "1.4", TRUE)
        await settle(100)
        assert (board.row, board.changes) == (("guest-tools", "1.4", "true", "unknown"), 0)

    async def test_a_lesser_source_that_is_alone_is_believed_in_the_end(self) -> None:
        board = Board(carried(GUEST_TOOLS, "1.4"))
        board.tell(QGA, "7.2.22")
        await settle(9.9)
        assert board.changes == 0
        await settle(0.2)
        assert (board.row, board.changes) == (("qga", "7.2.22", "unknown", "unknown"), 1)
        board.tell(QGA, None)
        assert board.row is None  # what came along is over

    async def test_a_lesser_source_that_comes_late_is_believed_at_once(self) -> None:
        board = Board(carried(GUEST_TOOLS, "1.4"))
        await settle(20)
        assert board.changes == 0
        board.tell(QGA, "7.2.22")
        assert (board.row, board.changes) == (("qga", "7.2.22", "unknown", "unknown"), 1)

    async def test_the_wait_stands_still_while_the_guest_does(self) -> None:
        board = Board(carried(GUEST_TOOLS, "1.4"))
        board.tell(QGA, "7.2.22")
        await settle(5)
        board.stand()
        await settle(500)
        board.run()
        await settle(4.9)
        assert board.changes == 0
        await settle(0.2)
        assert board.changes == 1

    async def test_a_withdrawal_concerns_its_own_source_alone(self) -> None:
        board = Board(carried(APPLICATIONS, "1.0.16"))
        board.tell(GUEST_TOOLS, None)
        board.tell(QGA, None)
        await settle(20)
        board.tell(QGA, None)
        assert (board.row, board.changes) == (("applications", "1.0.16", "true", "unknown"), 0)
        board.tell(APPLICATIONS, None)
        assert board.row is None

    async def test_is_of_an_earlier_life_when_the_guest_was_started(self) -> None:
        board = Board(carried(QGA, "7.2.22", FALSE))
        board.entry.start_afresh()
        assert board.row is None
        board.tell(QGA, "7.2.22")
        assert board.row == ("qga", "7.2.22", "unknown", "unknown")

    @pytest.mark.parametrize("source", [APPLICATIONS, QGA])
    async def test_a_lock_that_was_known_is_not_forgotten(self, source: Source) -> None:
        board = Board(carried(source, "1.0", FALSE), qga="9.0")
        await settle(20)
        board.tell(QGA, "7.2.22")
        assert board.row == ("qga", "7.2.22", "false", "true")
        board.entry.tell_upgradable(TRUE)
        assert board.row == ("qga", "7.2.22", "true", "false")

    @pytest.mark.parametrize("upgradable", [TRUE, FALSE])
    async def test_what_guest_tools_said_of_itself_says_nothing_of_the_others(self, upgradable: Tristate) -> None:
        board = Board(carried(GUEST_TOOLS, "1.0", upgradable), qga="9.0")
        await settle(20)
        board.tell(QGA, "7.2.22")
        assert board.row == ("qga", "7.2.22", "unknown", "false")

    async def test_of_a_locked_guest_nobody_knows_whether_it_was_read_whole(self) -> None:
        board = Board(carried(APPLICATIONS, "1.0.16", FALSE, TRUE), applications="1.0.17")
        assert board.row == ("applications", "1.0.16", "false", "true")
        board.entry.tell_upgradable(TRUE)
        assert (board.row, board.entry.state) == (("applications", "1.0.16", "true", "unknown"), ToolsState.UNKNOWN)
        board.tell(APPLICATIONS, "1.0.16")
        assert board.row == ("applications", "1.0.16", "true", "false")

    async def test_nothing_happens_after_the_end(self) -> None:
        board = Board(carried(GUEST_TOOLS, "1.4"))
        board.tell(QGA, "7.2.22")
        board.entry.close()
        await settle(100)
        assert board.changes == 0
